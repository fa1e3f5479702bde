"""Commands at once on one name: each is done whole or not at all, and none waits without an end."""

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier
from typing import Any

import msgspec
import pytest

from models.__main__ import main
from models.errors import PackageError
from models.lifecycle import candidate, promotion, retention
from models.lifecycle.candidate import Candidate
from models.lifecycle.gate import GateRequest
from models.registry import history, registry
from tests.factories import make_files, make_manifest
from tests.models.conftest import MakeStore, contents, pointer
from tests.models.registry.holder import HOLD


def at_once(*calls: Callable[[], object]) -> list[str]:
    """What each says that begins at the same time as the others: nothing, or its error."""
    begin = Barrier(len(calls))

    def run(call: Callable[[], object]) -> str:
        begin.wait(timeout=10)
        try:
            call()
        except PackageError as err:
            return str(err)
        return ""

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def meanwhile(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Have something happen right after the next package was verified."""
    verify, left = registry.verify, [act]

    def verified(*arguments: Any, **named: Any) -> Any:
        found = verify(*arguments, **named)
        if left:
            left.pop()()
        return found

    monkeypatch.setattr(registry, "verify", verified)


@pytest.mark.parametrize("turn", range(6))
def test_of_three_candidates_at_once_one_is_started(make_store: MakeStore, turn: int) -> None:
    store = make_store(tiny=3)
    wanted = [Candidate(2, "shadow", 300), Candidate(3, "canary", 200, 10), Candidate(2, "canary", 100, 20)]
    said = at_once(*(lambda wanted=one: candidate.start(store, "tiny", wanted) for one in wanted))
    assert said.count("") == 1
    assert all("is a candidate already" in text for text in said if text)
    assert candidate.read(store, "tiny") == wanted[said.index("")]
    assert [entry.event for entry in pointer(store).history if entry.event != "promote"] == [wanted[said.index("")].mode]


def test_of_two_ends_at_once_one_is_recorded(make_store: MakeStore) -> None:
    store = make_store(tiny=2)
    candidate.start(store, "tiny", Candidate(2, "shadow", 300))
    said = at_once(*2 * [lambda: candidate.end(store, "tiny", True, "well")])
    assert sorted(map(bool, said)) == [False, True]
    assert [entry.event for entry in pointer(store).history[1:]] == ["shadow", "end", "promote"]


def test_an_end_that_is_meant_for_another_candidate_leaves_this_one(make_store: MakeStore) -> None:
    store, first, second = make_store(tiny=3), Candidate(2, "shadow", 300), Candidate(3, "shadow", 300)
    candidate.start(store, "tiny", first)
    candidate.end(store, "tiny", False, "by hand")
    candidate.start(store, "tiny", second)
    before = contents(store)
    with pytest.raises(PackageError, match="tiny has another candidate by now, tiny:3"):
        candidate.end(store, "tiny", True, "verdict on tiny:2", only=first)
    assert contents(store) == before


def test_a_candidate_that_is_ended_while_it_is_verified_is_not_promoted(
    make_store: MakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(tiny=3)
    candidate.start(store, "tiny", Candidate(2, "shadow", 300))

    def exchange() -> None:
        candidate.end(store, "tiny", False, "by hand")
        candidate.start(store, "tiny", Candidate(3, "shadow", 300))

    meanwhile(monkeypatch, exchange)
    with pytest.raises(PackageError, match="was ended or replaced meanwhile; nothing was changed"):
        candidate.end(store, "tiny", True, "verdict on tiny:2")
    running = candidate.read(store, "tiny")
    assert (pointer(store).version, running and running.version) == (1, 3)


@pytest.mark.parametrize("hours", [1, 24 * 400])
def test_a_clock_that_was_set_back_ends_no_candidate_and_starts_none(make_store: MakeStore, hours: int) -> None:
    store = make_store(tiny=2)
    candidate.start(store, "tiny", Candidate(2, "shadow", 300))
    left = (store / "tiny/candidate.json").read_bytes()
    candidate.end(store, "tiny", False, "test")
    again = Candidate(2, "canary", 300, 10, started=datetime.now(UTC) - timedelta(hours=hours))
    candidate.start(store, "tiny", again)
    assert candidate.read(store, "tiny") == again
    candidate.end(store, "tiny", False, "test")
    (store / "tiny/candidate.json").write_bytes(left)
    assert candidate.read(store, "tiny") is None


def test_two_promotions_and_a_rollback_at_once_leave_a_history_without_a_gap(make_store: MakeStore) -> None:
    store = make_store(tiny=3)
    registry.promote(store, "tiny", 2, "test")
    for _ in range(8):
        at_once(
            lambda: registry.promote(store, "tiny", 3, "test"),
            lambda: registry.promote(store, "tiny", 1, "test"),
            lambda: registry.roll_back(store, "tiny"),
        )
        now, serving = pointer(store), None
        for entry in now.history:
            assert entry.before == serving
            serving = entry.version
        assert now.version == serving
        assert now.version not in now.before
        assert len(set(now.before)) == len(now.before)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("trial", [False, True], ids=["at once", "as a candidate"])
def test_a_verdict_against_a_version_that_is_no_longer_in_service_promotes_nothing(
    make_store: MakeStore, monkeypatch: pytest.MonkeyPatch, trial: bool
) -> None:
    store = make_store(tiny=3)
    put, first = history.replace, [True]

    def late(*arguments: Any, **named: Any) -> Any:
        if first:  # another promotion goes first, whose lock this one waited for
            first.clear()
            put(store, "tiny", lambda old: registry.promoted(old, 3, "quicker"))
        return put(*arguments, **named)

    monkeypatch.setattr(history, "replace", late)
    with pytest.raises(PackageError, match="tiny:3 became live while tiny:2 was judged; promote it again"):
        promotion.promote(store, "tiny", 2, GateRequest(), "test", trial=Candidate(2, "shadow", 9) if trial else None)
    assert pointer(store).version == 3
    assert candidate.read(store, "tiny") is None


def test_a_version_that_gc_removes_while_it_is_verified_is_not_promoted(
    make_store: MakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(tiny=3)
    meanwhile(monkeypatch, lambda: retention.collect(store, "tiny", keep=0))
    with pytest.raises(PackageError, match=r"tiny:2 was removed from .* meanwhile; nothing was changed"):
        registry.promote(store, "tiny", 2, "test")
    assert pointer(store).version == 1
    assert registry.versions(store, "tiny") == [1]


def test_a_version_that_goes_on_trial_meanwhile_is_not_retired(make_store: MakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store = make_store(tiny=2)
    resolve = registry.resolve

    def resolved(*arguments: Any) -> Path:
        monkeypatch.setattr(registry, "resolve", resolve)
        candidate.start(store, "tiny", Candidate(2, "shadow", 300))
        return resolve(*arguments)

    monkeypatch.setattr(registry, "resolve", resolved)
    with pytest.raises(PackageError, match="tiny:2 is a candidate; "):
        retention.retire(store, "tiny", 2, "test")
    assert pointer(store).retired == []


@pytest.mark.parametrize("turn", range(3))
def test_of_two_first_versions_at_once_one_goes_into_service_and_the_other_waits(tmp_path: Path, turn: int) -> None:
    store, files, draft = tmp_path / "store", tmp_path / "files", make_manifest()
    files.mkdir()
    make_files(files, draft)
    assert at_once(*4 * [lambda: registry.publish(store, files, draft)]) == 4 * [""]
    assert registry.versions(store, "tiny") == [1, 2, 3, 4]
    assert len(pointer(store).history) == 1


def test_versions_that_are_noted_twice_are_rolled_back_to_once(make_store: MakeStore) -> None:
    store = make_store(tiny=3)
    history.update(store, "tiny", lambda old: msgspec.structs.replace(old or pointer(store), version=2, before=[3, 1, 3, 1, 2]))
    assert (registry.roll_back(store, "tiny").version, pointer(store).before) == (1, [3, 1, 3])
    assert (registry.roll_back(store, "tiny").version, pointer(store).before) == (3, [3, 1])


def test_who_waits_for_a_command_that_was_stopped_says_which_and_gives_up(
    make_store: MakeStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = make_store(tiny=2)
    monkeypatch.setattr(history, "LOCK_SECONDS", 0.2)
    before = contents(store)
    with subprocess.Popen([sys.executable, "-c", HOLD, str(store / "tiny")], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            for command in (["retire", "tiny:2"], ["gc", "tiny", "--keep", "0"]):
                assert main([*command, "--store", str(store)]) == 1
                said = capsys.readouterr().err
                assert f"is being changed by process {process.pid} ({sys.executable} -c \\nimport fcntl" in said
                assert "for more than 0.2 s; nothing was changed here" in said
                assert said.count("\n") == 1
            with pytest.raises(PackageError, match=f"process {process.pid} "):
                candidate.start(store, "tiny", Candidate(2, "shadow", 300))
            assert contents(store) == before
        finally:
            process.kill()
    candidate.start(store, "tiny", Candidate(2, "shadow", 300))


def test_a_lock_whose_holder_is_not_known_is_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locks = tmp_path / "locks"
    monkeypatch.setattr(history, "LOCKS", locks)
    assert history.holder(77) == "another process"
    locks.write_text("1: FLOCK  ADVISORY  WRITE 0 08:01:77 0 EOF\n2: POSIX  ADVISORY  WRITE 1 08:01:77 0 EOF\n3:\n")
    assert history.holder(77) == "another process"
