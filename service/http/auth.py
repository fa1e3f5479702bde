"""Who may ask: the key of a request -> the client that it belongs to."""

import hashlib
import logging
import time
from collections.abc import Callable, Iterable, MutableMapping
from dataclasses import dataclass
from hmac import compare_digest
from pathlib import Path
from typing import Any

from models import files
from service.errors import Unauthorized
from service.http import api_keys
from service.http.api_keys import Key, KeysError
from service.http.rate_limit import Quota
from service.telemetry import metrics

OPEN = ("/livez", "/readyz")  # what supervisors and load balancers ask, without a key
ALWAYS = (*OPEN, "/metrics")  # what is answered also where all places are taken
LOOK_SECONDS = 1.0  # the file is looked at this often at most
UNAUTHORIZED = "a key is needed; send it in one header, Authorization: Bearer KEY. Who runs the service gives keys out"
CLIENT = "hubel.client"  # where a request's ASGI scope says whose it is
Headers = Iterable[tuple[bytes, bytes]]
log = logging.getLogger("hubel")


@dataclass(frozen=True)
class Client:
    """Who a key belongs to. quota: None without a limit."""

    name: str
    digest: bytes
    quota: Quota | None

    def charge(self, images: int, counted: int = 0, what: str = "images") -> None:
        """As Quota.charge; nothing without one."""
        if self.quota is not None:
            self.quota.charge(images, counted, what)


class ApiKeyAuth:
    """The clients of a file of keys, read again when it changes.

    file: read at once; raises KeysError. workers: processes that share a limit.
    """

    def __init__(self, file: Path, workers: int = 1, clock: Callable[[], float] = time.monotonic) -> None:
        self.file = file
        self.workers = workers
        self.clock = clock
        self.clients: list[Client] = []
        self.seen = files.identity(file)
        self.looked = clock()
        self.clients = self.make_clients(api_keys.read(file))
        metrics.KEYS_FILE_FAULTY.set(0)

    def authenticate(self, scope: MutableMapping[str, Any]) -> Client | None:
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

    def make_clients(self, entries: list[Key]) -> list[Client]:
        log.info("API keys in force: %s", ", ".join(key.name for key in entries))
        before = {client.name: client.quota for client in self.clients}
        return [Client(key.name, key.digest(), self.quota(key, before.get(key.name))) for key in entries]

    def quota(self, key: Key, before: Quota | None) -> Quota | None:
        """This process's part of a key's limit; what was counted ``before`` stays where the limit is the same."""
        if key.limit is None:
            return None
        share = api_keys.parse_limit(key.limit).share(self.workers)
        shared = f", of which each of {self.workers} processes allows {share}" if self.workers > 1 else ""
        bucket = before.bucket if before is not None and before.limit == share else share.bucket()
        return Quota(key.name, share, key.limit + shared, bucket, self.clock)

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
            self.clients = self.make_clients(api_keys.read(self.file))
            metrics.KEYS_FILE_FAULTY.set(0)
        except KeysError as err:
            log.error("the API keys stay as they were: %s", err)
            metrics.KEYS_FILE_FAULTY.set(1)


def bearer(headers: Headers) -> bytes:
    """The key in the one Authorization header; nothing, which is no client's, where there is none, or another scheme."""
    given = [value for name, value in headers if name == b"authorization"]
    scheme, _, key = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
    return key.strip() if scheme.lower() == b"bearer" else b""
