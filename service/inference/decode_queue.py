"""Before stage decode: which image is decoded next, and how much at once. Counted in pixels and time, not in images.

An image's header says what its pixels may cost. Small images have threads of their own, in the order in which they come, and
where one is alone the event loop decodes it; those of bulk are decoded where the others are. The others wait in a line, and
small ones too where many come: whoever asks for little goes before those who ask for much, but not for ever; what takes long
leaves a thread free for what does not, and waits while the network has enough to do; and all together they hold no more memory
than they may. Work whose waiter is gone is dropped.
"""

import asyncio
import math
import os
import struct
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from models.errors import ImageError
from models.image import webp
from models.image.header import Header, count_scans, is_gathered
from models.image.limits import DECODED_BYTES, Limits
from models.image.preprocess import Pixels, denominator, preprocess
from models.image.spec import InputSpec
from service.errors import HubelError, Overloaded
from service.inference.batcher import Reason
from service.inference.decode import Work, inspect, make
from service.inference.heap import give_back_large_blocks

T = TypeVar("T")
Kind = Literal["jpeg", "gathered", "png", "deep", "webp"]

SMALL_PIXELS, SMALL_BYTES = 640 * 480, 1024 * 1024  # of an image that takes 30 ms at most, whatever is in it
TINY_PIXELS, TINY_BYTES = 128 * 128, 64 * 1024  # of one that takes 2 ms
ALONE_SECONDS = 0.008  # that the event loop itself decodes, at most, for whoever is alone
AT_ONCE_PIXELS, AT_ONCE_BYTES = 64 * 64, 8 * 1024  # of one that takes 0.3 ms
CROWDED_SECONDS = 0.05  # of small images that wait: then only tiny ones pass the line by
QUICK_SECONDS = 0.05  # what takes less goes on to the network as soon as a thread is free
LONG_SECONDS = 0.25  # what takes longer leaves one of the line's threads to what does not
PATIENCE = 4.0  # seconds that an image gives way for each second that it and those of its client before it take
HOLD_SECONDS = 1.0  # that an image waits for memory until no other may take what becomes free
ROOM_SECONDS = 0.02  # until the network is asked again whether it has room
NICER = 10  # than other threads, what decodes the line
FORGET_SECONDS = 60.0  # after which a pace that nothing has confirmed is no longer believed
PACES = (0.1, 20.0)  # bounds of what is learned, so that one odd image does not count for all


@dataclass(frozen=True)
class Cost:
    """Of decoding one kind of file: nanoseconds a pixel and a byte of the file, as measured on one machine, and the most
    bytes of memory a pixel, of which ``scaled`` only for the pixels that are left where a JPEG is decoded at a fraction.
    """

    pixel: float
    byte: float
    memory: int
    scaled: int = 0


COSTS: dict[Kind, Cost] = {
    "jpeg": Cost(10, 20, 0, 13),
    "gathered": Cost(20, 45, 8, 12),  # a JPEG whose coefficients are all held: progressive ones, mostly
    "png": Cost(10, 14, 12),
    "deep": Cost(25, 10, 14),  # a PNG of 16 bits, interlaced or with an alpha channel
    "webp": Cost(25, 8, 12 if webp.is_called() else 18),
}
SCAN = 0.5  # nanoseconds a pixel, for each scan of a JPEG
assert max(cost.memory + cost.scaled for cost in COSTS.values()) == DECODED_BYTES


@dataclass(eq=False)
class Plan:
    """One image before it is decoded. Times in seconds of time.perf_counter.

    small: whether it goes by the line; then nothing further is known of it. kind, cost: what it is, and the seconds that it
    would take on the machine of ``COSTS``. seconds: on this one, as predicted. size: bytes of memory that it may take.
    owner: who sent it. key: the line's order. began: when a thread took it, 0 before and after.
    """

    header: Header
    bytes: int
    kind: Kind = "jpeg"
    cost: float = 0.0
    seconds: float = 0.0
    size: int = 0
    owner: object = None
    key: float = 0.0
    came: float = 0.0
    deadline: float = math.inf
    began: float = 0.0
    work: "tuple[bytes, InputSpec, Work[Any]] | None" = None
    made: "asyncio.Future[Any] | None" = None

    @property
    def small(self) -> bool:
        return not self.size

    @property
    def quick(self) -> bool:
        """Whether it is in the line but takes little, by what is in it: threads that give way may need far longer."""
        return not self.small and self.cost <= QUICK_SECONDS

    @property
    def at_once(self) -> bool:
        """Whether to hand it to a thread would take as long as to decode it."""
        return self.header.pixels <= AT_ONCE_PIXELS and self.bytes <= AT_ONCE_BYTES


@dataclass
class Pace:
    """How much longer than on the machine of ``COSTS`` a kind takes here: a moving average, and when it was last measured."""

    factor: float = 1.0
    measured: float = field(default_factory=time.perf_counter)

    def now(self) -> float:
        return self.factor if time.perf_counter() - self.measured < FORGET_SECONDS else 1.0

    def learn(self, factor: float) -> None:
        least, most = PACES
        self.factor = self.now() + 0.2 * (min(max(factor, least), most) - self.now())
        self.measured = time.perf_counter()


class DecodeQueue:
    """Everything that this process decodes. Of one event loop.

    pool: decodes small images, in ``threads`` threads; as many and one more, which give way, decode the others, and bulk.
    max_bytes: of memory for the pixels of the others, at a time. max_images: in the line. max_seconds: that small and quick
    images may wait. room: whether the network can take more from the line than what is quick. drop: called with the reason for
    each image that was not decoded. changed: called with the images in the line, and the bytes being decoded into. refused:
    called for each request that is.
    """

    def __init__(
        self,
        pool: Executor,
        threads: int,
        limits: Limits,
        *,
        max_bytes: int,
        max_images: int,
        max_seconds: float,
        room: Callable[[], bool] = lambda: True,
        drop: Callable[[Reason], object] = lambda reason: None,
        changed: Callable[[int, int], object] = lambda waiting, held: None,
        refused: Callable[[], object] = lambda: None,
    ) -> None:
        self.pool = pool
        self.threads = threads
        self.limits = limits
        self.max_bytes = max_bytes
        self.max_images = max_images
        self.max_seconds = max_seconds
        self.room = room
        self.drop = drop
        self.changed = changed
        self.refused = refused
        self.line_pool = ThreadPoolExecutor(threads + 1, "decode large", give_way)
        self.bulk = asyncio.Semaphore(2 * threads)  # small images of bulk, so that others do not wait for all of them
        self.small = [0, 0]  # small images admitted: interactive, bulk
        self.small_seconds = 0.0  # that one takes, a moving average
        self.paces: dict[Kind, Pace] = {kind: Pace() for kind in COSTS}
        self.claims: set[Plan] = set()  # all that were admitted and are not decoded: they wait, run, or will be submitted soon
        self.quick_seconds = 0.0  # of those that are quick
        self.waiting: set[Plan] = set()
        self.running: set[Plan] = set()
        self.later: asyncio.TimerHandle | None = None  # when the network is asked again whether it has room
        self.held = 0  # bytes of those that run
        give_back_large_blocks()

    def plan(self, data: bytes, spec: InputSpec) -> Plan:
        """What decoding an image will take, by its header.

        Raises:
            UnsupportedFormat, ImageTooLarge, UndecodableImage.
        """
        header = inspect(data, self.limits)
        if header.pixels <= SMALL_PIXELS and len(data) <= SMALL_BYTES:
            tiny = header.pixels <= TINY_PIXELS and len(data) <= TINY_BYTES
            if tiny or not self._crowded():
                return Plan(header, len(data))
        kind, cost, size = weigh(data, header, spec)
        return Plan(header, len(data), kind, cost, cost * self.paces[kind].now(), min(size, self.max_bytes))

    def _crowded(self) -> bool:
        """Whether small images wait for long, or others that came before and take no longer do."""
        return sum(self.small) * self.small_seconds > CROWDED_SECONDS * self.threads or any(plan.quick for plan in self.waiting)

    def check(self, seconds: float = math.inf, bulk: bool = False) -> None:
        """Raises Overloaded where a small image would not be decoded within ``seconds``, or waits too long."""
        images = sum(self.small) if bulk else self.small[0]
        waiting = max(images * self.small_seconds, self.quick_seconds) / self.threads
        if waiting > min(seconds, self.max_seconds):
            raise self._overloaded(
                f"{images + len(self.claims)} images wait to be decoded", waiting, min(seconds, self.max_seconds)
            )

    @contextmanager
    def admit(
        self, plans: Iterable[Plan | HubelError], seconds: float = math.inf, owner: object = None, bulk: bool = False
    ) -> Generator[None]:
        """Hold places for the images of one request, whose answer is wanted within ``seconds``; raises Overloaded.

        owner: who sent it, where that is known; else everyone's requests count alone.
        """
        good = [plan for plan in plans if isinstance(plan, Plan)]
        large = [plan for plan in good if not plan.small]
        small = len(good) - len(large)
        if small:
            self.check(seconds, bulk)
        if large:
            self._place(large, seconds, owner or object())
        self.small[bulk] += small
        try:
            yield
        finally:
            self.small[bulk] -= small
            for plan in large:
                self._leave(plan)

    def _place(self, plans: Sequence[Plan], seconds: float, owner: object) -> None:
        """Give the images of one request their places in the line, if they will be decoded in time; raises Overloaded."""
        now = time.perf_counter()
        before = sum(plan.seconds for plan in self.claims if plan.owner == owner)
        own, longest = sum(plan.seconds for plan in plans), max(plan.seconds for plan in plans)
        last = now + PATIENCE * (before + own)
        ahead = sum(left(plan, now) for plan in self.claims if plan.began or plan.key <= last) / self.threads
        takes = ahead + (own - longest) / self.threads + (longest if self.claims else 0.0)  # what meets nobody may try
        limit = min(seconds, self.max_seconds) if all(plan.quick for plan in plans) else seconds
        if takes > limit or (self.claims and len(self.claims) + len(plans) > self.max_images):
            pixels = sum(plan.header.pixels for plan in plans) / 1e6
            what = f"{len(self.claims)} images wait to be decoded, before {len(plans)} more of {pixels:.1f} MP together"
            raise self._overloaded(what, ahead, limit, takes)
        for plan in plans:
            before += plan.seconds
            plan.owner, plan.key, plan.came, plan.deadline = owner, now + PATIENCE * before, now, now + seconds
            self.claims.add(plan)
            self.quick_seconds += plan.seconds * plan.quick

    def _forget(self, plan: Plan) -> None:
        """It is decoded, or will not be."""
        if plan in self.claims:
            self.claims.remove(plan)
            self.quick_seconds = self.quick_seconds - plan.seconds * plan.quick if self.claims else 0.0

    def _overloaded(self, what: str, ahead: float, seconds: float, takes: float | None = None) -> Overloaded:
        self.refused()
        retry = max(1, math.ceil(ahead))
        time_taken = f"{takes or ahead:.1f} s, and it is wanted within {seconds:.1f} s"
        return Overloaded(
            f"{what}, which takes {time_taken}; send smaller images or fewer at once, or try again in {retry} s", retry
        )

    def _leave(self, plan: Plan) -> None:
        """Nobody waits for it any more; what a thread has begun counts until it ends."""
        if plan in self.waiting:
            self.waiting.discard(plan)
            plan.work = None
            self.drop("deadline" if time.perf_counter() >= plan.deadline else "disconnected")
        if not plan.began:
            self._forget(plan)
        self._tell()

    async def run(self, data: bytes, plan: Plan, spec: InputSpec, bulk: bool = False) -> Pixels:
        """Pixels of an image that was admitted.

        Raises:
            UndecodableImage, OutOfMemory.
        """
        return await self.make(preprocess, data, plan, spec, bulk)

    async def make(self, work: Work[T], data: bytes, plan: Plan, spec: InputSpec, bulk: bool = False) -> T:
        """What ``work`` makes of the pixels of an image that was admitted, which takes about as long as to decode it."""
        if plan.at_once or self._is_alone(plan, data, spec):
            return make(work, data, spec, self.limits, plan.header)
        if not plan.small:
            return await self._run_in_line(data, plan, spec, work)
        loop = asyncio.get_running_loop()
        async with self.bulk if bulk else nullcontext():
            pool = self.line_pool if bulk else self.pool
            made, seconds = await loop.run_in_executor(pool, self._make, data, plan, spec, work)
        if not (bulk and self.small[0]):  # it gives way to these, and takes longer
            self.small_seconds += (0.1 if self.small_seconds else 1.0) * (seconds - self.small_seconds)
        return made

    def _is_alone(self, plan: Plan, data: bytes, spec: InputSpec) -> bool:
        """Whether nobody else is here who would wait while the event loop decodes an image, which saves the way to a thread."""
        if not plan.small or sum(self.small) > 1 or self.claims:
            return False
        kind, cost, _ = weigh(data, plan.header, spec)
        return kind == "jpeg" and cost <= ALONE_SECONDS

    async def aside(self, work: Callable[[], T]) -> T:
        """What something makes that is no decoding and takes about a tenth of a second, in one of the line's threads."""
        return await asyncio.get_running_loop().run_in_executor(self.line_pool, work)

    def _make(self, data: bytes, plan: Plan, spec: InputSpec, work: Work[T]) -> tuple[T, float]:
        """In a thread: what is made, and the seconds that it took."""
        began = time.perf_counter()
        made = make(work, data, spec, self.limits, plan.header)
        return made, time.perf_counter() - began

    async def _run_in_line(self, data: bytes, plan: Plan, spec: InputSpec, work: Work[T]) -> T:
        loop = asyncio.get_running_loop()
        plan.work, plan.made = (data, spec, work), loop.create_future()
        self.waiting.add(plan)
        self._begin(loop)
        return await plan.made

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Give the free threads to those who are first in the line and may begin."""
        room = not self.waiting or self.room()
        if not room:
            self.later = self.later or loop.call_later(ROOM_SECONDS, self._begin_later, loop)
        if len(self.running) <= self.threads:
            for plan in sorted(self.waiting, key=lambda plan: plan.key):
                now = time.perf_counter()
                if plan.deadline < now or (plan.made and plan.made.done()):
                    continue  # nobody waits for it, as will be seen in a moment
                if (room or plan.quick) and self._leaves_one_free(plan, now):
                    if self.held + plan.size <= self.max_bytes:
                        self._hand_over(plan, now, loop)
                    elif now - plan.came > HOLD_SECONDS:
                        break
                if len(self.running) > self.threads:
                    break
        self._tell()

    def _begin_later(self, loop: asyncio.AbstractEventLoop) -> None:
        self.later = None
        self._begin(loop)

    def _leaves_one_free(self, plan: Plan, now: float) -> bool:
        """Whether there is a thread for what takes long, by prediction or because it has run for long already."""
        long = sum(max(other.seconds, now - other.began) > LONG_SECONDS for other in self.running)
        return plan.seconds <= LONG_SECONDS or long < self.threads

    def _hand_over(self, plan: Plan, now: float, loop: asyncio.AbstractEventLoop) -> None:
        assert plan.work is not None
        data, spec, what = plan.work
        self.waiting.discard(plan)
        self.running.add(plan)
        self.held += plan.size
        plan.work, plan.began = None, now
        work = self.line_pool.submit(self._make, data, plan, spec, what)

        def end(work: Future[tuple[Any, float]]) -> None:
            try:
                loop.call_soon_threadsafe(self._end, plan, work, loop)
            except RuntimeError:  # the loop has ended, nobody waits
                return

        work.add_done_callback(end)

    def _end(self, plan: Plan, work: Future[tuple[Any, float]], loop: asyncio.AbstractEventLoop) -> None:
        """A thread is done with an image: answer, after the next one was handed over."""
        self.running.discard(plan)
        self._forget(plan)
        self.held -= plan.size
        plan.began = 0.0
        self._begin(loop)
        error = work.exception()
        if error is None:
            self.paces[plan.kind].learn(work.result()[1] / plan.cost)
        if plan.made is None or plan.made.done():
            return
        if error is None:
            plan.made.set_result(work.result()[0])
        else:
            plan.made.set_exception(error)

    def _tell(self) -> None:
        self.changed(len(self.claims) - len(self.running), self.held)

    def close(self) -> None:
        """End the line's threads once they are done with what they have."""
        self.line_pool.shutdown()


def give_way() -> None:
    """Let this thread have the processor after those that answer; on Linux alone each thread has a place of its own."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), min(19, os.nice(0) + NICER))


def left(plan: Plan, now: float) -> float:
    """Seconds that an image will take from now on."""
    return max(0.0, plan.seconds - (now - plan.began)) if plan.began else plan.seconds


def weigh(data: bytes, header: Header, spec: InputSpec) -> tuple[Kind, float, int]:
    """Of an image: its kind, the seconds that it takes on the machine of ``COSTS``, and the most bytes of memory."""
    kind, scans = "webp", 0
    if header.format == "png":
        depth, colour, interlace = data[24:25], data[25:26], data[28:29]
        kind = "deep" if depth == b"\x10" or colour >= b"\4" or interlace == b"\1" else "png"
    elif header.format == "jpeg":
        kind, scans = _weigh_jpeg(data)
    cost = COSTS[kind]
    n = denominator(header, spec) if header.format == "jpeg" else 1
    seconds = (header.pixels * (cost.pixel + scans * SCAN) + len(data) * cost.byte) / 1e9
    return kind, seconds, header.pixels * cost.memory + header.pixels * cost.scaled // n**2 + 2 * len(data)


def _weigh_jpeg(data: bytes) -> tuple[Kind, int]:
    try:
        return ("gathered", count_scans(data)) if is_gathered(data) else ("jpeg", 0)
    except (ImageError, ValueError, struct.error):
        return "jpeg", 0  # damaged, as will be told
