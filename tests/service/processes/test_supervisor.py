"""The supervisor with small programs in the place of workers and engines: what it starts, replaces, kills and gives up."""

import asyncio
import errno
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client import REGISTRY
from prometheus_client.mmap_dict import MmapedDict

from service.engine.messages import Load
from service.processes import supervisor as module
from service.processes.supervisor import Supervisor
from service.rollout.messages import MAX_BYTES, MAX_LINES, DesiredState
from service.rollout.watcher import RegistryWatcher
from service.telemetry import multiprocess
from tests.server import runs
from tests.service.processes.conftest import ENGINE, pids_of

# A worker: says that it lives, notes its start and what it is told in a folder, and does what the file "orders" there says.
WORKER = """
import os, signal, socket, sys, time
folder, place, listener, pipe, board = sys.argv[1], *map(int, sys.argv[2:])
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
orders = open(folder + "/orders").read()
with open(folder + f"/{place}.{os.getpid()}", "w") as note:
    note.write(orders)
if orders == "fail":
    sys.exit(7)
if orders == "come late":
    time.sleep(0.5)
if orders == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if orders == "crash":
    signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGSEGV))
if orders == "give up":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
pipe = socket.socket(fileno=pipe)
pipe.send(b"{}\\n")
time.sleep(0.2 if orders in ("endless", "flood") else 0)
if orders == "endless":
    pipe.sendall(b"x" * 70_000)
if orders == "flood":
    pipe.sendall(b"{}\\n" * 2_000)
if orders == "drain slowly":
    signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.6), sys.exit(0)))
if orders == "linger":
    time.sleep(0.1)
    pipe.close()
    time.sleep(1000)
if orders == "die":
    sys.exit(5)
pipe.setblocking(False)
while orders == "drip":
    pipe.send(b" ")
    time.sleep(0.05)
while True:
    pipe.send(b"what?\\n" if orders == "mumble" else b"{}\\n")
    time.sleep(1000 if orders == "silent" else 0.05)
    try:
        if not (told := pipe.recv(1000)):
            break
        with open(folder + f"/told.{place}.{os.getpid()}", "ab") as note:
            note.write(told)
    except BlockingIOError:
        pass
"""


class Scene:
    """A supervisor of such workers."""

    def __init__(self, folder: Path, workers: int, hang_seconds: float, stop_seconds: float) -> None:
        self.folder = folder
        (folder / "metrics").mkdir()
        (folder / "engines").mkdir()
        self.order("serve")
        self.order_engines("serve")
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.supervisor = Supervisor(
            self.listener,
            folder / "metrics",
            RegistryWatcher(folder, "tiny", 1),
            load=lambda version, place, aside, again: Load(str(version), "cpu", "auto", 1, "", 8, place=place, aside=aside),
            workers=workers,
            hang_seconds=hang_seconds,
            stop_seconds=stop_seconds,
            command=(sys.executable, "-c", WORKER, str(folder)),
            engine_command=(*ENGINE, str(folder / "engines")),
        )

    def order(self, what: str) -> None:
        """What workers do that start from now on."""
        (self.folder / "orders").write_text(what)

    def order_engines(self, what: str) -> None:
        (self.folder / "engines/orders").write_text(what)

    def engines(self) -> set[int]:
        """Processes that have been engines."""
        return {int(path.suffix[1:]) for path in (self.folder / "engines").glob("engine-*")}

    def started(self) -> int:
        return len(list(self.folder.glob("[0-9]*")))

    def told(self, pid: int) -> str:
        """What a worker in the first place was ordered when it started."""
        return (self.folder / f"0.{pid}").read_text()

    def ready(self) -> list[int]:
        return sorted(worker.process.pid for worker in self.supervisor.workers if worker.ready)


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.02)


def play(
    folder: Path,
    scenario: Callable[[Scene], Awaitable[Any]],
    workers: int = 2,
    hang_seconds: float = 30,
    stop_seconds: float = 10,
) -> tuple[int, Scene]:
    """Run the supervisor beside a scenario that ends in its stop; its exit code."""

    async def run() -> tuple[int, Scene]:
        scene = Scene(folder, workers, hang_seconds, stop_seconds)
        running = asyncio.create_task(scene.supervisor.run())
        await scenario(scene)
        async with asyncio.timeout(30):
            code = await running
        assert not any(map(runs, scene.engines()))
        return code, scene

    return asyncio.run(run())


def gauge(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0


def test_it_starts_as_many_as_asked_for_counts_them_and_ends_well(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        await until(lambda: len(scene.ready()) == 3)
        assert gauge("hubel_workers_expected") == gauge("hubel_workers_alive") == 3
        assert sorted(gauge("hubel_worker_pid", worker=str(place)) for place in range(3)) == scene.ready()
        scene.supervisor.stop()

    code, scene = play(tmp_path, scenario, workers=3)
    assert code == 0
    assert scene.started() == 3
    assert not scene.supervisor.workers
    assert scene.listener.fileno() == -1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV], ids=lambda number: number.name)
def test_one_that_ends_is_replaced_and_the_others_go_on(tmp_path: Path, number: signal.Signals) -> None:
    before = gauge("hubel_worker_restarts_total")

    async def scenario(scene: Scene) -> None:
        await until(lambda: len(scene.ready()) == 2)
        victim, other = scene.ready()
        scene.order("come late")
        os.kill(victim, number)
        await until(lambda: victim not in scene.ready())
        assert gauge("hubel_workers_alive") == 1
        await until(lambda: len(scene.ready()) == 2)
        assert other in scene.ready()
        assert gauge("hubel_worker_restarts_total") == before + 1
        scene.supervisor.stop()

    assert play(tmp_path, scenario)[0] == 0


def test_what_a_dead_one_had_in_progress_is_forgotten_and_what_it_counted_is_kept(tmp_path: Path) -> None:
    files = {kind: str(tmp_path / "metrics" / f"{kind}_worker-0.db") for kind in ("gauge_livesum", "counter")}

    async def scenario(scene: Scene) -> None:
        await until(lambda: len(scene.ready()) == 1)
        (victim,) = scene.ready()
        scene.supervisor.board.numbers(0)[0] = 5.0
        for path in files.values():
            with closing(MmapedDict(path)) as values:
                values.write_value("key", 3.0, 0.0)
        os.kill(victim, signal.SIGKILL)
        await until(lambda: scene.ready() not in ([], [victim]))
        kept = {kind: [value for _, value, *_ in MmapedDict.read_all_values_from_file(path)] for kind, path in files.items()}
        assert kept == {"gauge_livesum": [], "counter": [3.0]}
        assert scene.supervisor.board.numbers(0)[0] == 0.0
        scene.supervisor.stop()

    assert play(tmp_path, scenario, workers=1)[0] == 0


BABBLES = "says what cannot be understood ({}), it is killed"


@pytest.mark.parametrize(
    ("desired", "why"),
    [
        ("silent", module.HANGS),
        ("drip", module.HANGS),
        ("mumble", BABBLES.format("JSON is malformed: invalid character (byte 0)")),
        ("endless", BABBLES.format(f"a line of more than {MAX_BYTES} bytes")),
        ("flood", BABBLES.format(f"more than {MAX_LINES} lines in a second")),
    ],
)
def test_one_that_hangs_or_talks_nonsense_is_killed_and_replaced_and_the_log_says_which(
    tmp_path: Path, desired: str, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(scene: Scene) -> None:
        scene.order(desired)
        await until(lambda: scene.started() >= 2)
        scene.order("serve")
        await until(lambda: [scene.told(pid) for pid in scene.ready()] == ["serve"])
        scene.supervisor.stop()

    assert play(tmp_path, scenario, workers=1, hang_seconds=0.5)[0] == 0
    assert f") {why}, another takes its place" in caplog.text
    assert caplog.text.count("it is killed") == caplog.text.count(why)


def test_a_stopped_one_is_killed_and_replaced(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        await until(lambda: len(scene.ready()) == 1)
        os.kill(scene.ready()[0], signal.SIGSTOP)
        await until(lambda: scene.started() >= 2 and scene.ready())
        scene.supervisor.stop()

    assert play(tmp_path, scenario, workers=1, hang_seconds=0.5)[0] == 0


def test_when_none_can_be_started_it_ends_with_a_failure(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        scene.order("fail")

    code, scene = play(tmp_path, scenario)
    assert code == 1
    assert scene.started() in (1, 2)  # the other may be stopped before it says so


def test_when_a_later_one_cannot_be_started_it_tries_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BACKOFF_SECONDS", (0.0, 0.01))

    async def scenario(scene: Scene) -> None:
        await until(lambda: len(scene.ready()) == 1)
        scene.order("fail")
        os.kill(scene.ready()[0], signal.SIGKILL)
        await until(lambda: scene.started() >= 4)
        scene.order("serve")
        await until(lambda: len(scene.ready()) == 1)
        scene.supervisor.stop()

    assert play(tmp_path, scenario, workers=1)[0] == 0


@pytest.mark.parametrize(("desired", "end"), [("crash", "SIGSEGV"), ("give up", "exit code 3")])
def test_one_that_ends_badly_while_it_drains_is_told_and_the_exit_code_tells_it_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, desired: str, end: str
) -> None:
    async def scenario(scene: Scene) -> None:
        await until(lambda: len(scene.ready()) == 2)
        scene.order(desired)
        os.kill(scene.ready()[0], signal.SIGKILL)
        await until(lambda: len(scene.ready()) == 2 and scene.started() == 3)
        scene.supervisor.stop()

    assert play(tmp_path, scenario)[0] == 1
    assert caplog.text.count("while it drained") == 1
    assert f") ended ({end}) while it drained, what it had not answered yet is lost" in caplog.text


def test_one_that_does_not_stop_is_killed_and_the_exit_code_tells_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.2)

    async def scenario(scene: Scene) -> None:
        scene.order("stubborn")
        await until(lambda: len(scene.ready()) == 1)
        scene.supervisor.stop()

    assert play(tmp_path, scenario, workers=1, stop_seconds=0.2)[0] == 1


def test_a_second_signal_ends_all_at_once_but_not_one_sent_along_with_the_first(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        scene.order("stubborn")
        await until(lambda: len(scene.ready()) == 1)
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(0.2)
        assert len(scene.ready()) == 1
        scene.supervisor.stopped -= 2
        os.kill(os.getpid(), signal.SIGTERM)
        await until(lambda: not scene.ready())  # and not an hour later

    assert play(tmp_path, scenario, workers=1, stop_seconds=3600)[0] == 0


def test_a_signal_while_the_first_ones_load_ends_it_well(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        await until(lambda: len(scene.supervisor.workers) == 2)
        os.kill(os.getpid(), signal.SIGTERM)

    assert play(tmp_path, scenario)[0] == 0


@pytest.mark.parametrize("error", [BlockingIOError(errno.EAGAIN, "no process"), RuntimeError("can't start new thread")])
def test_one_that_cannot_be_started_is_tried_after_longer_and_longer_pauses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    monkeypatch.setattr(module, "BACKOFF_SECONDS", (0.0, 0.01, 0.02, 0.1, 0.7))
    monkeypatch.setattr(module, "STEADY_SECONDS", 0.0)
    tries: list[None] = []

    async def refuse(*_: Any, **__: Any) -> None:
        tries.append(None)
        if len(tries) > 9:
            await asyncio.sleep(1000)
        raise error

    async def scenario(scene: Scene) -> None:
        await until(lambda: len(scene.ready()) == 1)
        before = len(os.listdir("/proc/self/fd"))
        with monkeypatch.context() as patch:
            patch.setattr(asyncio, "create_subprocess_exec", refuse)
            os.kill(scene.ready()[0], signal.SIGKILL)
            await until(lambda: "in 0.7 s" in caplog.text or len(tries) > 9)
            assert len(tries) == 4
            await asyncio.sleep(0.3)
            assert len(os.listdir("/proc/self/fd")) < before  # nothing of a try is left open
        await until(lambda: len(scene.ready()) == 1)
        scene.supervisor.stop()

    assert play(tmp_path, scenario, workers=1)[0] == 0
    reason = "no process" if isinstance(error, OSError) else str(error)
    assert [text for text in caplog.messages if "cannot be started" in text] == [
        f"worker 0 cannot be started: {reason}, another is tried in {seconds} s" for seconds in (0.01, 0.02, 0.1, 0.7)
    ]


@pytest.mark.parametrize(("steady", "pauses"), [(60.0, [0, 0.01, 0.02, 0.03, 0.03]), (0.0, [0, 0, 0, 0, 0])])
def test_one_that_is_ready_and_dies_again_and_again_waits_unless_it_served_for_some_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, steady: float, pauses: list[float]
) -> None:
    monkeypatch.setattr(module, "BACKOFF_SECONDS", (0.0, 0.01, 0.02, 0.03))
    monkeypatch.setattr(module, "STEADY_SECONDS", steady)

    async def scenario(scene: Scene) -> None:
        scene.order("die")
        await until(lambda: scene.started() > len(pauses))
        scene.supervisor.stop()

    play(tmp_path, scenario, workers=1)
    ends = [
        found.getMessage().partition("(exit code 5), another ")[2] for found in caplog.records if "ended" in found.getMessage()
    ]
    assert ends[: len(pauses)] == [f"is tried in {pause:g} s" if pause else "takes its place" for pause in pauses]


def test_a_machine_that_stood_still_is_no_worker_that_hangs_and_one_that_does_is_found_afterwards(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(scene: Scene) -> None:
        await until(lambda: len(scene.ready()) == 2)
        before = scene.ready()
        for pid in before:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(1.3)  # the supervisor too
        for pid in before:
            os.kill(pid, signal.SIGCONT)
        await asyncio.sleep(0.7)
        assert scene.ready() == before
        os.kill(before[0], signal.SIGSTOP)
        time.sleep(1.3)
        await until(lambda: before[0] not in scene.ready() and len(scene.ready()) == 2)
        assert before[1] in scene.ready()
        scene.supervisor.stop()

    assert play(tmp_path, scenario, hang_seconds=0.6)[0] == 0
    assert caplog.text.count(module.HANGS) == 1


def test_without_its_folder_of_metrics_it_goes_on(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        await until(lambda: len(scene.ready()) == 1)
        shutil.rmtree(tmp_path / "metrics")
        (victim,) = scene.ready()
        os.kill(victim, signal.SIGKILL)
        await until(lambda: scene.ready() not in ([], [victim]))
        assert len(list((tmp_path / "metrics").glob("*_worker-0.db"))) == 4
        scene.supervisor.stop()

    assert play(tmp_path, scenario, workers=1)[0] == 0


def test_what_a_killed_service_left_goes_also_where_its_workers_end_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 1.0)
    left = tmp_path / f"{multiprocess.PREFIX}left"
    multiprocess.own(left)
    multiprocess.hold(left)  # as a worker that drains

    async def scenario(scene: Scene) -> None:
        await until(lambda: len(scene.ready()) == 1)
        assert multiprocess.clear(tmp_path) == []
        os.close(multiprocess.locked.pop(left)[1])
        await until(lambda: not left.exists())
        scene.supervisor.stop()

    with caplog.at_level("INFO", "hubel"):
        assert play(tmp_path, scenario, workers=1, stop_seconds=1)[0] == 0
    assert f"removed what services that were killed left in {tmp_path}: 1 folders" in caplog.text


def test_one_that_says_that_it_ends_and_does_not_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.2)

    async def scenario(scene: Scene) -> None:
        scene.order("linger")
        await until(lambda: len(scene.ready()) == 1)
        scene.order("serve")
        await until(lambda: [scene.told(pid) for pid in scene.ready()] == ["serve"])
        scene.supervisor.stop()

    assert play(tmp_path, scenario, workers=1, stop_seconds=0.2)[0] == 0
    assert "does not end, it is killed, another takes its place" in caplog.text


def test_a_standstill_while_they_drain_does_not_end_them_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.5)

    async def scenario(scene: Scene) -> None:
        scene.order("drain slowly")
        await until(lambda: len(scene.ready()) == 1)
        (pid,) = scene.ready()
        scene.supervisor.stop()
        await asyncio.sleep(0.1)
        with suppress(ProcessLookupError):  # the machine stood still by itself, and longer
            os.kill(pid, signal.SIGSTOP)
            time.sleep(1.8)
            os.kill(pid, signal.SIGCONT)

    assert play(tmp_path, scenario, workers=1, stop_seconds=0.5)[0] == 0


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGQUIT])
def test_the_signals_of_a_terminal_let_them_drain(tmp_path: Path, number: signal.Signals) -> None:
    async def scenario(scene: Scene) -> None:
        await until(lambda: len(scene.ready()) == 2)
        os.kill(os.getpid(), number)

    code, scene = play(tmp_path, scenario)
    assert code == 0
    assert not scene.supervisor.workers


def test_a_signal_that_came_before_it_listened_starts_nobody(tmp_path: Path) -> None:
    async def run() -> int:
        scene = Scene(tmp_path, workers=2, hang_seconds=30, stop_seconds=10)
        return await scene.supervisor.run(lambda: True)

    assert asyncio.run(run()) == 0
    assert not list(tmp_path.glob("[0-9]*"))


def test_workers_are_told_first_where_the_engine_is(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        await until(lambda: len(list(tmp_path.glob("told.*"))) == 2)
        for path in tmp_path.glob("told.*"):
            first = msgspec.json.decode(path.read_bytes().splitlines()[0], type=DesiredState)
            assert first == DesiredState(1, scene.supervisor.engines.addresses())
            assert first.engines[1]
        scene.supervisor.stop()

    assert play(tmp_path, scenario)[0] == 0


def test_an_engine_that_is_killed_is_replaced_and_the_workers_go_on(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        await until(lambda: len(scene.ready()) == 2 and scene.supervisor.engines.is_ready(1))
        before, (victim,) = scene.ready(), pids_of(scene.supervisor.engines)
        os.kill(victim, signal.SIGKILL)
        await until(lambda: len(scene.engines()) == 2)
        assert scene.ready() == before
        scene.supervisor.stop()

    code, scene = play(tmp_path, scenario)
    assert code == 0
    assert scene.started() == 2


def test_where_the_first_engine_cannot_load_its_version_it_ends_and_says_why(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        scene.order_engines("fail")

    code, scene = play(tmp_path, scenario)
    assert code == 1
    assert scene.supervisor.reason == "its hash is wrong"
    assert not scene.supervisor.workers


def test_engines_end_after_the_workers_which_need_them_while_they_drain(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        scene.order("drain slowly")
        await until(lambda: len(scene.ready()) == 2 and scene.supervisor.engines.is_ready(1))
        (engine,) = pids_of(scene.supervisor.engines)
        scene.supervisor.stop()
        await asyncio.sleep(0.3)
        assert scene.supervisor.workers
        assert runs(engine)

    assert play(tmp_path, scenario)[0] == 0


def test_a_worker_sees_when_the_supervisor_is_gone(tmp_path: Path) -> None:
    async def scenario(scene: Scene) -> None:
        await until(lambda: len(scene.ready()) == 1)
        (worker,) = scene.supervisor.workers
        worker.pipe.shutdown(socket.SHUT_RDWR)  # what the system does for one that is gone
        await until(lambda: worker not in scene.supervisor.workers)
        scene.supervisor.stop()

    assert play(tmp_path, scenario, workers=1)[0] == 0
