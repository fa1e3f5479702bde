"""The outermost layer: routes, ids, problem details, timings. A plain ASGI application in front of BentoML's.

Every answer leaves through here, so every error has one shape and every request is counted. BentoML's own
application behind it starts and stops the service (lifespan).
"""

import re
import secrets
import time
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Protocol
from urllib.parse import parse_qsl

import msgspec

from service.api.schemas import Problem
from service.errors import (
    Draining,
    HubelError,
    InternalError,
    InvalidParameter,
    Overloaded,
    RateLimited,
    ServerError,
    Unauthorized,
    UnknownPath,
    WrongMethod,
)
from service.http.auth import CLIENT, Access, Client
from service.http.body import Disconnected, Receive
from service.http.hosts import Hosts
from service.rollout.messages import Orders, Report
from service.telemetry import metrics
from service.telemetry.log import of_requests

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = Iterable[tuple[bytes, bytes]]

JSON, PROBLEM = "application/json", "application/problem+json"
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
READY = "/readyz"
BUSY = "the service is busy; try again in 1 s"
OTHER = "other"  # route label of unknown paths: what strangers ask for must not make new time series
log = of_requests()


@dataclass
class Request:
    """One HTTP request. Header names in lower case; ``stages`` collects seconds by stage word.

    id: of its answer, ours, which no other has and nobody can choose or foresee. given: the caller's X-Request-ID, which is
    logged and given back, and nothing else: many requests may carry one.
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

    @contextmanager
    def stage(self, stage: str) -> Generator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self.record(stage, time.perf_counter() - began)

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


@dataclass(frozen=True)
class Reply:
    """Status, body and headers of an answer. counted: the status in metrics, where that is another."""

    body: bytes
    status: int = 200
    media_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    counted: int = 0


Handler = Callable[[Request], Awaitable[Reply]]
Routes = Mapping[str, tuple[str, Handler]]  # path -> its one method and what answers it; "/a/{name}" is every path of that form


def reply_json(value: object) -> Reply:
    return Reply(msgspec.json.encode(value))


class Answers(Protocol):
    """What stands behind the edge, once it has started."""

    def routes(self) -> Routes: ...

    def busy_seconds(self) -> float:
        """How long the network has been computing; 0 when it is not."""
        ...

    def check_load(self, route: str) -> None:
        """Raises Overloaded where one more image for the route would be too many."""
        ...

    def obey(self, orders: Orders) -> None:
        """Hold the versions that the supervisor says."""
        ...

    def report(self) -> Report:
        """Which versions it holds, and what was seen of a candidate since ``reported``."""
        ...

    def reported(self) -> None:
        """The report was sent."""
        ...

    def on_change(self, speak: Callable[[], object]) -> None:
        """``speak`` is called when there is something new to report."""
        ...


class Edge:
    """inner: BentoML's application. start: called once, when the service has started. access: None lets everyone in whom
    ``hosts`` lets. draining: the service is about to stop.
    """

    def __init__(
        self, inner: App, start: Callable[[], Answers], access: Access | None = None, hosts: Hosts | None = None
    ) -> None:
        self.inner = inner
        self.start = start
        self.access = access
        self.hosts = hosts
        self.service: Answers | None = None
        self.routes: Routes = {}
        self.draining = False

    def begin(self) -> Answers:
        """What stands behind the edge, asked for its routes."""
        if self.service is None:
            self.service = self.start()
            self.routes = self.service.routes()
        return self.service

    def busy_seconds(self) -> float:
        return self.service.busy_seconds() if self.service else 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.inner(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
        else:
            with metrics.IN_PROGRESS.track_inprogress():
                await self._answer(scope, receive, send)

    def refuse_early(self, scope: Scope, more: Headers) -> bytes | None:
        """The whole answer, with ``more`` headers, to a request that comes when there is too much to do, or None: protocol.py
        asks on its head. Who may not ask is told that, and nothing of the load.

        It costs less than the same refusal as an ASGI application, which at ten times the load that can be served leaves
        the cores to the requests that were accepted.
        """
        method, _ = self.routes.get(scope["path"], ("", None))
        if self.service is None or method != "POST" or scope["method"] != "POST":
            return None
        began = time.perf_counter()
        try:
            if self.access is not None:
                self.access.enter(scope)
            self.service.check_load(scope["path"])
        except (Unauthorized, RateLimited, Overloaded) as err:
            return write_refusal(err, read_head(scope, nothing), scope["path"], began, more, scope.get(CLIENT))
        return None

    def refuse_unread(self, error: HubelError, more: Headers) -> bytes:
        """The whole answer, with ``more`` headers, to what is no request that can be read. Where keys are needed, strangers learn
        nothing of the load.
        """
        if self.access is not None and isinstance(error, Overloaded):
            error = Overloaded(BUSY, error.retry_after_seconds)
        return write_refusal(error, Request("", "", "", {}, nothing, new_id()), OTHER, time.perf_counter(), more)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        self.begin()
        request = read_head(scope, receive)
        route = self.route_of(request.path)
        try:
            if self.access is not None:
                request.client = self.access.enter(scope)
            elif self.hosts is not None:
                self.hosts.check(request.method, request.headers)
            reply = await self._handler(request, route)(request)
        except HubelError as err:
            reply = refuse(err, request)
        except Disconnected:
            count_status(route, 499, request.client)  # nobody is there to get an answer
            return
        except Exception:
            log.exception("request %s to %s failed", request.name(), route)
            reply = refuse(InternalError("the service failed to answer; the log has more under this request id"), request)
        await respond(reply, request, send)
        count_answer(route, reply, began, scope.get(CLIENT))
        for stage, seconds in request.stages.items():
            metrics.STAGE_SECONDS.labels(stage).observe(seconds)

    def route_of(self, path: str) -> str:
        """The route that a path belongs to, OTHER where there is none."""
        if path in self.routes:
            return path
        above, _, last = path.rpartition("/")
        found = [route for route in self.routes if route.endswith("}") and route.rpartition("/")[0] == above]
        return found[0] if found and last else OTHER

    def _handler(self, request: Request, route: str) -> Handler:
        if self.draining and request.path == READY:
            raise Draining("the service stops; requests that are sent all the same are answered for a moment")
        if route == OTHER:
            raise UnknownPath(f"there is nothing at {request.path[:100]!r}; there is {', '.join(self.routes)}")
        method, handler = self.routes[route]
        if request.method != method and not (request.method == "HEAD" and method == "GET"):
            raise WrongMethod(f"{request.path} takes {method}, not {request.method[:20]}", method)
        return handler


def new_id() -> str:
    """An id that no other request has, in whichever process, and nobody can guess."""
    return secrets.token_hex(16)


def read_head(scope: Scope, receive: Receive) -> Request:
    """The request without its body; the caller's X-Request-ID is taken where it is a safe one."""
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    given = headers.get("x-request-id", "")
    given = given if REQUEST_ID.fullmatch(given) else ""
    query = scope["query_string"].decode("latin-1")
    return Request(scope["method"], scope["path"], query, headers, receive, new_id(), given=given)


async def nothing() -> MutableMapping[str, Any]:
    """The body of a request that is answered without it."""
    return {"type": "http.disconnect"}


def count_status(route: str, status: int, client: Client | None) -> None:
    metrics.REQUESTS.labels(route, str(status)).inc()
    if client is not None:
        metrics.REQUESTS_BY_KEY.labels(client.name, str(status)).inc()


def count_answer(route: str, reply: Reply, began: float, client: Client | None = None) -> None:
    count_status(route, reply.counted or reply.status, client)
    metrics.REQUEST_SECONDS.labels(route).observe(time.perf_counter() - began)


def describe(error: HubelError, request_id: str | None = None) -> Problem:
    """RFC 9457 members of an error."""
    return Problem(f"urn:hubel:error:{error.code}", error.title, error.status, error.code, str(error), request_id)


def refuse(error: HubelError, request: Request) -> Reply:
    """The answer that tells of an error; counts it."""
    metrics.REJECTIONS.labels(error.code).inc()
    if isinstance(error, Overloaded):
        log.warning("requests refused: %s", error)
    elif isinstance(error, ServerError) and not isinstance(error, Draining):
        log.warning("request %s to %s: %s", request.name(), request.path, error)
    problem = describe(error, request.request_id())
    return Reply(msgspec.json.encode(problem), error.status, PROBLEM, error.headers(), error.counted)


def write_refusal(
    error: HubelError,
    request: Request,
    route: str,
    began: float,
    more: Headers = (),
    client: Client | None = None,
) -> bytes:
    """``refuse``, with more headers, as the bytes of HTTP/1.1 for protocol.py; counted under ``route``."""
    reply = refuse(error, request)
    count_answer(route, reply, began, client)
    lines = [b"HTTP/1.1 %d %b\r\n" % (reply.status, HTTPStatus(reply.status).phrase.encode())]
    lines += [b"%b: %b\r\n" % header for header in {**dict(more), **dict(headers_of(reply, request))}.items()]
    return b"".join([*lines, b"\r\n", reply.body])


async def respond(reply: Reply, request: Request, send: Send) -> None:
    await send({"type": "http.response.start", "status": reply.status, "headers": headers_of(reply, request)})
    await send({"type": "http.response.body", "body": reply.body})


def headers_of(reply: Reply, request: Request) -> list[tuple[bytes, bytes]]:
    """An answer's headers, with its request id and, in Server-Timing, milliseconds by stage (W3C Server Timing)."""
    timing = ", ".join(f"{stage};dur={1000 * seconds:.2f}" for stage, seconds in request.stages.items())
    headers = {
        "content-type": reply.media_type,
        "content-length": str(len(reply.body)),
        "x-request-id": request.request_id(),
        "x-content-type-options": "nosniff",
        **({"server-timing": timing} if timing else {}),
        **reply.headers,
    }
    return [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
