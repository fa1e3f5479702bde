"""What stands behind the outermost layer, and a client in front of it, without a server."""

import asyncio
import json
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

from prometheus_client import REGISTRY

from service.errors import ImageTooLarge, Overloaded
from service.http.asgi import HttpApp
from service.http.body import Disconnected
from service.http.request import Reply, Request, Routes, Scope, json_response
from service.rollout.messages import DesiredState, ObservedState

SECRET = "/srv/secret/model.onnx"


@dataclass
class Response:
    """What the application sent."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


async def echo(request: Request) -> Reply:
    return json_response({"called": request.request_id(), "given": request.parameters("a", "b")})


async def plain(request: Request) -> Reply:
    return json_response(request.parameters())


async def timed(request: Request) -> Reply:
    with request.stage("read"):
        await asyncio.sleep(0.01)
    request.record("infer", 0.25)
    request.record("infer", 0.125)
    return Reply(b"done", media_type="text/plain", headers={"x-more": "yes"})


async def refused(request: Request) -> Reply:
    with request.stage("decode"):
        raise ImageTooLarge("image has 72 MP, the limit is 65 MP (HUBEL_MAX_PIXELS)")


async def overloaded(request: Request) -> Reply:
    raise Overloaded("come back", 3)


async def broken(request: Request) -> Reply:
    raise RuntimeError(f"cannot read {SECRET}")


async def abandoned(request: Request) -> Reply:
    raise Disconnected


ROUTES: Routes = {
    "/echo": ("POST", echo),
    "/page": ("GET", echo),
    "/plain": ("GET", plain),
    "/readyz": ("GET", plain),
    "/timed": ("POST", timed),
    "/refused": ("POST", refused),
    "/overloaded": ("POST", overloaded),
    "/broken": ("POST", broken),
    "/abandoned": ("POST", abandoned),
}


class Behind:
    """Stands in for the service; ``error`` is what it says of its load."""

    def __init__(self, error: Overloaded | None = None) -> None:
        self.error = error
        self.asked = 0

    def routes(self) -> Routes:
        self.asked += 1
        return ROUTES

    def reconcile(self, orders: DesiredState) -> None: ...

    def report(self) -> ObservedState:
        return ObservedState()

    def reported(self) -> None: ...

    def on_change(self, speak: Callable[[], object]) -> None: ...

    def check_load(self, route: str) -> None:
        if self.error:
            raise self.error


class Inner:
    """Stands in for BentoML's application: notes what reaches it."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    async def __call__(self, scope: Scope, receive: object, send: object) -> None:
        self.seen.append(scope["type"])


async def no_body() -> MutableMapping[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


def call(scope: Scope, http_app: HttpApp | None = None) -> list[MutableMapping[str, Any]]:
    """The messages that the edge sends for a scope."""
    sent: list[MutableMapping[str, Any]] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    asyncio.run((http_app or HttpApp(Inner(), Behind))(scope, no_body, send))
    return sent


def request(
    path: str, method: str = "POST", query: str = "", headers: Mapping[str, str] | None = None, http_app: HttpApp | None = None
) -> Response:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in (headers or {}).items()]
    scope: Scope = {"type": "http", "method": method, "path": path, "query_string": query.encode(), "headers": raw}
    start, body = call(scope, http_app)
    assert (start["type"], body["type"]) == ("http.response.start", "http.response.body")
    decoded = {name.decode(): value.decode("latin-1") for name, value in start["headers"]}
    assert len(decoded) == len(start["headers"])
    return Response(start["status"], decoded, body["body"])


def count(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0
