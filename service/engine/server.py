"""The process that computes one version on one device: its session, its queue and its batches, for all fronts.

One thread does everything in turn: take what the fronts have sent, compute the next batch, answer. While it computes, what
comes waits in the sockets; nothing shares Python's interpreter with it.
"""

import gc
import logging
import os
import selectors
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np

from models.image.preprocess import Pixels
from models.package import head as heads
from models.package.head import Head, Unexplained
from models.package.manifest import PackageError
from service.engine import messages
from service.engine.board import Board, EngineRow
from service.engine.ipc import MessageSocket, cut, frame, is_ours
from service.engine.messages import Activate, Failed, Load, Loaded, Ready
from service.engine.slots import COUNT, DONE, FAILED, GONE, LATE, NUMBER, SKIPPED, Layout, Slots
from service.errors import OutOfMemory
from service.inference.backends.choice import DeviceError, DeviceLost
from service.inference.batcher import Arrays, Batcher, Reason
from service.inference.class_map import CLASS_MAP, NEEDED, class_map
from service.inference.session import OnnxSession
from service.telemetry.log import set_up

BEAT_SECONDS = 0.25  # between two signs of life, at most, while nothing comes
UNSENT = 2**20  # bytes that a front may leave unread; then it is let go
NO_HEAD = Unexplained("nothing is known of its head")
log = logging.getLogger("hubel")


class Front:
    """A front that has connected: its socket, and its slots once it has sent them."""

    def __init__(self, end: socket.socket) -> None:
        self.socket = end
        self.slots: Slots | None = None
        self.unread = b""
        self.unsent = b""
        self.finished: list[int] = []  # slots whose answers are to be told
        self.gone = False


class SlotJob:
    """An image in a slot of a front. head: of the network, of which class maps are made; None where there are none."""

    def __init__(self, front: Front, slots: Slots, slot: int, head: Head | None = None) -> None:
        self.front = front
        self.slots = slots
        self.slot = slot
        self.head = head
        _, self.deadline, wanted, self.lane, strikes, self.target = slots.asked(slot)
        self.suspect = strikes > 0
        self.wanted = tuple(name for bit, name in enumerate(slots.names) if wanted >> bit & 1)
        self.outputs = self.wanted
        if CLASS_MAP in self.wanted and head is not None:
            self.outputs = tuple({*self.wanted, *NEEDED} - {CLASS_MAP})
        self.pixels: Pixels = slots.pixels[slot]

    def cancelled(self) -> bool:
        return self.front.gone or self.slots.cancelled(self.slot)

    def begin(self) -> None:
        self.slots.begin(self.slot)

    def drop(self, reason: Reason | None) -> None:
        self._finish({"deadline": LATE, "disconnected": GONE, None: SKIPPED}[reason])

    def answer(self, row: Arrays, began: float, ended: float, together: int, first: bool) -> None:
        if CLASS_MAP in self.wanted and self.head is not None:
            try:
                row[CLASS_MAP] = class_map(self.head, row, self.target)
            except Exception as err:  # as of a network that gives no numbers: this image alone fails
                self.fail(err)
                return
            ended = time.perf_counter()
        for name in self.wanted:
            self.slots.put(self.slot, name, row[name])
        self._finish(DONE, began, ended, together, together if first else 0)

    def fail(self, error: Exception) -> None:
        told = explain(error)
        self.slots.say(self.slot, f"{told.kind}\n{told.reason}")
        self._finish(FAILED)

    def _finish(self, status: int, began: float = 0.0, ended: float = 0.0, together: int = 0, passed: int = 0) -> None:
        self.slots.finish(self.slot, status, began, ended, together, passed)
        self.front.finished.append(self.slot)


class EngineServer:
    """Computes what fronts that connect to ``listener`` ask of ``session``, until nobody may ask any more: the supervisor, at
    the other end of ``control``, has gone or closed it, and so have all fronts. activate: called when it says so. head: what
    class maps are made of, or why there are none. coming: as of ``Batcher``.
    """

    def __init__(
        self,
        listener: socket.socket,
        control: MessageSocket,
        session: OnnxSession,
        row: EngineRow,
        request: Load,
        activate: Callable[[], object] = lambda: None,
        head: Head | Unexplained = NO_HEAD,
        coming: Callable[[], int] = lambda: 0,
    ) -> None:
        self.listener = listener
        self.control = control
        self.session = session
        self.row = row
        self.activate = activate
        self.head = head if isinstance(head, Head) else None
        self.batcher = Batcher(
            self._infer,
            max_batch=session.sizes[-1],
            max_wait=request.max_wait,
            room=session.batch,
            coming=coming,
            guess=session.seconds_per_image,
        )
        row.end(self.batcher.seconds_per_image, self.batcher.spare_from)
        self.fronts: set[Front] = set()
        self.ending = False
        what = (session.provider, str(session.precision), [cut(way) for way in session.skipped_backends])
        unexplained = "" if self.head else cut(str(head))
        self.greeting = frame(Ready(session.manifest, *what, request.place, time.time(), session.sizes[-1], unexplained))
        self.selector = selectors.DefaultSelector()
        listener.setblocking(False)
        self.selector.register(listener, selectors.EVENT_READ, self._accept)
        self.selector.register(control.socket, selectors.EVENT_READ, self._hear)

    def run(self) -> None:
        while not (self.ending and not self.fronts):
            self.turn()

    def turn(self) -> None:
        """Take what has come, for which it waits where there is nothing to do; compute a batch where one is due."""
        wait = self.batcher.due(time.perf_counter())
        for key, events in self.selector.select(min(wait, BEAT_SECONDS)):
            key.data(events)
        now = time.perf_counter()
        self.row.beat(now)
        if self.batcher.due(now) == 0.0:
            self.row.begin(now)
            self.batcher.run()
            self.row.end(self.batcher.seconds_per_image, self.batcher.spare_from)
        for front in [front for front in self.fronts if front.finished]:
            self._answer(front)

    def _infer(self, images: Pixels, outputs: tuple[str, ...]) -> Arrays:
        try:
            return self.session.run(images, outputs)
        except DeviceLost:
            log.critical("the GPU failed, this process ends; what it had is computed by the next")
            os._exit(1)

    def _accept(self, _: int) -> None:
        with suppress(OSError):  # nobody is there any more
            end, _address = self.listener.accept()
            if not is_ours(end):
                end.close()
                return
            end.setblocking(False)
            front = Front(end)
            self.fronts.add(front)
            self.selector.register(end, selectors.EVENT_READ, lambda events: self._serve(front, events))
            self._send(front, self.greeting)

    def _hear(self, _: int) -> None:
        """What the supervisor says: that it answers from now on, or that it is to end."""
        try:
            if isinstance(messages.TO_ENGINE.decode(self.control.receive(1.0)), Activate):
                self.activate()
        except (EOFError, OSError, msgspec.DecodeError):
            self.selector.unregister(self.control.socket)
            self.ending = True
            self._accept_rest()

    def _accept_rest(self) -> None:
        """Fronts that have connected by now are served."""
        before = -1
        while before != len(self.fronts):
            before = len(self.fronts)
            self._accept(0)
        self.selector.unregister(self.listener)
        self.listener.close()

    def _serve(self, front: Front, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            self._send(front, b"")
        if events & selectors.EVENT_READ and not front.gone:
            try:
                self._take(front)
            except BlockingIOError:
                return
            except (OSError, EOFError, ValueError) as err:
                self._let_go(front, err)

    def _take(self, front: Front) -> None:
        """The numbers of slots that a front has filled. Raises EOFError where it is gone, ValueError where it talks nonsense."""
        if front.slots is None:
            data, handles, *_ = socket.recv_fds(front.socket, COUNT, 1)
            if not data:
                raise EOFError
            if len(data) != COUNT or not handles:
                raise ValueError("it did not begin with its slots")
            with os.fdopen(handles[0]):
                front.slots = Slots(handles[0], Layout.of(int.from_bytes(data), self.session.manifest))
            return
        data = front.unread
        with suppress(BlockingIOError):
            while True:  # to see too that it is gone, before its images are computed
                if not (more := front.socket.recv(2**16)):
                    raise EOFError
                data += more
        end = len(data) // NUMBER.itemsize * NUMBER.itemsize
        front.unread = data[end:]
        now = time.perf_counter()
        for slot in np.frombuffer(data[:end], NUMBER).tolist():
            if slot >= front.slots.layout.count:
                raise ValueError(f"it speaks of slot {slot}, it has {front.slots.layout.count}")
            self.batcher.put(SlotJob(front, front.slots, slot, self.head), now)

    def _answer(self, front: Front) -> None:
        numbers = np.array(front.finished, NUMBER).tobytes()
        front.finished.clear()
        self._send(front, numbers)

    def _send(self, front: Front, data: bytes) -> None:
        """What a front does not take now goes later; one that takes nothing is let go, and its images with it."""
        if front.gone:
            return
        front.unsent += data
        try:
            front.unsent = front.unsent[front.socket.send(front.unsent) :]
        except BlockingIOError:
            pass
        except OSError as err:
            self._let_go(front, err)
            return
        if len(front.unsent) > UNSENT + len(self.greeting):
            self._let_go(front, TimeoutError("it does not read its answers"))
            return
        more = selectors.EVENT_WRITE if front.unsent else 0
        key = self.selector.get_key(front.socket)
        if key.events != selectors.EVENT_READ | more:
            self.selector.modify(front.socket, selectors.EVENT_READ | more, key.data)

    def _let_go(self, front: Front, error: Exception) -> None:
        if not isinstance(error, EOFError | ConnectionError):
            log.error("a front is let go: %s", error)
        front.gone = True
        self.fronts.discard(front)
        self.selector.unregister(front.socket)
        front.socket.close()
        self.batcher.forget(lambda job: isinstance(job, SlotJob) and job.front is front)


def explain(error: Exception) -> Failed:
    """Why a version cannot be had, or an image not be computed, for people."""
    if isinstance(error, PackageError | DeviceError | OutOfMemory | DeviceLost):
        return Failed(type(error).__name__, cut(str(error)))
    if isinstance(error, MemoryError) or "bad_alloc" in str(error):
        return Failed("OutOfMemory", "there is no memory left for it")
    first = next(iter(str(error).splitlines()), "")
    return Failed(type(error).__name__, cut(f"{type(error).__name__}: {first}"))


def load(request: Load, rest: float) -> OnnxSession:
    """rest: seconds without work for each second of warming up, where another version answers meanwhile."""
    began = time.perf_counter()
    key = Path(request.key) if request.key else None
    session = OnnxSession(Path(request.folder), request.device, request.precision, request.threads, key, request.gpu_memory)
    session.warm(request.max_batch, rest, brief=request.again or request.aside)
    what = (session.manifest.id, session.provider, session.precision, request.threads, time.perf_counter() - began)
    log.info("loaded %s on %s in %s, %d threads, in %.1f s", *what)
    return session


def read_head(session: OnnxSession) -> Head | Unexplained:
    """Raises PackageError where the package was changed."""
    try:
        return heads.read(session.folder, session.manifest)
    except Unexplained as err:
        return err


def serve(listener: socket.socket, control: MessageSocket, board: Board, rest: float, activate: Callable[[], object]) -> int:
    """Load what the supervisor asks for, and compute it until nobody may ask any more; the exit code."""
    with suppress(EOFError, BrokenPipeError):
        request = messages.TO_ENGINE.decode(control.receive())
        assert isinstance(request, Load)
        set_up(request.log_level, request.log)
        try:
            session = load(request, rest)
            head = read_head(session)
        except Exception as err:
            control.send(explain(err))
            return 1
        gc.freeze()
        row = board.engine(request.place)
        row.clear()
        row.beat(time.perf_counter())
        coming = board.coming if session.on_cores else lambda: 0  # a GPU need not leave the cores to those that decode
        server = EngineServer(listener, control, session, row, request, activate, head, coming)
        control.send(Loaded())
        server.run()
    return 0
