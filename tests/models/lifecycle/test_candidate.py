"""A candidate: how it begins, what is kept of it, how it ends, and that a kill in between is no third state."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from models.lifecycle import candidate
from models.lifecycle.candidate import LATENCY_BOUNDS, Candidate, Progress, Tally
from models.package.manifest import PackageError
from models.registry import history, registry
from tests.models.conftest import MakeStore, contents, pointer


def make_candidate(version: int = 2, **changes: object) -> Candidate:
    return msgspec.structs.replace(Candidate(version, "canary", 500, 10, by="ann@desk", reason="new data"), **changes)


def test_a_candidate_is_read_as_it_was_started_and_its_start_is_recorded(make_store: MakeStore) -> None:
    store, wanted = make_store(tiny=2), make_candidate()
    candidate.start(store, "tiny", wanted)
    assert candidate.read(store, "tiny") == wanted
    change = pointer(store).history[-1]
    assert (change.event, change.version, change.before, change.by, change.reason) == ("canary", 2, 1, "ann@desk", "new data")
    assert pointer(store).version == 1


def test_without_a_candidate_nothing_is_read(make_store: MakeStore) -> None:
    assert candidate.read(make_store(tiny=1), "tiny") is None


def test_a_candidate_that_is_promoted_is_in_service_and_its_files_are_gone(make_store: MakeStore) -> None:
    store, wanted = make_store(tiny=2), make_candidate()
    candidate.start(store, "tiny", wanted)
    candidate.write_progress(store, "tiny", Progress(2, wanted.started))
    candidate.end(store, "tiny", True, "500 requests without loss", "service@host")
    assert candidate.read(store, "tiny") is None
    assert (pointer(store).version, pointer(store).before, pointer(store).by) == (2, [1], "service@host")
    assert [change.event for change in pointer(store).history[-3:]] == ["canary", "end", "promote"]
    assert {path.name for path in (store / "tiny").iterdir()} == {"1", "2", "current.json"}


def test_a_candidate_that_is_stopped_stays_published_and_the_old_version_in_service(make_store: MakeStore) -> None:
    store = make_store(tiny=2)
    candidate.start(store, "tiny", make_candidate())
    candidate.end(store, "tiny", False, "errors rose", "service@host")
    assert candidate.read(store, "tiny") is None
    assert pointer(store).version == 1
    assert (pointer(store).history[-1].event, pointer(store).history[-1].reason) == ("end", "errors rose")
    assert registry.verify(store / "tiny/2").version == 2
    candidate.start(store, "tiny", make_candidate())  # and may be tried again
    assert candidate.read(store, "tiny") is not None


@pytest.mark.parametrize("promoted", [True, False], ids=["promoted", "stopped"])
def test_a_file_left_by_a_killed_end_is_no_candidate(make_store: MakeStore, promoted: bool) -> None:
    store = make_store(tiny=2)
    candidate.start(store, "tiny", make_candidate())
    left = (store / "tiny/candidate.json").read_bytes()
    candidate.end(store, "tiny", promoted, "test")
    (store / "tiny/candidate.json").write_bytes(left)
    assert candidate.read(store, "tiny") is None


@pytest.mark.parametrize(
    ("version", "message"),
    [(1, "tiny:1 is live; a candidate needs another"), (3, "tiny:3 is retired"), (7, "no version '7'")],
)
def test_what_cannot_be_a_candidate_changes_nothing(make_store: MakeStore, version: int, message: str) -> None:
    store = make_store(tiny=3)
    history.update(store, "tiny", lambda old: msgspec.structs.replace(old or pointer(store), retired=[3]))
    before = contents(store)
    with pytest.raises(PackageError, match=message):
        candidate.start(store, "tiny", make_candidate(version))
    assert contents(store) == before


def test_there_is_one_candidate_at_a_time(make_store: MakeStore) -> None:
    store = make_store(tiny=3)
    candidate.start(store, "tiny", make_candidate())
    before = contents(store)
    with pytest.raises(PackageError, match=r"tiny:2 is a candidate already; '.*hubel models end tiny --store .*' stops it"):
        candidate.start(store, "tiny", make_candidate(3))
    assert contents(store) == before


def test_a_candidate_that_was_damaged_meanwhile_is_not_promoted_and_goes_on(make_store: MakeStore) -> None:
    store = make_store(tiny=2)
    candidate.start(store, "tiny", make_candidate())
    (store / "tiny/2/model.onnx").write_bytes(b"another graph")
    with pytest.raises(PackageError, match=r"tiny/2/model.onnx was changed"):
        candidate.end(store, "tiny", True, "test")
    assert pointer(store).version == 1
    assert candidate.read(store, "tiny") is not None


def test_a_damaged_file_says_what_to_do(make_store: MakeStore) -> None:
    store = make_store(tiny=2)
    (store / "tiny/candidate.json").write_text('{"version": 2, "mode": "sometimes"}')
    with pytest.raises(PackageError, match=r"candidate.json is damaged: .*; remove it, and start the candidate again"):
        candidate.read(store, "tiny")


def test_progress_survives_and_belongs_to_one_candidacy(make_store: MakeStore, tmp_path: Path) -> None:
    store, wanted = make_store(tiny=2), make_candidate()
    assert candidate.read_progress(store, "tiny", wanted) == Progress(2, wanted.started, updated=ANY_TIME)
    seen = Progress(2, wanted.started, Tally(requests=9, images=9), Tally(requests=3, images=3, unsure=1), compared=3, agreed=2)
    candidate.write_progress(store, "tiny", seen)
    assert candidate.read_progress(store, "tiny", wanted) == seen
    later = make_candidate(started=wanted.started + timedelta(seconds=1))
    assert candidate.read_progress(store, "tiny", later).compared == 0
    (store / "tiny/progress.json").write_bytes(b"{")
    assert candidate.read_progress(store, "tiny", wanted).compared == 0


def test_a_quantile_is_the_upper_end_of_its_bin() -> None:
    tally = Tally()
    assert candidate.quantile(tally, 0.95) is None
    tally.latency[3], tally.latency[10], tally.latency[-1] = 90, 9, 1
    assert candidate.quantile(tally, 0.9) == LATENCY_BOUNDS[3]
    assert candidate.quantile(tally, 0.95) == LATENCY_BOUNDS[10]
    assert candidate.quantile(tally, 1.0) == float("inf")


class AnyTime(datetime):
    """Equal to every time."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, datetime)

    __hash__ = datetime.__hash__


ANY_TIME = AnyTime(2026, 1, 1, tzinfo=UTC)
