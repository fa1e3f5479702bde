"""Stage queue: single images -> batches -> single answers, in the thread that computes.

An idle network starts at once on what is there; what comes while it runs makes the next batch. Where enough images to fill one
are being decoded on the same cores, it waits a moment for them, as small batches would take the cores from decoding. Work whose
waiter is gone or whose deadline has passed is dropped before it runs. When a batch fails, its members are tried one by one, so
that a bad one fails alone. An image that was being computed when an engine died is computed by itself, so that it takes no others
with it again.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from models.image.preprocess import Pixels

Arrays = dict[str, NDArray[np.float32]]
Compute = Callable[[Pixels, tuple[str, ...]], Arrays]
Reason = Literal["disconnected", "deadline"]
INTERACTIVE, BULK, SPARE = range(3)  # lanes; spare: nobody waits for it

BATCH_SECONDS = 0.5  # of a pass, at most, where single images take less: what comes meanwhile waits for all of it
FILL_SECONDS = 0.025  # that a batch waits, at most, for images that are on their way, where there are enough to fill it
LOOK_SECONDS = 0.002  # until it looks again whether there are
NEWEST = 0.1  # weight of a pass in the average of what an image takes, at least; the first ones count by their images
BULK_SHARE = 4  # of a batch, one part in four is for bulk while some waits, so that it is slow but never starved
BULK_SECONDS = 0.025  # of bulk in a batch, at most, while single images come too, which wait until it is computed
RECENT_SECONDS = 1.0  # a class of work yields to a more important one that arrived within this time
SPARE_SHARE = 0.1  # of the time, at most, goes to background (shadow) work: a request that arrives during it has to wait


def within(seconds: float, seconds_per_image: float, max_batch: int) -> int:
    """Images that a pass computes in that time: at least 1, and ``max_batch`` while nobody knows how long one takes."""
    return max(1, min(max_batch, int(seconds / seconds_per_image))) if seconds_per_image else max_batch


class QueuedImage(Protocol):
    """One image that is to be computed: pixels (height, width, 3) uint8; times in seconds of time.perf_counter.

    suspect: an engine died while it computed this image.
    """

    pixels: Pixels
    outputs: tuple[str, ...]
    lane: int
    deadline: float
    suspect: bool

    def cancelled(self) -> bool:
        """Nobody waits for it any more."""
        ...

    def begin(self) -> None:
        """Its pass begins."""
        ...

    def drop(self, reason: Reason | None) -> None:
        """It is not computed; None: it was spare work, and there was no time for it."""
        ...

    def answer(self, row: Arrays, began: float, ended: float, together: int, first: bool) -> None:
        """One row of each output. together: images in the pass that computed it, of which this is the ``first``."""
        ...

    def fail(self, error: Exception) -> None: ...


class Batcher:
    """One queue with two lanes, interactive before bulk, and a third for what nobody waits for.

    compute: (n, height, width, 3) uint8 and names of outputs -> arrays with n rows each. max_batch: images computed together,
    fewer where they take more than BATCH_SECONDS. max_wait: seconds that a batch which is not full waits for more, after the
    network was busy. room: for the pixels of n images that are computed together; None: any memory. coming: how many images are
    being decoded, queued or computed. guess: seconds that an image takes, 0 where nobody knows until a batch has run.
    """

    def __init__(
        self,
        compute: Compute,
        *,
        max_batch: int,
        max_wait: float = 0.0,
        room: Callable[[int], Pixels] | None = None,
        coming: Callable[[], int] = lambda: 0,
        guess: float = 0.0,
    ) -> None:
        self.compute = compute
        self.coming = coming
        self.room = room
        self.max_batch = max_batch
        self.max_wait = max_wait
        self.seconds_per_image = guess  # moving average while busy
        self.images = max_batch if guess else 0  # in it: a guess counts as a full batch
        self.suspects: deque[QueuedImage] = deque()
        self.lanes: tuple[deque[QueuedImage], deque[QueuedImage], deque[QueuedImage]] = (deque(), deque(), deque())
        self.interactive_at = -math.inf  # when the last single image came
        self.hold_until = 0.0  # a batch that is not full waits
        self.first_at = math.inf  # since when the next batch could be computed
        self.last_end = 0.0
        self.spare_from = -math.inf  # when there is time again for what nobody waits for

    def put(self, job: QueuedImage, now: float) -> None:
        (self.suspects if job.suspect else self.lanes[job.lane]).append(job)
        if job.lane == INTERACTIVE:
            self.interactive_at = now

    def due(self, now: float) -> float:
        """Seconds until a batch is to be computed, or this is to be asked again; infinite while there is nothing to compute."""
        waiting = self._waiting()
        if not waiting:
            self.hold_until, self.first_at = 0.0, math.inf
            return 0.0 if self.lanes[SPARE] else math.inf
        if waiting >= (limit := self._limit()):
            return 0.0
        self.first_at = min(self.first_at, now)
        fill = min(LOOK_SECONDS, self.first_at + FILL_SECONDS - now) if self.coming() >= limit else 0.0
        return max(0.0, fill, self.hold_until - now)

    def run(self) -> None:
        """Compute the next batch, where there is one."""
        now = time.perf_counter()
        self.first_at = math.inf
        jobs = self._take(now)
        if not jobs:
            return
        runs = self._compute(jobs, now)
        ended = time.perf_counter()
        if jobs[0].lane == SPARE:
            self.spare_from = ended + (ended - now) * (1 / SPARE_SHARE - 1)
            return
        if runs:
            images = sum(runs)
            seconds = (ended - max(self.last_end, now)) / images
            self.images += images
            self.seconds_per_image += max(NEWEST, images / self.images) * (seconds - self.seconds_per_image)
        self.last_end = ended
        self.hold_until = ended + self.max_wait if self.max_wait else 0.0

    def _room(self, images: int) -> Pixels | None:
        return None if self.room is None else self.room(images)

    def forget(self, gone: Callable[[QueuedImage], bool]) -> None:
        """Take out jobs that nobody can be told of any more."""
        for lane in (self.suspects, *self.lanes):
            kept = [job for job in lane if not gone(job)]
            lane.clear()
            lane.extend(kept)

    def _waiting(self) -> int:
        """Images that somebody waits for."""
        return len(self.suspects) + len(self.lanes[INTERACTIVE]) + len(self.lanes[BULK])

    def _limit(self) -> int:
        """Images that the next batch may hold."""
        return within(BATCH_SECONDS, self.seconds_per_image, self.max_batch)

    def _bulk_limit(self, now: float) -> int:
        """Bulk images that a batch may hold: any number, or few while single images come too and would wait long."""
        recent = now - self.interactive_at <= RECENT_SECONDS
        return within(BULK_SECONDS if recent else BATCH_SECONDS, self.seconds_per_image, self.max_batch)

    def _take(self, now: float) -> list[QueuedImage]:
        """The next batch: the oldest jobs that somebody still waits for in time, interactive ones before bulk."""
        while self.suspects:
            if self._wanted(job := self.suspects.popleft(), now):
                return [job]
        interactive, bulk, spare = self.lanes
        jobs: list[QueuedImage] = []
        limit, most = self._limit(), self._bulk_limit(now)
        share = min(len(bulk), limit // BULK_SHARE, most)
        for lane, places in ((interactive, limit - share), (bulk, most), (interactive, limit)):
            end = min(limit, len(jobs) + places)
            while lane and len(jobs) < end:
                if self._wanted(job := lane.popleft(), now):
                    jobs.append(job)
        while spare:
            job = spare.popleft()
            if jobs or now < self.spare_from:
                job.drop(None)
            elif self._wanted(job, now):
                return [job]
        return jobs

    def _wanted(self, job: QueuedImage, now: float) -> bool:
        """Whether somebody still waits for it in time; if not, it is dropped."""
        if job.deadline < now:
            job.drop("deadline")
        elif job.cancelled():
            job.drop("disconnected")
        else:
            return True
        return False

    def _compute(self, jobs: Sequence[QueuedImage], began: float) -> list[int]:
        """Sizes of the passes that went well: one of all, or one by one after a failure."""
        if self._try(jobs, began, last=len(jobs) == 1):
            return [len(jobs)]
        return [1 for job in jobs if len(jobs) > 1 and self._try([job], began, last=True)]

    def _try(self, jobs: Sequence[QueuedImage], began: float, last: bool) -> bool:
        """One pass of the network, which computes what its members need; whether it went well. last: if not, it has failed."""
        for job in jobs:
            job.begin()
        pixels = jobs[0].pixels[None] if len(jobs) == 1 else np.stack([job.pixels for job in jobs], out=self._room(len(jobs)))
        try:
            arrays = self.compute(pixels, tuple(sorted({name for job in jobs for name in job.outputs})))
            rows = [{name: arrays[name][row] for name in job.outputs} for row, job in enumerate(jobs)]
        except Exception as err:
            if last:
                jobs[0].fail(err)
            return False
        ended = time.perf_counter()
        for job, row in zip(jobs, rows, strict=True):
            job.answer(row, began, ended, len(jobs), first=job is jobs[0])
        return True
