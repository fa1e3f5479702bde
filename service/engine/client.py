"""An engine as a front sees it: images in, answers out, whatever becomes of its process.

An image stays in its slot until it is answered. Where the engine dies, the front connects to the one that takes its place, and
asks once more for all that somebody still waits for. An image that was being computed when two engines died fails alone.
"""

import asyncio
import heapq
import logging
import math
import os
import socket
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import msgspec
import numpy as np

from models.image.preprocess import Pixels
from models.package.manifest import Manifest
from service.engine import ipc, messages
from service.engine.board import Board
from service.engine.high_water import HighWater
from service.engine.ipc import MessageSocket
from service.engine.messages import Ready
from service.engine.slots import COUNT, DONE, FAILED, LATE, NUMBER, SKIPPED, Slots
from service.errors import DeadlineExceeded, OutOfMemory
from service.inference.admission import AHEAD
from service.inference.batcher import BULK, INTERACTIVE, SPARE, Reason
from service.inference.class_map import LIKELIEST
from service.inference.job import Job

STRIKES = 2  # engines that died while they computed an image; then it fails
READ = 2**16  # bytes that are read at a time
KEPT = 64  # slots whose memory is kept
ERRORS = {kind.__name__: kind for kind in (OutOfMemory,)}
log = logging.getLogger("hubel")


class EngineError(Exception):
    """The version cannot be used; ``str()`` says why."""


@dataclass(frozen=True)
class Attachment:
    """Where a front finds its first engine; its place on the board, among ``fronts``."""

    address: str
    board: Board
    place: int = 0
    fronts: int = 1


class EngineClient:
    """Made by ``connect``. manifest, provider, precision, skipped_backends: of the engine's session. unexplained: why it gives
    no class maps.

    observe: called with size and seconds of every batch in which an image of this front was the first. drop: called with the
    reason for every image that was not computed. changed: called when an engine took the place of another. lost: called for
    each image that failed as engines died.
    """

    def __init__(self, address: str, end: socket.socket, ready: Ready, count: int) -> None:
        self.address = address
        self.slots, self.handle = Slots.make(count, ready.manifest)
        self.free = list(range(count))  # a heap: the first is taken, so that few are ever touched
        self.waiters: deque[asyncio.Future[None]] = deque()  # for a free one
        self.jobs: dict[int, Job] = {}
        self.filled: list[int] = []  # slots that the engine is to be told of
        self.used = 0  # the first so many were in use since the last upkeep
        self.touched = HighWater(KEPT)  # they have memory
        self.unsent, self.unread = b"", b""
        self.greeted = True  # the engine of now has said what it is
        self.planned = self.writing = False
        self.closed = False
        self.loop: asyncio.AbstractEventLoop | None = None
        self.observe: Callable[[int, float], object] = lambda size, seconds: None
        self.drop: Callable[[Reason], object] = lambda reason: None
        self.changed: Callable[[], object] = lambda: None
        self.lost: Callable[[], object] = lambda: None
        self._take_ready(ready)
        self._begin(end)

    @classmethod
    def connect(cls, address: str, count: int, seconds: float) -> "EngineClient":
        """To the engine at an address, which may still be loading, with slots for ``count`` images that wait, and two batches.
        Raises EngineError."""
        try:
            end = ipc.connect(address)
        except OSError as err:
            raise EngineError(f"its process cannot be spoken to: {err.strerror}") from err
        try:
            ready = messages.READY.decode(MessageSocket(end).receive(seconds))
            return cls(address, end, ready, count + AHEAD * ready.max_batch)
        except (EOFError, TimeoutError) as err:
            end.close()
            raise EngineError("its process ended, or was not ready in time") from err
        except (OSError, msgspec.DecodeError) as err:
            end.close()
            raise EngineError(f"its process cannot be spoken to: {err}") from err

    def _take_ready(self, ready: Ready) -> None:
        self.manifest: Manifest = ready.manifest
        self.provider, self.precision = ready.provider, ready.precision
        self.skipped_backends, self.unexplained = ready.skipped_backends, ready.unexplained
        self.place, self.loaded_at, self.max_batch = ready.place, ready.loaded_at, ready.max_batch

    def _begin(self, end: socket.socket) -> None:
        """Hand the slots to the engine of now."""
        self.socket = end
        end.setblocking(False)
        socket.send_fds(end, [self.slots.layout.count.to_bytes(COUNT)], [self.handle])

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """From now on answers are taken in this event loop, in which all other methods are called."""
        self.loop = loop
        loop.add_reader(self.socket, self._receive)

    async def submit(
        self, pixels: Pixels, outputs: tuple[str, ...], deadline: float, bulk: bool = False, target: int = LIKELIEST
    ) -> Job:
        """Have one image computed: the job, with its answer, one row of each output. target: the class of a class map.

        Raises:
            DeadlineExceeded: ``deadline`` (time.perf_counter) passed before it was computed.
            OutOfMemory, EngineError: it could not be.
        """
        return await self._ask(pixels, outputs, deadline, BULK if bulk else INTERACTIVE, target)

    async def spare(self, pixels: Pixels, outputs: tuple[str, ...]) -> Job | None:
        """Have one image computed that nobody waits for; None where there is no time for it."""
        job = await self._ask(pixels, outputs, math.inf, SPARE)
        return None if job.answer.result() is None else job

    async def _ask(self, pixels: Pixels, outputs: tuple[str, ...], deadline: float, lane: int, target: int = LIKELIEST) -> Job:
        loop = asyncio.get_running_loop()
        while not self.free and not self.closed:
            self.waiters.append(waiter := loop.create_future())
            await waiter
        if self.closed:
            raise EngineError("it is not in memory any more")
        slot = heapq.heappop(self.free)
        job = Job(pixels, outputs, loop.create_future(), time.perf_counter(), target=target)
        self.slots.ask(slot, pixels, self.slots.bits(outputs), job.queued, deadline, lane, target)
        self.jobs[slot] = job
        self.used = max(self.used, slot + 1)
        self.filled.append(slot)
        if not self.planned:
            self.planned = True
            loop.call_soon(self._tell)  # what comes in this turn of the loop goes along
        try:
            await job.answer
        except asyncio.CancelledError:
            if self.jobs.get(slot) is job:
                self.slots.cancel(slot)  # and free once the engine has said so
            raise
        return job

    def _tell(self) -> None:
        self.planned = False
        if self.closed:
            return
        numbers, self.filled = np.array(self.filled, NUMBER).tobytes(), []
        self._send(numbers)

    def _send(self, data: bytes) -> None:
        self.unsent += data
        with suppress(BlockingIOError, ConnectionError):  # the latter is seen where answers are read
            self.unsent = self.unsent[self.socket.send(self.unsent) :]
        if bool(self.unsent) != self.writing and self.loop is not None:
            self.writing = bool(self.unsent)
            if self.writing:
                self.loop.add_writer(self.socket, self._send, b"")
            else:
                self.loop.remove_writer(self.socket)

    def _receive(self) -> None:
        try:
            data = self.socket.recv(READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._reconnect()
            return
        data = self.unread + data
        if not self.greeted:
            data = self._take_greeting(data)
        end = len(data) // NUMBER.itemsize * NUMBER.itemsize if self.greeted else 0
        self.unread = data[end:]
        for slot in np.frombuffer(data[:end], NUMBER).tolist():
            self._finish(slot)
        self._wake()

    def _take_greeting(self, data: bytes) -> bytes:
        """What the engine says of itself comes before answers; the rest of the data."""
        greeting, rest = ipc.split(data)
        if greeting is not None:
            self._take_ready(messages.READY.decode(greeting))
            self.greeted = True
            self.changed()
        return rest

    def _finish(self, slot: int) -> None:
        """The engine is done with a slot."""
        began, ended, together, passed, status = self.slots.answer(slot)
        if passed:
            self.observe(passed, ended - began)
        job = self.jobs.pop(slot)
        if status in (DONE, FAILED):
            job.queue_seconds, job.infer_seconds = max(0.0, began - job.queued), ended - began
            job.began, job.together = began, together
        elif status != SKIPPED:
            self.drop("deadline" if status == LATE else "disconnected")
        if not job.answer.done():
            if status == DONE:
                job.answer.set_result(self.slots.row(slot, job.outputs))
            elif status == SKIPPED:
                job.answer.set_result(None)
            elif status == FAILED:
                job.answer.set_exception(self._error(slot))
            else:
                seconds = time.perf_counter() - job.queued
                job.answer.set_exception(DeadlineExceeded(f"the image waited {seconds:.1f} s and was not computed"))
        heapq.heappush(self.free, slot)

    def _error(self, slot: int) -> Exception:
        kind, _, reason = self.slots.text(slot).partition("\n")
        return ERRORS.get(kind, RuntimeError)(reason)

    def _wake(self) -> None:
        """Let those go on that wait for a slot."""
        for _ in range(min(len(self.free), len(self.waiters))):
            waiter = self.waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)

    def _drop_socket(self) -> None:
        if self.loop is not None:
            self.loop.remove_reader(self.socket)
            self.loop.remove_writer(self.socket)
        self.socket.close()
        self.unsent, self.unread, self.writing, self.greeted = b"", b"", False, False

    def _reconnect(self) -> None:
        """The engine is gone: all that somebody still waits for is asked of the next, once it is there."""
        self._drop_socket()
        self.filled = []
        for slot, job in list(self.jobs.items()):
            strikes = self.slots.strike(slot)
            if not job.answer.done() and strikes < STRIKES:
                self.filled.append(slot)
                continue
            if not job.answer.done():
                log.error("an image is not computed: %d engines died while they did", strikes)
                self.lost()
                job.answer.set_exception(EngineError(f"{strikes} engines died while they computed this image"))
            self.jobs.pop(slot)
            heapq.heappush(self.free, slot)
        try:
            if self.closed:
                raise EngineError("it is not in memory any more")
            self._begin(ipc.connect(self.address))
        except (OSError, EngineError) as err:
            self.socket.close()  # one that was there for a moment, or that of before
            self._fail(f"its process is gone and no other takes its place: {err}")
            return
        assert self.loop is not None
        self.loop.add_reader(self.socket, self._receive)
        self._tell()
        self._wake()

    def _fail(self, reason: str) -> None:
        """Nothing can be computed any more."""
        self.closed = True
        for slot, job in list(self.jobs.items()):
            if not job.answer.done():
                job.answer.set_exception(EngineError(reason))
            heapq.heappush(self.free, slot)
        self.jobs.clear()
        self._wake()

    def upkeep(self) -> int:
        """Is due about once a second: give back memory that a rush has taken, once it is over for some turns. Returns how many
        images there were at once, about, since the turn before.
        """
        used, self.used = self.used, max(self.jobs, default=-1) + 1
        if (keep := self.touched.turn(used)) is not None:
            self.slots.give_back(keep)
        return used

    def close(self) -> None:
        """Leave the engine; what is still asked for is not computed."""
        if not self.closed:
            self._fail("it is not in memory any more")
            self._drop_socket()
        if self.handle >= 0:
            os.close(self.handle)
            self.handle = -1
