"""Stage queue: single images -> batches -> single answers.

An idle network starts at once on what is there; while it runs, the next batch gathers. Work whose waiter is gone or
whose deadline has passed is dropped before it runs. When a batch fails, its members are tried one by one, so that a
bad one fails alone. Neighbours: runtime.py computes a batch, app.py submits images.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.preprocess import Pixels
from service.errors import DeadlineExceeded, Overloaded

Arrays = dict[str, NDArray[np.float32]]
Compute = Callable[[Pixels, tuple[str, ...]], Arrays]


@dataclass
class Job:
    """One image on its way: pixels (height, width, 3) uint8; times in seconds of time.perf_counter."""

    pixels: Pixels
    outputs: tuple[str, ...]
    deadline: float
    answer: asyncio.Future[Arrays]
    queued: float
    queue_seconds: float = 0.0
    infer_seconds: float = 0.0


class Batcher:
    """One queue and one batch in flight.

    compute: (n, height, width, 3) uint8 and names of outputs -> arrays with n rows each; runs in a thread of its own.
    observe: called with the size of every batch that ran.
    """

    def __init__(self, compute: Compute, max_batch: int, max_queue: int, observe: Callable[[int], object]) -> None:
        self.compute = compute
        self.max_batch = max_batch
        self.max_queue = max_queue
        self.observe = observe
        self.admitted = 0  # images of requests that are being decoded, queued or computed
        self.seconds_per_image = 0.01  # moving average, for Retry-After
        self.jobs: deque[Job] = deque()
        self.thread = ThreadPoolExecutor(1, "infer")
        self.running: asyncio.Task[None] | None = None

    @contextmanager
    def admit(self, images: int) -> Generator[None]:
        """Hold places for the images of one request; raises Overloaded when there are not enough."""
        if self.admitted + images > self.max_queue:
            wait = max(1, math.ceil(self.admitted * self.seconds_per_image))
            raise Overloaded(
                f"{self.admitted} images are waiting and {images} more would pass the limit of {self.max_queue} "
                f"(HUBEL_MAX_QUEUE); try again in {wait} s",
                wait,
            )
        self.admitted += images
        try:
            yield
        finally:
            self.admitted -= images

    async def submit(self, pixels: Pixels, outputs: tuple[str, ...], deadline: float) -> Job:
        """Have one image computed: the job, with its answer, one row of each output.

        Raises:
            DeadlineExceeded: ``deadline`` (time.perf_counter) passed before it was computed.
        """
        now = time.perf_counter()
        job = Job(pixels, outputs, deadline, asyncio.get_running_loop().create_future(), now)
        self.jobs.append(job)
        if self.running is None:
            self.running = asyncio.create_task(self._run())
        await job.answer
        return job

    async def _run(self) -> None:
        """Compute batches until the queue is empty."""
        try:
            await asyncio.sleep(0)  # what arrived in this turn of the loop goes along
            while batch := self._take():
                await self._compute(batch)
        finally:
            self.running = None

    def _take(self) -> list[Job]:
        """The next batch: the oldest jobs that somebody still waits for in time."""
        batch: list[Job] = []
        now = time.perf_counter()
        while self.jobs and len(batch) < self.max_batch:
            job = self.jobs.popleft()
            if job.answer.done():
                continue
            if job.deadline < now:
                job.answer.set_exception(DeadlineExceeded(f"the image waited {now - job.queued:.1f} s and was not computed"))
                continue
            job.queue_seconds = now - job.queued
            batch.append(job)
        return batch

    async def _compute(self, batch: list[Job]) -> None:
        outputs = tuple(sorted({name for job in batch for name in job.outputs}))
        began = time.perf_counter()
        try:
            pixels = np.stack([job.pixels for job in batch])
            arrays = await asyncio.get_running_loop().run_in_executor(self.thread, self.compute, pixels, outputs)
            answers = [{name: arrays[name][row] for name in job.outputs} for row, job in enumerate(batch)]
        except Exception as err:
            if len(batch) == 1:
                _fail(batch[0], err)
                return
            for job in batch:
                if not job.answer.done():
                    await self._compute([job])
            return
        seconds = time.perf_counter() - began
        self.seconds_per_image += 0.1 * (seconds / len(batch) - self.seconds_per_image)
        self.observe(len(batch))
        for job, answer in zip(batch, answers, strict=True):
            job.infer_seconds = seconds
            if not job.answer.done():
                job.answer.set_result(answer)

    def close(self) -> None:
        """End the thread once the batch in flight is done."""
        self.thread.shutdown()


def _fail(job: Job, error: Exception) -> None:
    if not job.answer.done():
        job.answer.set_exception(error)
