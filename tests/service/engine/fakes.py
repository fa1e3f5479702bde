"""An engine in a thread of the test, with a network of a few lines, in the place of one in a process of its own."""

import socket
import threading
import time
from collections.abc import Callable, Sequence

import numpy as np

from models.image.preprocess import Pixels
from models.image.spec import InputSpec
from models.package.head import Head, Linear, Unexplained
from service.engine import ipc
from service.engine.board import Board
from service.engine.ipc import MessageSocket
from service.engine.messages import Load
from service.engine.server import EngineServer
from service.inference.batcher import Arrays
from tests.factories import make_manifest

LATE = 10.0  # seconds after which a test has hung
SPEC = InputSpec(height=8, width=8, resize=8)
POISON, DEADLY = 13, 66
NAN = 77
BLOCKED = 99  # holds the network until its gate opens


# Class c goes by channel c alone.
HEAD = Head(True, [Linear(np.eye(3, 4, dtype=np.float32), np.zeros(3, np.float32))], (4, 2, 2))


class Session:
    """``features`` of image n are four times n, its ``logits`` are (-n, n, 0); its ``feature_map`` has n in a place of each
    channel, and is no number where n is NAN."""

    provider, precision = "CPU", "fp32"

    def __init__(self) -> None:
        self.manifest = make_manifest(input=SPEC)
        self.skipped_backends: list[str] = []
        self.seconds_per_image = 0.0
        self.sizes = (1, 2, 4, 8)
        self.batches: list[list[int]] = []
        self.asked: list[set[str]] = []  # outputs, of each batch
        self.busy, self.gate = threading.Event(), threading.Event()
        self.deadly = True

    def batch(self, n: int) -> Pixels:
        return np.empty((n, 8, 8, 3), np.uint8)

    def run(self, images: Pixels, outputs: Sequence[str]) -> Arrays:
        numbers = [int(pixels[0, 0, 0]) for pixels in images]
        self.batches.append(numbers)
        self.asked.append(set(outputs))
        if BLOCKED in numbers:
            self.busy.set()
            assert self.gate.wait(LATE)
        if DEADLY in numbers and self.deadly:
            raise Dead
        if POISON in numbers:
            raise ValueError("poison")
        values = np.array(numbers, np.float32)
        every = {"features": np.stack([values] * 4, axis=1), "logits": np.stack([-values, values, 0 * values], axis=1)}
        every["feature_map"] = places = np.zeros((len(values), 4, 2, 2), np.float32)
        for channel in range(4):
            places[:, channel, channel // 2, channel % 2] = np.where(values == NAN, np.nan, values)
        return {name: every[name] for name in outputs}


class Dead(BaseException):
    """What ends an engine in a thread as SIGKILL ends a process: without a word."""


class Engines:
    """An address, at which one engine after the other is found. sessions: of those that have been there."""

    def __init__(self) -> None:
        self.listener, self.address = ipc.listen()
        self.board = Board.make()
        self.sessions: list[Session] = []
        self.servers: list[EngineServer] = []
        self.threads: list[threading.Thread] = []
        self.controls: list[socket.socket] = []

    def start(self, session: Session | None = None, head: Head | Unexplained = HEAD) -> Session:
        session = session or Session()
        ours, theirs = socket.socketpair()
        request = Load("", "cpu", "auto", 1, "", 8)
        ends = self.listener.dup(), MessageSocket(theirs)
        server = EngineServer(*ends, session, self.board.engine(0), request, head=head)  # type: ignore[arg-type]
        thread = threading.Thread(target=self._run, args=(server, theirs))
        for found, kept in ((session, self.sessions), (server, self.servers), (thread, self.threads), (ours, self.controls)):
            kept.append(found)  # type: ignore[arg-type]
        thread.start()
        return session

    def _run(self, server: EngineServer, control: socket.socket) -> None:
        try:
            server.run()
        except Dead:
            for front in server.fronts:
                front.socket.close()
        server.selector.close()
        server.listener.close()
        control.close()

    def wait(self) -> None:
        """Until the last engine has ended."""
        self.threads[-1].join(LATE)
        assert not self.threads[-1].is_alive()

    def close(self) -> None:
        """End all; fronts have to be gone."""
        self.listener.close()
        for session in self.sessions:
            session.gate.set()
        for control in self.controls:
            control.close()
        for thread in self.threads:
            thread.join(LATE)
        assert not any(thread.is_alive() for thread in self.threads)


def image(number: int) -> Pixels:
    return np.full((8, 8, 3), number, np.uint8)


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + LATE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)
