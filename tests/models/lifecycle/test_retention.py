"""What may be removed, what must stay, and that nothing is ever half removed."""

import os
import shutil
import time
from pathlib import Path

import pytest

from models.lifecycle import candidate, gate, retention
from models.lifecycle.candidate import Candidate
from models.package.manifest import PackageError
from models.registry import registry
from tests.factories import make_package
from tests.models.conftest import MakeStore, contents, pointer


def make_many(make_store: MakeStore, n: int, in_service: tuple[int, ...] = ()) -> Path:
    store = make_store(tiny=3)
    for _ in range(n - 3):
        make_package(store)
    for version in in_service:
        registry.promote(store, "tiny", version, "test")
    return store


def test_what_is_in_service_a_candidate_before_or_new_stays(make_store: MakeStore) -> None:
    store = make_many(make_store, 9, in_service=(4, 2))  # a rollback would bring 4 back
    candidate.start(store, "tiny", Candidate(5, "shadow", 10))
    assert {removed.what for removed in retention.collect(store, "tiny", keep=3)} == {"tiny:1", "tiny:3", "tiny:6"}
    assert registry.versions(store, "tiny") == [2, 4, 5, 7, 8, 9]
    assert [registry.verify(folder).version for folder in registry.packages(store)] == [2, 4, 5, 7, 8, 9]
    assert registry.roll_back(store, "tiny").version == 4


def test_retired_versions_go_first_and_do_not_count_among_the_newest(make_store: MakeStore) -> None:
    store = make_many(make_store, 5, in_service=(5,))
    retention.retire(store, "tiny", 4, "sees ghosts")
    found = retention.collect(store, "tiny", keep=2)
    assert {removed.what: removed.why for removed in found} == {"tiny:2": "older than the last 2", "tiny:4": "retired"}
    assert registry.versions(store, "tiny") == [1, 3, 5]
    assert pointer(store).retired == []


def test_a_dry_run_says_the_same_and_changes_nothing(make_store: MakeStore) -> None:
    store = make_many(make_store, 5)
    before = contents(store)
    said = retention.collect(store, "tiny", keep=1, dry_run=True)
    assert contents(store) == before
    assert retention.collect(store, "tiny", keep=1) == said
    assert said[0].bytes == sum(len(value or b"") for path, value in before.items() if path.startswith("tiny/2/"))


def test_what_was_removed_is_recorded_and_its_number_is_not_given_again(make_store: MakeStore) -> None:
    store = make_many(make_store, 4)
    retention.retire(store, "tiny", 4, "test")
    retention.collect(store, "tiny", keep=2)
    assert [(c.event, c.version) for c in pointer(store).history[-2:]] == [("retire", 4), ("remove", 4)]
    assert make_package(store).name == "5"


def test_signature_and_verdict_go_with_their_version(make_store: MakeStore) -> None:
    store = make_many(make_store, 4)
    for version in (1, 2):
        (store / f"tiny/{version}.sig").touch()
        gate.path(store, "tiny", version).touch()
    retention.collect(store, "tiny", keep=1)
    assert {path.name for path in (store / "tiny").iterdir()} == {"1", "4", "1.sig", "1.gate.json", "current.json"}
    assert {path.name for path in store.iterdir()} == {"tiny"}


@pytest.mark.parametrize(
    ("version", "message"),
    [
        (2, "tiny:2 is live, or none is; promote another version first"),
        (1, "tiny:1 is what a rollback would bring back; --force retires it all the same"),
        (3, "tiny:3 is a candidate; '.*hubel models end tiny --store .*' stops it first"),
        (4, "tiny:4 is retired already"),
    ],
)
def test_what_is_in_use_is_not_retired(make_store: MakeStore, version: int, message: str) -> None:
    store = make_many(make_store, 4, in_service=(2,))
    candidate.start(store, "tiny", Candidate(3, "shadow", 10))
    retention.retire(store, "tiny", 4, "test")
    before = contents(store)
    with pytest.raises(PackageError, match=message):
        retention.retire(store, "tiny", version, "test")
    assert contents(store) == before


def test_the_version_before_is_retired_by_force_and_rolled_back_past(make_store: MakeStore) -> None:
    store = make_many(make_store, 3, in_service=(2, 3))
    retention.retire(store, "tiny", 2, "wrong labels", force=True)
    assert pointer(store).history[-1].forced
    assert registry.roll_back(store, "tiny").version == 1


def test_promoting_takes_a_retired_version_back_into_use(make_store: MakeStore) -> None:
    store = make_store(tiny=2)
    retention.retire(store, "tiny", 2, "test")
    registry.promote(store, "tiny", 2, "after all")
    assert pointer(store).retired == []


def age(path: Path) -> None:
    long_ago = time.time() - 2 * retention.DAY
    os.utime(path, (long_ago, long_ago))


def test_what_killed_processes_left_is_swept_once_it_is_old(make_store: MakeStore) -> None:
    store = make_store(tiny=2)
    before = contents(store)
    old = [".publish-a", ".unpack-a", ".pull-a", ".trash-a", "tiny/.sign-a"]
    for name in [*old, ".publish-new", ".mine"]:
        shutil.copytree(store / "tiny/1", store / name)
    files = ["tiny/.current-a", "tiny/.candidate-a", "tiny/.progress-a", "tiny/.2.gate-a", "tiny/7.sig", "tiny/7.gate.json"]
    for name in [*files, "tiny/.current-new", "tiny/1.sig"]:
        (store / name).write_bytes(b"12")
    for name in [*old, *files, ".mine", "tiny/1.sig"]:
        age(store / name)
    young = {".publish-new", ".mine", "tiny/.current-new", "tiny/1.sig"}
    said = retention.sweep(store, dry_run=True)
    assert {removed.what for removed in said} == {*old, *files}
    assert retention.sweep(store) == said
    assert {path for path in contents(store) if path.split("/")[0] not in young} - before.keys() == young - {
        ".publish-new",
        ".mine",
    }
    assert young <= contents(store).keys()


def test_without_a_version_in_service_nothing_is_removed(make_store: MakeStore) -> None:
    store = make_store(tiny=3)
    (store / "tiny/current.json").unlink()
    with pytest.raises(PackageError, match="so none is known to be old"):
        retention.collect(store, "tiny", keep=1)
    assert registry.versions(store, "tiny") == [1, 2, 3]
