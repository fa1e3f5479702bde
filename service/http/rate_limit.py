"""How much a client may ask: a limit, this process's share of it, and the token bucket that keeps that share."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from service.errors import RateLimited, TooManyImages

UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400, "month": 30 * 86_400, "year": 360 * 86_400}


@dataclass(frozen=True)
class RateLimit:
    """``amount`` images in so many ``times`` a unit of UNITS."""

    amount: int
    times: int
    unit: str

    def __str__(self) -> str:
        return f"{self.amount} per {self.times} {self.unit}"

    def share(self, workers: int) -> "RateLimit":
        """The part of one of so many processes, rounded up."""
        return RateLimit(-(-self.amount // workers), self.times, self.unit)

    def bucket(self) -> "TokenBucket":
        return TokenBucket(self.amount / (self.times * UNITS[self.unit]), self.amount)


class TokenBucket:
    """Holds ``capacity`` tokens, is full at first and gets ``rate`` tokens a second back. For one thread.

    It counts the tokens taken since it was last full, and never the fractions that came back. So the time at which n tokens
    are there is one sum, the same whenever it is asked for, and no error adds up. ``now``: seconds of a clock that does not
    go back.
    """

    def __init__(self, rate: float, capacity: int) -> None:
        self.rate = rate
        self.capacity = capacity
        self.full = -math.inf  # when it was so last
        self.taken = 0  # since then

    def take(self, n: int, now: float) -> float:
        """Seconds to wait for n tokens, as ``wait``; 0.0: they were there and are taken."""
        if now >= self.full + self.taken / self.rate:
            self.full, self.taken = now, 0
        seconds = self.wait(n, now)
        if seconds == 0.0:
            self.taken += n
        return seconds

    def wait(self, n: int, now: float) -> float:
        """Seconds until n tokens are there if none is taken meanwhile; 0.0: now; inf: never, it does not hold so many."""
        if n > self.capacity:
            return math.inf
        there = self.full + (self.taken + n - self.capacity) / self.rate
        if there <= now:
            return 0.0
        seconds = there - now
        return seconds if now + seconds >= there else math.nextafter(seconds, math.inf)  # rounded, it might be too short


@dataclass(frozen=True)
class Quota:
    """What the key ``name`` may ask of this process. limit: the share of it. whole: the key's limit and that, for people."""

    name: str
    limit: RateLimit
    whole: str
    bucket: TokenBucket
    clock: Callable[[], float]

    def charge(self, images: int, counted: int = 0, what: str = "images") -> None:
        """Count a request of so many images, or of ``what`` counts as they do, less what of it was counted already.

        Raises:
            RateLimited: they are more than the limit leaves now.
            TooManyImages: they are more than it ever leaves.
        """
        if images <= counted:
            return
        whole = f"the limit of the key {self.name} is {self.whole}"
        if images > self.limit.amount:
            raise TooManyImages(
                f"the request holds {images} {what}, {whole}; send at most {self.limit.amount} in one request, "
                "or ask for a higher limit"
            )
        now = self.clock()
        if self.bucket.take(images - counted, now) > 0:
            seconds = math.ceil(self.bucket.wait(images, now))  # sent again, all of them count
            raise RateLimited(f"{whole}; try again in {seconds} s, or ask for a higher one", seconds)
