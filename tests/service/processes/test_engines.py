"""The supervisor's engines with small programs in their place: what is started, replaced, killed, refused and let go."""

import asyncio
import errno
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from models.errors import PackageError
from service.engine import ipc
from service.engine.board import ENGINES, Board
from service.engine.messages import Load
from service.processes import engines as module
from service.processes.engines import Engine, EngineKeeper
from tests.server import runs
from tests.service.processes.conftest import ENGINE, pids_of

LATE = 30.0  # seconds after which a test has hung


class Scene:
    """A keeper of such engines. loads: what each was to load: (version, place, beside, again)."""

    def __init__(self, folder: Path, hang_seconds: float) -> None:
        self.folder = folder
        self.order("serve")
        self.loads: list[tuple[int, int, bool, bool]] = []
        self.failures: list[str] = []
        self.missing: set[int] = set()
        self.board = Board.make()
        self.keeper = EngineKeeper(
            self.board,
            self.load,
            hang_seconds=hang_seconds,
            failed=self.failures.append,
            command=(*ENGINE, str(folder)),
        )

    def order(self, what: str) -> None:
        """What engines do that start from now on."""
        (self.folder / "orders").write_text(what)

    def load(self, version: int, place: int, aside: bool, again: bool) -> Load:
        self.loads.append((version, place, aside, again))
        if version in self.missing:
            raise PackageError(f"no version '{version}' of model tiny")
        return Load(str(version), "cpu", "auto", 1, "", 8, place=place, aside=aside)

    def notes(self, version: int) -> dict[int, list[str]]:
        """What the engines of a version noted, by their process."""
        found = self.folder.glob(f"engine-{version}.*")
        return {int(path.suffix[1:]): path.read_text().splitlines() for path in found}

    def pid(self, version: int) -> int:
        """Of the engine of now."""
        process = self.keeper.engines[version].process
        return process.pid if process else 0

    async def ready(self, version: int) -> int:
        await until(lambda: self.keeper.is_ready(version) and self.pid(version))
        return self.pid(version)

    async def replaced(self, version: int, old: int) -> int:
        """The process that has taken the place of another, and lives."""
        await until(lambda: self.pid(version) not in (0, old) and self.notes(version).get(self.pid(version)))
        return self.pid(version)

    def front(self, version: int) -> socket.socket:
        return ipc.connect(self.keeper.addresses()[version])


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(LATE):
        while not condition():
            await asyncio.sleep(0.01)


def play(folder: Path, scenario: Callable[[Scene], Awaitable[Any]], hang_seconds: float = 30) -> Scene:
    """No process is left of it afterwards, whether or not it closes the keeper itself."""

    async def run() -> Scene:
        scene = Scene(folder, hang_seconds)
        try:
            await scenario(scene)
        finally:
            await scene.keeper.close()
            left = [int(path.suffix[1:]) for path in folder.glob("engine-*") if runs(int(path.suffix[1:]))]
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        assert not left
        return scene

    return asyncio.run(run())


def restarts() -> float:
    return REGISTRY.get_sample_value("hubel_engine_restarts_total") or 0


def test_the_first_is_found_at_its_address_from_the_start_on_and_answers_once_it_is_ready(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        scene.keeper.want(1)
        assert not scene.keeper.is_ready(1)
        with scene.front(1):  # waits in its queue
            pid = await scene.ready(1)
            assert scene.keeper.changed.is_set()
            assert pids_of(scene.keeper) == [pid]
            scene.keeper.want(1)
            await until(lambda: scene.notes(1)[pid] == ["place 0 aside 0", "active"])

    scene = play(tmp_path, scenario)
    assert scene.loads == [(1, 0, False, False)]
    assert scene.failures == []


def test_one_beside_is_loaded_aside_found_when_ready_and_active_when_it_is_asked(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        scene.keeper.want(1)
        await scene.ready(1)
        scene.keeper.changed.clear()
        scene.keeper.want(1, [2])
        assert list(scene.keeper.addresses()) == [1]
        pid = await scene.ready(2)
        assert scene.keeper.changed.is_set()
        assert list(scene.keeper.addresses()) == [1, 2]
        assert scene.notes(2) == {pid: ["place 1 aside 1"]}
        scene.keeper.want(1, [2], [2])
        scene.keeper.want(1, [2], [2])
        await until(lambda: "active" in scene.notes(2)[pid])
        await asyncio.sleep(0.1)
        assert scene.notes(2)[pid].count("active") == 1

    scene = play(tmp_path, scenario)
    assert scene.loads == [(1, 0, False, False), (2, 1, True, False)]


@pytest.mark.parametrize(
    ("orders", "reason"),
    [
        ("fail", "its hash is wrong"),
        ("die", "its process ended (exit code 7) while it was loaded"),
        ("mumble", "its process says what cannot be understood: "),
        ("missing", "no version '1' of model tiny"),
    ],
)
def test_where_the_first_cannot_be_loaded_it_is_told_once_and_not_tried_again(tmp_path: Path, orders: str, reason: str) -> None:
    async def scenario(scene: Scene) -> None:
        scene.order(orders)
        scene.missing = {1} if orders == "missing" else set()
        scene.keeper.want(1)
        await until(lambda: scene.failures)
        await asyncio.sleep(0.1)

    scene = play(tmp_path, scenario)
    (failure,) = scene.failures
    assert failure.startswith(reason)
    assert scene.loads == [(1, 0, False, False)]


@pytest.mark.parametrize("orders", ["fail", "die", "missing"])
def test_where_one_beside_cannot_be_loaded_it_is_refused_until_it_is_wanted_anew_and_the_live_one_goes_on(
    tmp_path: Path, orders: str
) -> None:
    reasons = {
        "fail": "its hash is wrong",
        "die": "its process ended (exit code 7) while it was loaded",
        "missing": "no version '2' of model tiny",
    }

    async def scenario(scene: Scene) -> None:
        scene.keeper.want(1)
        live = await scene.ready(1)
        scene.order(orders)
        scene.missing = {2} if orders == "missing" else set()
        scene.keeper.changed.clear()
        scene.keeper.want(1, [2])
        await until(lambda: scene.keeper.refused)
        assert scene.keeper.refused == {2: reasons[orders]}
        assert scene.keeper.changed.is_set()
        scene.keeper.want(1, [2])
        await asyncio.sleep(0.1)
        assert scene.loads.count((2, 1, True, False)) == 1
        assert scene.keeper.refused == {2: reasons[orders]}
        assert list(scene.keeper.addresses()) == [1]
        scene.order("serve")
        scene.missing.clear()
        scene.keeper.want(1)
        assert scene.keeper.refused == {}
        scene.keeper.want(1, [2])
        await scene.ready(2)
        assert scene.pid(1) == live

    assert play(tmp_path, scenario).failures == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV], ids=lambda number: number.name)
def test_the_live_one_that_is_killed_is_replaced_at_the_same_address_which_was_open_all_the_time(
    tmp_path: Path, number: signal.Signals, caplog: pytest.LogCaptureFixture
) -> None:
    before = restarts()

    async def scenario(scene: Scene) -> None:
        scene.keeper.want(1)
        old = await scene.ready(1)
        scene.keeper.want(1)
        address = scene.keeper.addresses()
        assert (scene.keeper.is_up(), scene.keeper.pids()) == (True, [old])
        os.kill(old, number)
        await until(lambda: not scene.keeper.is_up())
        await until(lambda: not runs(old))
        with scene.front(1):
            new = await scene.replaced(1, old)
            assert scene.keeper.addresses() == address
            assert scene.keeper.is_ready(1)
            await until(scene.keeper.is_up)
            await until(lambda: scene.notes(1)[new] == ["place 0 aside 0", "active"])
        assert scene.loads == [(1, 0, False, False), (1, 0, False, True)]
        assert restarts() == before + 1

    play(tmp_path, scenario)
    assert f"engine of version 1: its process ended ({number.name}), another takes its place" in caplog.text


@pytest.mark.parametrize("how", ["is stopped", "gives no sign of life"])
def test_one_that_hangs_is_killed_and_replaced(tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture) -> None:
    before = restarts()

    async def scenario(scene: Scene) -> None:
        scene.order("hang" if how == "gives no sign of life" else "serve")
        scene.keeper.want(1)
        old = await scene.ready(1)
        scene.order("serve")
        if how == "is stopped":
            os.kill(old, signal.SIGSTOP)
        await scene.replaced(1, old)
        assert not runs(old)
        assert restarts() == before + 1

    play(tmp_path, scenario, hang_seconds=0.5)
    assert "engine of version 1: it hangs, it is killed, another takes its place" in caplog.text


def test_one_that_gives_signs_of_life_is_no_hang(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        scene.keeper.want(1)
        pid = await scene.ready(1)
        await asyncio.sleep(1.0)
        assert scene.pid(1) == pid

    play(tmp_path, scenario, hang_seconds=0.4)


def test_a_machine_that_stood_still_is_no_engine_that_hangs_and_one_that_does_is_found_afterwards(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        scene.keeper.want(1)
        pid = await scene.ready(1)
        os.kill(pid, signal.SIGSTOP)
        time.sleep(1.3)  # the supervisor too
        os.kill(pid, signal.SIGCONT)
        await asyncio.sleep(0.4)
        assert scene.pid(1) == pid
        os.kill(pid, signal.SIGSTOP)
        await scene.replaced(1, pid)

    play(tmp_path, scenario, hang_seconds=0.6)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=lambda number: number.name)
def test_one_beside_that_ends_or_hangs_is_refused_and_not_replaced(tmp_path: Path, number: signal.Signals) -> None:
    before = restarts()

    async def scenario(scene: Scene) -> None:
        scene.keeper.want(1)
        await scene.ready(1)
        scene.keeper.want(1, [2])
        pid = await scene.ready(2)
        scene.keeper.want(1, [2], [2])
        os.kill(pid, number)
        await until(lambda: scene.keeper.refused)
        reason = "its process ended (SIGKILL)" if number is signal.SIGKILL else "it hangs, it is killed"
        assert scene.keeper.refused == {2: reason}
        assert not scene.keeper.is_ready(2)
        assert list(scene.keeper.addresses()) == [1]
        assert restarts() == before

    play(tmp_path, scenario, hang_seconds=0.6)


def test_one_that_was_beside_and_is_live_now_is_replaced_as_the_live_one(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        scene.keeper.want(1)
        await scene.ready(1)
        scene.keeper.want(1, [2])
        old = await scene.ready(2)
        scene.keeper.want(2)
        os.kill(old, signal.SIGKILL)
        new = await scene.replaced(2, old)
        assert scene.notes(2)[new][0] == "place 1 aside 0"
        assert scene.keeper.refused == {}

    play(tmp_path, scenario)


@pytest.mark.parametrize("orders", ["die soon", "load slowly and die"])
def test_one_that_dies_again_and_again_is_tried_after_longer_and_longer_pauses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, orders: str
) -> None:
    monkeypatch.setattr(module, "BACKOFF_SECONDS", (0.0, 0.0, 0.01, 0.02))
    monkeypatch.setattr(module, "STEADY_SECONDS", 5.0 if orders == "die soon" else 0.4)

    async def scenario(scene: Scene) -> None:
        scene.order(orders)
        scene.keeper.want(1)
        await until(lambda: len(scene.loads) > 5)

    play(tmp_path, scenario)
    pauses = [text.rpartition("another ")[2] for text in caplog.messages if text.startswith("engine of version 1")]
    assert pauses[:5] == ["takes its place", "is tried in 0.01 s", *["is tried in 0.02 s"] * 3]


def test_one_that_served_for_some_time_is_replaced_at_once_however_often_that_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "STEADY_SECONDS", 0.0)

    async def scenario(scene: Scene) -> None:
        scene.keeper.want(1)
        pid = await scene.ready(1)
        for _ in range(3):
            os.kill(pid, signal.SIGKILL)
            pid = await scene.replaced(1, pid)

    play(tmp_path, scenario)
    assert caplog.text.count("another takes its place") == 3


@pytest.mark.parametrize("error", [BlockingIOError(errno.EAGAIN, "no process"), RuntimeError("can't start new thread")])
def test_one_that_cannot_be_started_is_tried_again_and_nothing_of_a_try_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    monkeypatch.setattr(module, "BACKOFF_SECONDS", (0.0, 0.01, 0.02))
    tries: list[None] = []

    async def refuse(*_: Any, **__: Any) -> None:
        tries.append(None)
        raise error

    async def scenario(scene: Scene) -> None:
        scene.keeper.want(1)
        old = await scene.ready(1)
        before = len(os.listdir("/proc/self/fd"))
        with monkeypatch.context() as patch:
            patch.setattr(asyncio, "create_subprocess_exec", refuse)
            os.kill(old, signal.SIGKILL)
            await until(lambda: len(tries) > 5)
            assert len(os.listdir("/proc/self/fd")) <= before
        await scene.replaced(1, old)

    play(tmp_path, scenario)
    reason = "no process" if isinstance(error, OSError) else str(error)
    assert f"engine of version 1: its process cannot be started: {reason}, another is tried in 0.02 s" in caplog.text


def test_one_that_is_not_wanted_any_more_ends_once_its_fronts_have_left_and_its_place_is_free_then(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        scene.keeper.want(1)
        old = await scene.ready(1)
        with scene.front(1), scene.front(1):
            scene.keeper.want(1, [2])
            await scene.ready(2)
            scene.keeper.want(2)
            assert list(scene.keeper.addresses()) == [2]
            await asyncio.sleep(0.3)
            assert runs(old)
            scene.keeper.want(2, [3])
            await scene.ready(3)
        await until(lambda: not runs(old))
        assert scene.notes(1)[old][-1] == "ended well"
        await until(lambda: 0 not in scene.keeper.places)
        scene.keeper.want(2, [3, 4])
        await scene.ready(4)

    scene = play(tmp_path, scenario)
    assert [place for _, place, *_ in scene.loads] == [0, 1, 2, 0]


def test_fronts_that_do_not_leave_are_waited_for_only_so_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETIRE_SECONDS", 0.2)

    async def scenario(scene: Scene) -> None:
        scene.keeper.want(1)
        old = await scene.ready(1)
        with scene.front(1):
            scene.keeper.want(1, [2])
            await scene.ready(2)
            scene.keeper.want(2)
            await until(lambda: not runs(old))
            assert "ended well" not in scene.notes(1)[old]
            await until(lambda: 0 not in scene.keeper.places)

    play(tmp_path, scenario)


def test_one_that_is_not_wanted_any_more_while_it_is_loaded_is_given_up_and_the_next_is_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETIRE_SECONDS", 0.2)

    async def scenario(scene: Scene) -> None:
        scene.keeper.want(1)
        await scene.ready(1)
        scene.order("load for ever")
        scene.keeper.want(1, [2])
        await until(lambda: scene.notes(2))
        (given_up,) = scene.notes(2)
        scene.order("serve")
        scene.keeper.want(1, [3])
        await scene.ready(3)
        await until(lambda: not runs(given_up))
        assert scene.keeper.refused == {}

    play(tmp_path, scenario)


def test_one_that_is_wanted_again_right_after_is_another_at_another_address(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        scene.keeper.want(1)
        old = await scene.ready(1)
        address = scene.keeper.addresses()[1]
        scene.keeper.want(1, [2])
        await scene.ready(2)
        with scene.front(1):
            scene.keeper.want(2)
            scene.keeper.want(2, [1])
            assert await scene.ready(1) != old
            assert scene.keeper.addresses()[1] != address

    play(tmp_path, scenario)


def test_without_a_place_on_the_board_one_is_refused_and_started_once_another_has_ended(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        scene.keeper.want(1)
        await scene.ready(1)
        scene.keeper.places.update(range(1, ENGINES))
        scene.keeper.want(1, [2])
        assert scene.keeper.refused == {2: "8 engines run, and there is no place for another until one has ended"}
        assert scene.loads == [(1, 0, False, False)]
        scene.keeper.places.discard(5)
        scene.keeper.want(1)
        scene.keeper.want(1, [2])
        await scene.ready(2)
        assert scene.loads[-1] == (2, 5, True, False)

    play(tmp_path, scenario)


@pytest.mark.parametrize("orders", ["serve", "stay", "load for ever", "stopped"])
def test_at_the_end_none_is_left_also_of_those_that_load_or_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, orders: str
) -> None:
    monkeypatch.setattr(module, "CLOSE_SECONDS", 1.5)

    async def scenario(scene: Scene) -> None:
        scene.keeper.want(1)
        await scene.ready(1)
        scene.order("serve" if orders == "stopped" else orders)
        scene.keeper.want(1, [2])
        await until(lambda: scene.notes(2))
        if orders == "stopped":
            os.kill(await scene.ready(2), signal.SIGSTOP)
        pids = pids_of(scene.keeper)
        await scene.keeper.close()
        assert not any(map(runs, pids))
        assert len(pids) == 2
        assert pids_of(scene.keeper) == []
        assert not scene.keeper.leaving

    play(tmp_path, scenario)


def test_an_engine_that_waits_to_be_tried_again_holds_up_no_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BACKOFF_SECONDS", (0.0, 3600.0))
    monkeypatch.setattr(module, "CLOSE_SECONDS", 3600.0)

    async def scenario(scene: Scene) -> None:
        scene.keeper.want(1)
        os.kill(await scene.ready(1), signal.SIGKILL)
        await until(lambda: scene.keeper.engines[1].process is None)
        async with asyncio.timeout(LATE):
            await scene.keeper.close()

    play(tmp_path, scenario)


def test_its_place_on_the_board_is_clear_once_it_has_ended(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        scene.keeper.want(1)
        await scene.ready(1)
        scene.board.engine(0).begin(5.0)
        engine: Engine = scene.keeper.engines[1]
        await scene.keeper.close()
        assert not scene.board.computing()
        assert scene.board.engine(engine.place).alive == 0

    play(tmp_path, scenario)
