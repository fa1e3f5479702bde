"""One HTTP request, without its body, and the reply to it; which handler answers which path."""

import re
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import msgspec

from service.errors import InvalidParameter
from service.http.auth import Client
from service.http.body import Receive

if TYPE_CHECKING:
    from service.telemetry.spans import Trace

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = Iterable[tuple[bytes, bytes]]

JSON = "application/json"
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass
class Request:
    """One HTTP request. Header names in lower case; ``stages`` collects seconds by stage word.

    id: ours, which no other has and nobody can choose or foresee; kept images go by it. given: the caller's X-Request-ID, which
    is logged and given back, and nothing else: many requests may carry one. size: bytes of its body, once read. images: in it,
    of which ``failed`` could not be answered; pixels: of them all. model: name:version that answered. trace: None where it is not
    traced.
    """

    method: str
    path: str
    query: str
    headers: dict[str, str]
    receive: Receive
    id: str
    stages: dict[str, float] = field(default_factory=dict[str, float])
    client: Client | None = None  # None: no keys are needed
    given: str = ""
    size: int = 0
    images: int = 0
    failed: int = 0
    pixels: int = 0
    model: str = ""
    trace: "Trace | None" = None

    def charge(self, images: int, what: str = "images") -> None:
        """Count its images, or ``what`` else counts as they do, against its key's limit; the first was counted on its head.

        Raises:
            RateLimited, TooManyImages.
        """
        if self.client is not None:
            self.client.charge(images, counted=1, what=what)

    def key(self) -> str:
        """What stays the same for a client with a key, and for others is the request's own."""
        return self.id if self.client is None else self.client.name

    def name(self) -> str:
        """As the log calls it."""
        name = f"{self.given} ({self.id})" if self.given else self.id
        return name if self.client is None else f"{name} of {self.client.name}"

    def request_id(self) -> str:
        """As its answer's X-Request-ID calls it: as the caller does, where he calls it something."""
        return self.given or self.id

    def record(self, stage: str, seconds: float) -> None:
        """Of several images in one request, the slowest counts."""
        self.stages[stage] = max(seconds, self.stages.get(stage, 0.0))

    def took(self, stage: str, began: float, ended: float) -> None:
        """Record what lasted from and to times of time.perf_counter."""
        self.record(stage, ended - began)
        if self.trace is not None:
            self.trace.stage(stage, began, ended)

    def stage(self, stage: str) -> "Stage":
        """A block of it that is timed."""
        return Stage(self, stage)

    def parameters(self, *known: str) -> dict[str, str]:
        """The query's parameters; raises InvalidParameter for one that is unknown or there twice."""
        found: dict[str, str] = {}
        for name, value in parse_qsl(self.query, keep_blank_values=True):
            if name not in known:
                accepted = f"{self.path} takes {', '.join(known)}" if known else f"{self.path} takes none"
                raise InvalidParameter(f"unknown parameter {name[:50]!r}; {accepted}")
            if name in found:
                raise InvalidParameter(f"parameter {name!r} is there twice; send it once")
            found[name] = value
        return found


class Stage:
    """Notes the seconds between begin and end of a block as those of a stage."""

    def __init__(self, request: Request, stage: str) -> None:
        self.request = request
        self.stage = stage

    def __enter__(self) -> None:
        self.began = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.request.took(self.stage, self.began, time.perf_counter())


@dataclass(frozen=True)
class Reply:
    """Status, body and headers of an answer. counted: the status in metrics, where that is another. code: of an error."""

    body: bytes
    status: int = 200
    media_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    counted: int = 0
    code: str = ""


Handler = Callable[[Request], Awaitable[Reply]]
Routes = Mapping[str, tuple[str, Handler]]  # path -> its one method and what answers it; "/a/{name}" is every path of that form


def json_response(value: object) -> Reply:
    return Reply(msgspec.json.encode(value))


def new_id() -> str:
    """An id that no other request has, in whichever process, and nobody can guess."""
    return secrets.token_hex(16)


def parse_head(scope: Scope, receive: Receive) -> Request:
    """The request without its body; the caller's X-Request-ID is taken where it is a safe one."""
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    query, given = scope["query_string"].decode("latin-1"), given_id(headers.get("x-request-id", ""))
    return Request(scope["method"], scope["path"], query, headers, receive, new_id(), given=given)


def given_id(text: str) -> str:
    """An X-Request-ID as a caller sent it, where it is a safe one; else nothing."""
    return text if REQUEST_ID.fullmatch(text) else ""


async def nothing() -> MutableMapping[str, Any]:
    """The body of a request that is answered without it."""
    return {"type": "http.disconnect"}
