"""Replies to callers: problem details (RFC 9457) for what cannot be answered, headers, and the count of both."""

import time
from http import HTTPStatus

import msgspec
from msgspec import Struct

from service.errors import Draining, HubelError, Overloaded, ServerError
from service.http.auth import Client
from service.http.request import Headers, Reply, Request, Send
from service.telemetry import metrics
from service.telemetry.log import of_requests

PROBLEM = "application/problem+json"
BODILESS = (204, 304)  # statuses of answers that have no body, and no headers about one
log = of_requests()


class Problem(Struct, omit_defaults=True):
    """RFC 9457 problem details; ``code`` is stable, ``detail`` is for people."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    request_id: str | None = None


def count_status(route: str, status: int, client: Client | None) -> None:
    metrics.requests_answered(route, status).inc()
    if client is not None:
        metrics.REQUESTS_BY_KEY.labels(client.name, str(status)).inc()


def count_answer(route: str, reply: Reply, began: float, client: Client | None = None) -> None:
    count_status(route, reply.counted or reply.status, client)
    count_seconds(route, began)


def count_seconds(route: str, began: float) -> None:
    metrics.request_seconds(route).observe(time.perf_counter() - began)


def describe(error: HubelError, request_id: str | None = None) -> Problem:
    """RFC 9457 members of an error."""
    return Problem(f"urn:hubel:error:{error.code}", error.title, error.status, error.code, str(error), request_id)


def problem_response(error: HubelError, request: Request) -> Reply:
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
    """``problem_response``, with more headers, as the bytes of HTTP/1.1 for protocol.py; counted under ``route``."""
    reply = problem_response(error, request)
    count_answer(route, reply, began, client)
    lines = [b"HTTP/1.1 %d %b\r\n" % (reply.status, HTTPStatus(reply.status).phrase.encode())]
    lines += [b"%b: %b\r\n" % header for header in {**dict(more), **dict(headers_of(reply, request))}.items()]
    return b"".join([*lines, b"\r\n", reply.body])


async def respond(reply: Reply, request: Request, send: Send) -> None:
    headers = headers_of(reply, request)
    whole = getattr(getattr(send, "__self__", None), "send_whole", None)  # of our own server
    if whole is not None and whole(reply.status, headers, reply.body):
        return
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})


def headers_of(reply: Reply, request: Request) -> list[tuple[bytes, bytes]]:
    """An answer's headers, with its request id and, in Server-Timing, milliseconds by stage (W3C Server Timing)."""
    timing = ", ".join(f"{stage};dur={1000 * seconds:.2f}" for stage, seconds in request.stages.items())
    body = {"content-type": reply.media_type, "content-length": str(len(reply.body))}
    headers = {
        **({} if reply.status in BODILESS else body),
        "x-request-id": request.request_id(),
        "x-content-type-options": "nosniff",
        **({"server-timing": timing} if timing else {}),
        **reply.headers,
    }
    return [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
