"""Admission: whether one more image may wait, decided before its body is read, for all fronts of a service together."""

import math
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Protocol

from service.errors import Overloaded
from service.inference.batcher import within

# Of the queue, what each kind of work may fill while weightier work comes too: bulk is refused first, features next.
FEATURES_SHARE, BULK_SHARE = 0.5, 0.25
# Where on the board it stands how many images are admitted, when work of each kind came last, and what is in the line.
ADMITTED, LINED = 0, 4
SHARES = {1.0: 1, FEATURES_SHARE: 2, BULK_SHARE: 3}
ADMITTED_SECONDS = 10.0  # for how long places are kept for more of it
AHEAD = 2  # batches that may always wait
AHEAD_SECONDS = 2.0  # of a slow network, no more images of these than it computes in that time, and two


class EngineFigures(Protocol):
    """What an engine says of itself: a moving average while it is busy, a guess, or 0, until it has computed a batch."""

    @property
    def seconds_per_image(self) -> float: ...

    @property
    def spare_from(self) -> float: ...


class Numbers(Protocol):
    """Numbers that all fronts see, by kind and place, as service.engine.board.Board has them."""

    def numbers(self, kind: int) -> "memoryview[float]": ...

    def computing(self) -> bool: ...


class Admission:
    """Of the front in ``place``, of ``fronts``. live: the engine that computes for most requests.

    max_batch: images computed together. max_queue, max_queue_seconds: how much may wait.
    """

    def __init__(
        self,
        board: Numbers,
        live: Callable[[], EngineFigures],
        *,
        max_batch: int,
        max_queue: int,
        max_queue_seconds: float = math.inf,
        place: int = 0,
        fronts: int = 1,
    ) -> None:
        self.board = board
        self.live = live
        self.place = place
        self.max_batch = max_batch
        self.max_queue = max_queue
        self.max_queue_seconds = max_queue_seconds
        self.counts = board.numbers(ADMITTED)[:fronts]
        self.lined = board.numbers(LINED)[:fronts]
        self.times = {share: board.numbers(kind)[:fronts] for share, kind in SHARES.items()}

    @property
    def admitted(self) -> int:
        """Images of requests that are being decoded, queued or computed, in all fronts; without those aside."""
        return int(sum(self.counts))

    @property
    def own(self) -> int:
        """Those of this front."""
        return int(self.counts[self.place])

    @property
    def coming(self) -> int:
        """Images that the engine has to compute first: those admitted, and those in the line."""
        return self.admitted + int(sum(self.lined))

    def forecast(self) -> float:
        """Seconds until these are computed, as the engine computes at present."""
        return self.coming * self.live().seconds_per_image

    def check(self, images: int, share: float = 1.0, seconds: float = math.inf) -> None:
        """Raises Overloaded when there are no places for so many images, or they would not be computed within ``seconds``.

        share: of the queue that work of this kind may fill while work of a larger share comes too, which then finds places
        when this is refused. Two batches may always wait, however slow, and any request that finds nothing waiting.
        """
        if not (admitted := self.coming):
            return
        if share < 1 and not self._gives_way(share):
            share = 1.0
        waiting = admitted * self.live().seconds_per_image
        if waiting > share * self.max_queue_seconds and admitted >= self._ahead():
            limit = f"{share * self.max_queue_seconds:g} s (HUBEL_MAX_QUEUE_MS{_part(share)})"
            raise _overloaded(admitted, waiting, f", which takes {waiting:.1f} s; the limit is {limit}")
        if waiting > seconds:
            reason = f", which takes {waiting:.1f} s; the answer is wanted within {seconds:.1f} s"
            raise _overloaded(admitted, waiting, reason)
        if admitted + images > share * self.max_queue:
            limit = f"{share * self.max_queue:g} (HUBEL_MAX_QUEUE{_part(share)})"
            raise _overloaded(admitted, waiting, f" and {images} more would pass the limit of {limit}")

    def has_room(self, share: float) -> bool:
        """Whether less waits than work of this share may, or fewer than two batches."""
        admitted = self.admitted
        seconds = admitted * self.live().seconds_per_image
        return admitted < self._ahead() or seconds < share * self.max_queue_seconds

    def _ahead(self) -> int:
        """Images of the batches that may always wait."""
        return max(AHEAD, within(AHEAD_SECONDS, self.live().seconds_per_image, AHEAD * self.max_batch))

    def _gives_way(self, share: float) -> bool:
        """Whether work of a larger share has come lately."""
        after = time.perf_counter() - ADMITTED_SECONDS
        return any(other > share and max(times) > after for other, times in self.times.items())

    def admit(self, images: int, share: float = 1.0, seconds: float = math.inf) -> "Places":
        """Hold places for the images of one request in a block; raises Overloaded, as ``check``."""
        self.check(images, share, seconds)
        self.times[share][self.place] = time.perf_counter()
        return Places(self, images)

    @contextmanager
    def aside(self, soon: bool) -> Generator[None]:
        """An image that was admitted is not before the network in a block, as it waits to be decoded. soon: it takes so little
        that the network is what it waits for in the end, and others are to be refused for it."""
        self.counts[self.place] -= 1
        self.lined[self.place] += soon
        try:
            yield
        finally:
            self.lined[self.place] -= soon
            self.counts[self.place] += 1

    def idle(self) -> bool:
        """Whether there is nothing to do, and time for what nobody waits for."""
        return (
            not self.admitted
            and not any(self.lined)
            and not self.board.computing()
            and time.perf_counter() >= self.live().spare_from
        )


class Places:
    """So many more images are admitted in a block."""

    def __init__(self, admission: Admission, images: int) -> None:
        self.admission = admission
        self.images = images

    def __enter__(self) -> None:
        self.admission.counts[self.admission.place] += self.images

    def __exit__(self, *_: object) -> None:
        self.admission.counts[self.admission.place] -= self.images


def _overloaded(admitted: int, seconds: float, reason: str) -> Overloaded:
    retry = max(1, math.ceil(seconds))
    return Overloaded(f"{admitted} images are waiting{reason}; try again in {retry} s", retry)


def _part(share: float) -> str:
    return "" if share == 1 else f", of which work of this kind may fill {share:.0%}"
