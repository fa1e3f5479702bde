"""The outermost ASGI application: routes, keys, ids. In front of BentoML's, which starts and stops the service (lifespan).

Every answer leaves through here, so every error has one shape and every request is counted.
"""

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from service.errors import (
    Draining,
    HubelError,
    InternalError,
    Overloaded,
    RateLimited,
    Unauthorized,
    UnknownPath,
    WrongMethod,
)
from service.http.answered import count_status, logs, note_end, note_gone
from service.http.auth import ALWAYS, CLIENT, ApiKeyAuth
from service.http.body import Disconnected, Receive
from service.http.hosts import Hosts
from service.http.page import ROUTE as PAGE
from service.http.page import Page
from service.http.problems import problem_response, respond, write_overloaded, write_refusal
from service.http.request import App, Handler, Headers, Request, Routes, Scope, Send, given_id, new_id, nothing, parse_head
from service.telemetry import metrics
from service.telemetry.log import of_requests

if TYPE_CHECKING:
    from service.telemetry.spans import Tracer

READY = "/readyz"
BUSY = "the service is busy; try again in 1 s"
OTHER = "other"  # route label of unknown paths: what strangers ask for must not make new time series
log = of_requests()


class Application(Protocol):
    """What answers behind the front, once it has started."""

    def routes(self) -> Routes: ...

    def check_load(self, route: str) -> None:
        """Raises Overloaded where one more image for the route would be too many."""
        ...


class HttpApp:
    """inner: BentoML's application. start: called once, when the service has started. access: None lets everyone in whom
    ``hosts`` lets. page: what a browser gets at /, if anything. tracer: None without traces. draining: the service is about to
    stop.
    """

    def __init__(
        self,
        inner: App,
        start: Callable[[], Application],
        access: ApiKeyAuth | None = None,
        hosts: Hosts | None = None,
        page: Page | None = None,
        tracer: "Tracer | None" = None,
    ) -> None:
        self.inner = inner
        self.start = start
        self.access = access
        self.hosts = hosts
        self.page = page
        self.tracer = tracer
        self.service: Application | None = None
        self.routes: Routes = {}
        self.draining = False

    def begin(self) -> Application:
        """What answers behind the front, asked for its routes."""
        if self.service is None:
            self.service = self.start()
            self.routes = self.service.routes()
        return self.service

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
                self.access.authenticate(scope)
            self.service.check_load(scope["path"])
        except (Unauthorized, RateLimited, Overloaded) as err:
            if isinstance(err, Overloaded) and self.tracer is None and not logs(logging.WARNING):
                given = given_id(dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1"))
                return write_overloaded(err, given or new_id(), scope["path"], began, more, scope.get(CLIENT))
            request = self.begin_request(scope, nothing, scope["path"])
            return write_refusal(err, request, scope["path"], began, more, scope.get(CLIENT))
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
        route = self.route_of(scope["path"])
        request = self.begin_request(scope, receive, route)
        try:
            self._admit(request, scope)
            reply = await self._handler(request, route)(request)
        except HubelError as err:
            reply = problem_response(err, request)
        except Disconnected:
            note_gone(request, route, began)
            return
        except Exception:
            log.exception("request %s to %s failed", request.name(), route)
            reply = problem_response(
                InternalError("the service failed to answer; the log has more under this request id"), request
            )
        count_status(route, reply.counted or reply.status, scope.get(CLIENT))  # first: an answer that is there has been counted
        await respond(reply, request, send)
        note_end(request, route, reply, began, scope.get(CLIENT))
        for stage, seconds in request.stages.items():
            metrics.stage_seconds(stage).observe(seconds)

    def begin_request(self, scope: Scope, receive: Receive, route: str) -> Request:
        """The request without its body, which is traced where its turn has come."""
        request = parse_head(scope, receive)
        if self.tracer is not None and route not in ALWAYS:
            twice = [name for name, _ in scope["headers"]].count(b"traceparent") > 1  # then none counts
            known = None if route == OTHER else route
            request.trace = self.tracer.begin(request.id, request.method, known, {} if twice else request.headers)
        return request

    def _admit(self, request: Request, scope: Scope) -> None:
        """Its client is known after this, where keys are needed. Raises what auth.py and hosts.py raise."""
        if self.access is None:
            if self.hosts is not None:
                self.hosts.check(request.method, request.headers)
        elif self.page is None or not self.page.opens(request):
            request.client = self.access.authenticate(scope)

    def route_of(self, path: str) -> str:
        """The route that a path belongs to, OTHER where there is none."""
        if path in self.routes:
            return path
        if self.page is not None and path in self.page.files:
            return PAGE
        above, _, last = path.rpartition("/")
        found = [route for route in self.routes if route.endswith("}") and route.rpartition("/")[0] == above]
        return found[0] if found and last else OTHER

    def _handler(self, request: Request, route: str) -> Handler:
        if self.draining and request.path == READY:
            raise Draining("the service stops; requests that are sent all the same are answered for a moment")
        if route == OTHER:
            raise UnknownPath(f"there is nothing at {request.path[:100]!r}; there is {', '.join(self.routes)}")
        method, handler = self.page.route if self.page is not None and route == PAGE else self.routes[route]
        if request.method != method and not (request.method == "HEAD" and method == "GET"):
            raise WrongMethod(f"{request.path} takes {method}, not {request.method[:20]}", method)
        return handler
