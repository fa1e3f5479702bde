"""Stage queue: single images -> batches -> single answers.

An idle network starts at once on what is there. While it runs, the next batch gathers, and as soon as that is full it is put
together, so that the network goes from one to the other without a pause. Work whose waiter is gone or whose deadline has passed
is dropped before it runs. When a batch fails, its members are tried one by one, so that a bad one fails alone. What different
versions of a model compute is never in one batch.
"""

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.image.preprocess import Pixels
from service.errors import DeadlineExceeded, Overloaded

Arrays = dict[str, NDArray[np.float32]]
Compute = Callable[[Pixels, tuple[str, ...]], Arrays]
Reason = Literal["disconnected", "deadline"]

BULK_SHARE = 4  # of a batch, one part in four is for bulk while some waits, so that it is slow but never starved
BULK_SECONDS = 0.025  # of bulk in a batch, at most, while single images come too, which wait until it is computed
RECENT_SECONDS = 1.0  # a class of work yields to a more important one that arrived within this time
ADMITTED_SECONDS = 10.0  # and for how long places are kept for more of it
AHEAD = 2  # batches handed to the thread: one that runs, one that is ready
SPARE_SHARE = 0.1  # of the time, at most, goes to background (shadow) work: a request that arrives during it has to wait


@dataclass(eq=False)
class Job:
    """One image on its way: pixels (height, width, 3) uint8; times in seconds of time.perf_counter.

    compute: what computes it. together: images in the pass that did, it among them.
    """

    pixels: Pixels
    outputs: tuple[str, ...]
    deadline: float
    answer: asyncio.Future[Arrays]
    queued: float
    compute: Compute
    queue_seconds: float = 0.0
    infer_seconds: float = 0.0
    together: int = 0


@dataclass(eq=False)
class Batch:
    """Jobs that are computed together, by the same; pixels (n, height, width, 3) uint8, one row a job. spare: nobody waits."""

    jobs: list[Job]
    pixels: Pixels
    spare: bool = False
    began: float = 0.0
    ended: float = 0.0
    runs: list[int] = field(default_factory=list[int])  # images computed together: all, or one by one after a failure
    answers: dict[Job, Arrays | Exception] = field(default_factory=dict["Job", "Arrays | Exception"])


class Batcher:
    """One queue with two lanes, interactive before bulk, and one thread that computes.

    compute: (n, height, width, 3) uint8 and names of outputs -> arrays with n rows each; runs in a thread of its own. It
    computes the images that bring nothing of their own to do so.
    max_batch: images computed together. max_wait: seconds that a batch which is not full waits for more, after the
    network was busy. max_queue, max_queue_seconds: how much may wait. observe: called with the size of every batch that
    ran. drop: called with the reason for every image that was not computed.
    """

    def __init__(
        self,
        compute: Compute,
        *,
        max_batch: int,
        max_queue: int,
        max_queue_seconds: float = math.inf,
        max_wait: float = 0.0,
        observe: Callable[[int], object] = lambda size: None,
        drop: Callable[[Reason], object] = lambda reason: None,
    ) -> None:
        self.compute = compute
        self.max_batch = max_batch
        self.max_queue = max_queue
        self.max_queue_seconds = max_queue_seconds
        self.max_wait = max_wait
        self.observe = observe
        self.drop = drop
        self.admitted = 0  # images of requests that are being decoded, queued or computed
        self.seconds_per_image = 0.0  # moving average while busy; 0 until a batch has run
        self.lanes: tuple[deque[Job], deque[Job]] = (deque(), deque())  # interactive, bulk
        self.in_flight = 0  # batches handed to the thread
        self.last_end = 0.0
        self.spare_from = -math.inf  # when there is time again for what nobody waits for
        self.admitted_at: dict[float, float] = {}  # when work of each share was last admitted
        self.interactive_at = -math.inf  # when the last single image came
        self.pass_began = 0.0  # of the batch that the thread computes; 0 while it computes none
        self.planned = False  # _feed will be called soon
        self.hold: asyncio.TimerHandle | None = None  # until when a batch that is not full waits
        self.work: SimpleQueue[tuple[Batch, asyncio.AbstractEventLoop] | None] = SimpleQueue()
        self.thread = threading.Thread(target=self._work, name="infer")
        self.thread.start()

    def check(self, images: int, share: float = 1.0, seconds: float = math.inf) -> None:
        """Raises Overloaded when there are no places for so many images, or they would not be computed within ``seconds``.

        share: of the queue that work of this kind may fill while work of a larger share comes too, which then finds places
        when this is refused. Two batches may always wait, however slow, and any request that finds nothing waiting.
        """
        if share < 1 and not self._gives_way(share):
            share = 1.0
        waiting = self.admitted * self.seconds_per_image
        if waiting > share * self.max_queue_seconds and self.admitted >= AHEAD * self.max_batch:
            limit = f"{share * self.max_queue_seconds:g} s (HUBEL_MAX_QUEUE_MS{_part(share)})"
            raise self._overloaded(waiting, f", which takes {waiting:.1f} s; the limit is {limit}")
        if waiting > seconds:
            raise self._overloaded(waiting, f", which takes {waiting:.1f} s; the answer is wanted within {seconds:.1f} s")
        if self.admitted and self.admitted + images > share * self.max_queue:
            limit = f"{share * self.max_queue:g} (HUBEL_MAX_QUEUE{_part(share)})"
            raise self._overloaded(waiting, f" and {images} more would pass the limit of {limit}")

    def has_room(self, share: float) -> bool:
        """Whether less waits than work of this share may, or fewer than two batches."""
        return self.admitted < AHEAD * self.max_batch or self.admitted * self.seconds_per_image < share * self.max_queue_seconds

    def _gives_way(self, share: float) -> bool:
        """Whether work of a larger share has come lately."""
        now = time.perf_counter()
        return any(other > share and now - at < ADMITTED_SECONDS for other, at in self.admitted_at.items())

    def _overloaded(self, seconds: float, reason: str) -> Overloaded:
        retry = max(1, math.ceil(seconds))
        return Overloaded(f"{self.admitted} images are waiting{reason}; try again in {retry} s", retry)

    @contextmanager
    def admit(self, images: int, share: float = 1.0, seconds: float = math.inf) -> Generator[None]:
        """Hold places for the images of one request; raises Overloaded, as ``check``."""
        self.check(images, share, seconds)
        self.admitted_at[share] = time.perf_counter()
        self.admitted += images
        try:
            yield
        finally:
            self.admitted -= images

    @contextmanager
    def aside(self) -> Generator[None]:
        """An image that was admitted is not before the network meanwhile, as it waits for something else."""
        self.admitted -= 1
        try:
            yield
        finally:
            self.admitted += 1

    async def submit(
        self, pixels: Pixels, outputs: tuple[str, ...], deadline: float, bulk: bool = False, compute: Compute | None = None
    ) -> Job:
        """Have one image computed: the job, with its answer, one row of each output.

        Raises:
            DeadlineExceeded: ``deadline`` (time.perf_counter) passed before it was computed.
        """
        loop = asyncio.get_running_loop()
        job = Job(pixels, outputs, deadline, loop.create_future(), time.perf_counter(), compute or self.compute)
        self.lanes[bulk].append(job)
        if not bulk:
            self.interactive_at = job.queued
        if not self.planned:
            self.planned = True
            loop.call_soon(self._feed, loop)  # what arrives in this turn of the loop goes along
        await job.answer
        return job

    def idle(self) -> bool:
        """Whether there is nothing to do, and time for what nobody waits for."""
        return not (self.admitted or self.in_flight or self._waiting()) and time.perf_counter() >= self.spare_from

    async def spare(self, pixels: Pixels, outputs: tuple[str, ...], compute: Compute) -> Job | None:
        """Have one image computed that nobody waits for; None, at once, where there is no time for it."""
        if not self.idle():
            return None
        loop = asyncio.get_running_loop()
        job = Job(pixels, outputs, math.inf, loop.create_future(), time.perf_counter(), compute)
        self.in_flight += 1
        self.work.put((Batch([job], pixels[None], spare=True), loop))
        await job.answer
        return job

    def busy_seconds(self) -> float:
        """How long the batch that is being computed has been; 0 when none is."""
        began = self.pass_began
        return time.perf_counter() - began if began else 0.0

    def _feed(self, loop: asyncio.AbstractEventLoop) -> None:
        """Hand over the next batch: at once to an idle network, to a busy one when it is full."""
        self.planned = False
        while self._waiting():
            full = self._fills()
            if self.in_flight == AHEAD or (not full and (self.in_flight or self.hold)):
                return
            if self.hold:
                self.hold.cancel()
                self.hold = None
            if batch := self._take():
                self.in_flight += 1
                self.work.put((batch, loop))

    def _waiting(self) -> int:
        """Images in both lanes."""
        return sum(map(len, self.lanes))

    def _bulk_limit(self) -> int:
        """Bulk images that a batch may hold: any number, or few while single images come too and would wait long."""
        if not self.seconds_per_image or time.perf_counter() - self.interactive_at > RECENT_SECONDS:
            return self.max_batch
        return min(self.max_batch, max(1, int(BULK_SECONDS / self.seconds_per_image)))

    def _fills(self) -> bool:
        """Whether what waits is enough to put a batch together while another runs; bulk is not, where it is held back."""
        return (self._waiting() if self._bulk_limit() == self.max_batch else len(self.lanes[0])) >= self.max_batch

    def _take(self) -> Batch | None:
        """The next batch: the oldest jobs that somebody still waits for in time, interactive ones before bulk."""
        interactive, bulk = self.lanes
        jobs: list[Job] = []
        now = time.perf_counter()
        most = self._bulk_limit()
        share = min(len(bulk), self.max_batch // BULK_SHARE, most)
        for lane, places in ((interactive, self.max_batch - share), (bulk, most), (interactive, self.max_batch)):
            end = min(self.max_batch, len(jobs) + places)
            others: list[Job] = []
            while lane and len(jobs) < end:
                job = lane.popleft()
                if self._wanted(job, now):
                    (others if jobs and job.compute != jobs[0].compute else jobs).append(job)
            lane.extendleft(reversed(others))
        if not jobs:
            return None
        return Batch(jobs, jobs[0].pixels[None] if len(jobs) == 1 else np.stack([job.pixels for job in jobs]))

    def _wanted(self, job: Job, now: float) -> bool:
        """Whether somebody still waits for it in time; if not, it is dropped."""
        late = job.deadline < now
        if not (late or job.answer.done()):
            return True
        self.drop("deadline" if late else "disconnected")
        if not job.answer.done():
            job.answer.set_exception(DeadlineExceeded(f"the image waited {now - job.queued:.1f} s and was not computed"))
        return False

    def _work(self) -> None:
        """The thread that computes, batch after batch."""
        while task := self.work.get():
            batch, loop = task
            self.pass_began = time.perf_counter()
            self._compute(batch)
            self.pass_began = 0.0
            try:
                loop.call_soon_threadsafe(self._deliver, batch, loop)
            except RuntimeError:  # the loop has ended, nobody waits
                return

    def _compute(self, batch: Batch) -> None:
        """Note the answers of those jobs that somebody still waits for in time."""
        batch.began = time.perf_counter()
        rows = [i for i, job in enumerate(batch.jobs) if not job.answer.done() and job.deadline >= batch.began]
        if rows:
            jobs = [batch.jobs[i] for i in rows]
            pixels = batch.pixels if len(rows) == len(batch.jobs) else batch.pixels[rows]
            if not self._try(batch, pixels, jobs) and len(jobs) > 1:
                for i, job in enumerate(jobs):
                    self._try(batch, pixels[i : i + 1], [job])
        batch.ended = time.perf_counter()

    def _try(self, batch: Batch, pixels: Pixels, jobs: list[Job]) -> bool:
        """One pass of the network, which computes what its members need; whether it went well."""
        try:
            arrays = jobs[0].compute(pixels, tuple(sorted({name for job in jobs for name in job.outputs})))
            rows = [{name: arrays[name][row] for name in job.outputs} for row, job in enumerate(jobs)]
        except Exception as err:
            batch.answers.update(dict.fromkeys(jobs, err))
            return False
        batch.answers.update(zip(jobs, rows, strict=True))
        for job in jobs:
            job.together = len(jobs)
        batch.runs.append(len(jobs))
        return True

    def _deliver(self, batch: Batch, loop: asyncio.AbstractEventLoop) -> None:
        """Answer, after the next batch was handed over."""
        self.in_flight -= 1
        if self.max_wait and not self.in_flight and 0 < self._waiting() < self.max_batch:
            self.hold = loop.call_later(self.max_wait, self._release, loop)
        self._feed(loop)
        self._measure(batch)
        for job in batch.jobs:
            if (answer := batch.answers.get(job)) is None:
                self._wanted(job, batch.began)
                continue
            job.queue_seconds, job.infer_seconds = batch.began - job.queued, batch.ended - batch.began
            if job.answer.done():
                continue
            if isinstance(answer, Exception):
                job.answer.set_exception(answer)
            else:
                job.answer.set_result(answer)

    def _release(self, loop: asyncio.AbstractEventLoop) -> None:
        self.hold = None
        self._feed(loop)

    def _measure(self, batch: Batch) -> None:
        """Seconds an image, from the end of the batch before where the network was busy since then."""
        if batch.spare:
            self.spare_from = batch.ended + (batch.ended - batch.began) * (1 / SPARE_SHARE - 1)
            return
        for size in batch.runs:
            self.observe(size)
        if batch.runs:
            seconds = (batch.ended - max(self.last_end, batch.began)) / sum(batch.runs)
            self.seconds_per_image += (0.1 if self.seconds_per_image else 1.0) * (seconds - self.seconds_per_image)
        self.last_end = batch.ended

    def close(self) -> None:
        """End the thread once the batches in flight are done."""
        self.work.put(None)
        self.thread.join()


def _part(share: float) -> str:
    return "" if share == 1 else f", of which work of this kind may fill {share:.0%}"
