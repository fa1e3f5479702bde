"""An engine: what a process of its own computes and refuses, when it ends, and which fronts it lets go."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from models.package.manifest import MODEL
from service.engine import ipc, server
from service.engine.board import Board
from service.engine.client import EngineClient, EngineError
from service.engine.ipc import MessageSocket
from service.engine.messages import Load
from service.engine.slots import COUNT, NUMBER, Slots
from service.engine.start import OwnEngine
from service.errors import OutOfMemory
from service.inference.backends.choice import DeviceLost
from service.inference.job import Job
from service.inference.session import OnnxSession
from tests.factories import LABELS, make_manifest, make_package, make_picture, run_onnx
from tests.server import runs
from tests.service.engine.fakes import BLOCKED, LATE, SPEC, Engines, image, until

IMAGES = np.stack([np.asarray(make_picture(32, 32, color=color)) for color in LABELS])
GHOST = """
import socket, sys, time
control = socket.socket(fileno=int(sys.argv[3]))
if sys.argv[1] == "nonsense":
    control.sendall(b"\\0\\0\\0\\x03abc")
if sys.argv[1] == "endless":
    control.sendall(b"\\xff\\xff\\xff\\xff")
sys.exit(3)
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("engine") / "store"
    make_package(store, graph={"poison": True})
    make_package(store, golden_error=1.0)
    return store


def request(store: Path, version: int = 1) -> Load:
    return Load(str(store / "tiny" / str(version)), "cpu", "auto", 1, "", 8)


@pytest.fixture(scope="module")
def own(store: Path) -> Iterator[OwnEngine]:
    own = OwnEngine(request(store))
    yield own
    own.close()
    assert own.process.returncode == 0


def compute(
    own: OwnEngine, images: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]", *outputs: str
) -> list[Job | BaseException]:
    async def run() -> list[Job | BaseException]:
        client = EngineClient.connect(own.address.name, 16, LATE)
        client.attach(asyncio.get_running_loop())
        asked = (client.submit(pixels, outputs, time.perf_counter() + LATE) for pixels in images)
        try:
            return await asyncio.gather(*asked, return_exceptions=True)
        finally:
            client.close()

    return asyncio.run(run())


def test_it_computes_what_the_graph_does(own: OwnEngine, store: Path) -> None:
    expected = run_onnx(store / "tiny/1" / MODEL, IMAGES)
    for count in (1, 3):
        for row, job in enumerate(compute(own, IMAGES[:count], "logits", "features")):
            assert isinstance(job, Job)
            for name in ("logits", "features"):
                assert job.row[name] == pytest.approx(expected[name][row], abs=1e-5)


def test_an_image_that_the_network_fails_on_fails_alone(own: OwnEngine) -> None:
    good, bad = compute(own, np.stack([IMAGES[0], np.full((32, 32, 3), 255, np.uint8)]), "logits")
    assert isinstance(good, Job)
    assert isinstance(bad, RuntimeError)


def test_one_that_is_not_what_it_promises_is_refused_with_the_reason(store: Path) -> None:
    with pytest.raises(EngineError, match="tiny:2 answers its golden inputs differently"):
        OwnEngine(request(store, 2))


@pytest.mark.parametrize("what", ["gone", "nonsense", "endless"])
def test_one_that_does_not_come_is_ended(store: Path, what: str) -> None:
    with pytest.raises(EngineError, match="its process ended, or was not ready in time"):
        OwnEngine(request(store), (sys.executable, "-c", GHOST, what))


def test_where_memory_is_short_it_goes_before_its_fronts(own: OwnEngine) -> None:
    ours = int(Path("/proc/self/oom_score_adj").read_text())
    assert ours < int(Path(f"/proc/{own.process.pid}/oom_score_adj").read_text()) < 1000


def test_it_ends_with_who_started_it_and_not_by_a_signal_meant_for_the_service(store: Path) -> None:
    program = (
        "import sys, time; from service.engine.messages import Load; from service.engine.start import OwnEngine\n"
        f"own = OwnEngine(Load({str(store / 'tiny/1')!r}, 'cpu', 'auto', 1, '', 8)); print(own.process.pid, flush=True)\n"
        "time.sleep(1000)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as owner:
        assert owner.stdout
        engine = int(owner.stdout.readline())
        os.kill(engine, signal.SIGTERM)
        os.kill(engine, signal.SIGINT)
        time.sleep(0.2)
        assert runs(engine)
        owner.kill()
    until(lambda: not runs(engine))


def greeted(engines: Engines) -> socket.socket:
    """A front of a few lines, to which the engine has said what it is."""
    end = ipc.connect(engines.address)
    MessageSocket(end).receive(LATE)
    return end


def test_it_goes_on_until_all_fronts_have_left_and_takes_no_more(engines: Engines) -> None:
    end = greeted(engines)
    engines.controls[0].close()
    until(lambda: engines.servers[0].ending)
    assert engines.threads[0].is_alive()
    end.close()
    engines.wait()


def test_a_front_that_connected_before_its_end_is_served(engines: Engines) -> None:
    engines.sessions[0].gate.clear()
    client = EngineClient.connect(engines.address, 4, LATE)

    async def scenario() -> None:
        client.attach(asyncio.get_running_loop())
        blocked = asyncio.ensure_future(client.submit(image(BLOCKED), ("features",), time.perf_counter() + LATE))
        await asyncio.to_thread(engines.sessions[0].busy.wait, LATE)
        waiting = ipc.connect(engines.address)  # it is not accepted yet
        engines.controls[0].close()
        engines.sessions[0].gate.set()
        await blocked
        assert await asyncio.to_thread(MessageSocket(waiting).receive, LATE)
        waiting.close()
        client.close()

    asyncio.run(scenario())
    engines.wait()


@pytest.mark.parametrize("what", ["no slots", "too small", "unknown slot"], ids=lambda what: what.replace(" ", "_"))
def test_a_front_that_talks_nonsense_is_let_go_and_others_go_on(
    engines: Engines, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    slots, handle = Slots.make(4, make_manifest(input=SPEC))
    with greeted(engines) as end:
        end.settimeout(LATE)
        if what == "no slots":
            end.sendall(b"\0\0\0\4")
        else:
            socket.send_fds(end, [(400 if what == "too small" else 4).to_bytes(COUNT)], [handle])
        with suppress(ConnectionError):  # it may be let go by now
            if what == "unknown slot":
                end.sendall(NUMBER.type(slots.layout.count).tobytes())
            assert end.recv(1) == b""
    os.close(handle)
    assert "a front is let go" in caplog.text
    EngineClient.connect(engines.address, 4, LATE).close()


def test_a_front_that_does_not_read_its_answers_is_let_go(engines: Engines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "UNSENT", 10)
    engines.servers[0].greeting = bytes(2**22)
    end = ipc.connect(engines.address)
    until(lambda: engines.servers[0].fronts)
    (front,) = engines.servers[0].fronts
    until(lambda: front.unsent)
    front.unsent += bytes(2**23)
    slots, handle = Slots.make(4, make_manifest(input=SPEC))
    socket.send_fds(end, [(4).to_bytes(COUNT)], [handle])
    slots.ask(0, image(1), 1, 0.0, time.perf_counter() + LATE, 0)
    end.sendall(b"\0\0")
    until(lambda: front.gone)
    os.close(handle)
    end.close()


def test_images_of_a_front_that_is_gone_are_not_computed(engines: Engines) -> None:
    session = engines.sessions[0]
    client = EngineClient.connect(engines.address, 4, LATE)
    other, handle = Slots.make(4, client.manifest)

    async def scenario() -> None:
        client.attach(asyncio.get_running_loop())
        with greeted(engines) as end:
            socket.send_fds(end, [(4).to_bytes(COUNT)], [handle])
            blocked = asyncio.ensure_future(client.submit(image(BLOCKED), ("features",), time.perf_counter() + LATE))
            await asyncio.to_thread(session.busy.wait, LATE)
            other.ask(0, image(1), 1, 0.0, time.perf_counter() + LATE, 0)
            end.sendall(b"\0\0")
        session.gate.set()
        await blocked
        await client.submit(image(2), ("features",), time.perf_counter() + LATE)
        client.close()

    asyncio.run(scenario())
    os.close(handle)
    assert [1] not in session.batches


def test_it_says_on_the_board_that_it_lives_and_what_it_learnt(engines: Engines) -> None:
    row = engines.board.engine(0)
    until(lambda: row.alive)
    before = row.alive
    until(lambda: row.alive > before)  # while nothing comes
    client = EngineClient.connect(engines.address, 4, LATE)

    async def scenario() -> None:
        client.attach(asyncio.get_running_loop())
        blocked = asyncio.ensure_future(client.submit(image(BLOCKED), ("features",), time.perf_counter() + LATE))
        await asyncio.to_thread(engines.sessions[0].busy.wait, LATE)
        assert engines.board.computing()
        assert row.seconds_per_image == 0
        engines.sessions[0].gate.set()
        await blocked
        client.close()

    asyncio.run(scenario())
    until(lambda: not engines.board.computing())
    assert row.seconds_per_image > 0


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (OutOfMemory("the GPU has no memory left"), "OutOfMemory", "the GPU has no memory left"),
        (DeviceLost("the GPU failed"), "DeviceLost", "the GPU failed"),
        (MemoryError(), "OutOfMemory", "there is no memory left for it"),
        (RuntimeError("std::bad_alloc"), "OutOfMemory", "there is no memory left for it"),
        (ValueError("one\ntwo"), "ValueError", "ValueError: one"),
        (KeyError(), "KeyError", "KeyError: "),
    ],
)
def test_an_error_of_any_kind_is_told_in_a_line(error: Exception, kind: str, reason: str) -> None:
    told = server.explain(error)
    assert (told.kind, told.reason) == (kind, reason)


def test_a_lost_device_ends_the_process_without_an_answer(engines: Engines, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []

    def lose(images: object, outputs: object) -> None:
        raise DeviceLost("the GPU failed")

    monkeypatch.setattr(server.os, "_exit", ended.append)
    engines.sessions[0].run = lose  # type: ignore[assignment,method-assign]
    engines.servers[0]._infer(IMAGES, ("logits",))  # pyright: ignore[reportPrivateUsage]
    assert ended == [1]


def test_a_board_that_another_process_opens_shows_the_same() -> None:
    board = Board.make()
    board.numbers(0)[3] = 7
    program = "import sys; from service.engine.board import Board; print(Board(int(sys.argv[1])).numbers(0)[3])"
    command = [sys.executable, "-c", program, str(board.handle)]
    shown = subprocess.run(command, pass_fds=[board.handle], capture_output=True, text=True, check=True, timeout=60)
    assert shown.stdout == "7.0\n"


@pytest.mark.parametrize(
    ("aside", "again", "sizes"), [(False, False, [4, 3, 2, 1]), (True, False, [4, 1]), (False, True, [4, 1])]
)
def test_an_engine_that_others_wait_for_is_warmed_briefly(
    store: Path, aside: bool, again: bool, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[int] = []
    monkeypatch.setattr(OnnxSession, "_run_empty", lambda _, size: ran.append(size))
    server.load(Load(str(store / "tiny" / "1"), "cpu", "auto", 1, "", 4, aside=aside, again=again), rest=0.0)
    assert ran == [*sizes, 1]
