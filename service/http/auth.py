"""Who may ask, and how much: the key of a request -> the client it belongs to, and that client's rate limit."""

import hashlib
import logging
import math
import time
from collections.abc import Callable, Iterable, MutableMapping
from dataclasses import dataclass
from hmac import compare_digest
from pathlib import Path
from typing import Any, cast

from limits import RateLimitItem
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from models import files
from service.errors import RateLimited, TooManyImages, Unauthorized
from service.http import api_keys
from service.http.api_keys import Key, KeysError
from service.telemetry import metrics

OPEN = ("/livez", "/readyz")  # what supervisors and load balancers ask, without a key
ALWAYS = (*OPEN, "/metrics")  # what is answered also where all places are taken
LOOK_SECONDS = 1.0  # the file is looked at this often at most
UNAUTHORIZED = "a key is needed; send it in one header, Authorization: Bearer KEY. Who runs the service gives keys out"
CLIENT = "hubel.client"  # where a request's ASGI scope says whose it is
Headers = Iterable[tuple[bytes, bytes]]
log = logging.getLogger("hubel")


class Counters(MemoryStorage):
    """The library's storage, without the thread that it starts to forget old windows, which costs more than a request.

    They are forgotten when a new window begins. For one thread.
    """

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        if key not in self.expirations:
            for old in list(self.expirations):
                self.get(old)  # forgets it where it has expired
            self.expirations[key] = time.time() + expiry
        self.storage[key] += amount
        return self.storage[key]


@dataclass(frozen=True)
class Client:
    """Who a key belongs to. ``limit``: this process's share of the key's."""

    name: str
    digest: bytes
    limit: RateLimitItem | None
    whole: str  # the key's and that, for people
    counts: SlidingWindowCounterRateLimiter

    def charge(self, images: int, counted: int = 0, what: str = "images") -> None:
        """Count a request of so many images, or of ``what`` counts as they do, less what of it was counted already.

        Raises:
            RateLimited: they are more than the limit leaves now.
            TooManyImages: they are more than it ever leaves.
        """
        if self.limit is None or images <= counted:
            return
        whole = f"the limit of the key {self.name} is {self.whole}"
        if images > self.limit.amount:
            raise TooManyImages(
                f"the request holds {images} {what}, {whole}; send at most {self.limit.amount} in one request, "
                "or ask for a higher limit"
            )
        if not self.counts.hit(self.limit, self.name, cost=images - counted):
            seconds = seconds_until(self.counts, self.limit, self.name, images)
            raise RateLimited(f"{whole}; try again in {seconds} s, or ask for a higher one", seconds)


def seconds_until(counts: SlidingWindowCounterRateLimiter, limit: RateLimitItem, name: str, images: int) -> int:
    """Whole seconds, at least one, until the limit leaves room for so many images, if none come in between.

    The library counts in fixed windows and weighs the last one by the part of it that the sliding window still covers.
    """
    window = limit.get_expiry()
    last, last_covered, this, this_covered = cast(Counters, counts.storage).get_sliding_window(limit.key_for(name), window)
    room = limit.amount - images + 1  # the weighed count must fall below this
    if this < room:
        seconds = last_covered - (room - this) * window / last if last else 0.0
    else:
        seconds = this_covered - room * window / this
    return max(1, math.ceil(seconds + 0.001))  # the wait's end itself is too early


class Access:
    """The clients of a file of keys, read again when it changes.

    file: read at once; raises KeysError. workers: processes that share a limit.
    """

    def __init__(self, file: Path, workers: int = 1, clock: Callable[[], float] = time.monotonic) -> None:
        self.file = file
        self.workers = workers
        self.clock = clock
        self.counts = SlidingWindowCounterRateLimiter(Counters())
        self.seen = files.identity(file)
        self.looked = clock()
        self.clients = self.let_in(api_keys.read(file))
        metrics.KEYS_FILE_FAULTY.set(0)

    def enter(self, scope: MutableMapping[str, Any]) -> Client | None:
        """Whose request this is, and one counted for it, by its head; once for a request. None where no key is needed.

        Raises:
            Unauthorized, RateLimited.
        """
        if CLIENT in scope:
            return scope[CLIENT]
        if scope["path"] in OPEN:
            return None
        client = scope[CLIENT] = self.identify(scope["headers"])
        client.charge(1)
        return client

    def let_in(self, entries: list[Key]) -> list[Client]:
        log.info("API keys in force: %s", ", ".join(key.name for key in entries))
        shares = [self.share(key.limit) for key in entries]
        return [
            Client(key.name, key.digest(), share, self.say(key.limit, share), self.counts)
            for key, share in zip(entries, shares, strict=True)
        ]

    def share(self, limit: str | None) -> RateLimitItem | None:
        """This process's part of a limit, rounded up."""
        if limit is None:
            return None
        item = api_keys.parse_limit(limit)
        return type(item)(math.ceil(item.amount / self.workers), item.multiples)

    def say(self, limit: str | None, share: RateLimitItem | None) -> str:
        return f"{limit}, of which each of {self.workers} processes allows {share}" if self.workers > 1 else limit or ""

    def identify(self, headers: Headers, same: Callable[[bytes, bytes], bool] = compare_digest) -> Client:
        """The client whose key a request carries. Takes as long for each key, and for none. Raises Unauthorized."""
        if self.clock() - self.looked >= LOOK_SECONDS:
            self.refresh()
        digest = hashlib.sha256(bearer(headers)).digest()
        found: Client | None = None
        for client in self.clients:
            if same(client.digest, digest):
                found = client
        if found is None:
            raise Unauthorized(UNAUTHORIZED)
        return found

    def refresh(self) -> None:
        """Read the file again where it changed; what cannot be read changes nothing but the log and a metric."""
        self.looked = self.clock()
        seen = files.identity(self.file)
        if seen == self.seen:
            return
        self.seen = seen
        try:
            self.clients = self.let_in(api_keys.read(self.file))
            metrics.KEYS_FILE_FAULTY.set(0)
        except KeysError as err:
            log.error("the API keys stay as they were: %s", err)
            metrics.KEYS_FILE_FAULTY.set(1)


def bearer(headers: Headers) -> bytes:
    """The key in the one Authorization header; nothing, which is no client's, where there is none, or another scheme."""
    given = [value for name, value in headers if name == b"authorization"]
    scheme, _, key = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
    return key.strip() if scheme.lower() == b"bearer" else b""
