"""Replies to callers: problem details (RFC 9457) for what cannot be answered, and headers."""

import time
from http import HTTPStatus

import msgspec
from msgspec import Struct

from service.errors import Draining, HubelError, Overloaded, ServerError
from service.http.answered import count_status, note_answer
from service.http.auth import Client
from service.http.request import Headers, Reply, Request, Send
from service.telemetry import metrics
from service.telemetry.log import of_requests

PROBLEM = "application/problem+json"
REFUSED = "requests refused: %s"
BUSY_LINE = b"HTTP/1.1 503 Service Unavailable\r\n"
BUSY = (
    b"content-type: application/problem+json\r\ncontent-length: %d\r\nx-request-id: %b\r\n"
    b"x-content-type-options: nosniff\r\nretry-after: %d\r\n\r\n"
)  # the other headers that headers_of would make
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


def describe(error: HubelError, request_id: str | None = None) -> Problem:
    """RFC 9457 members of an error."""
    return Problem(f"urn:hubel:error:{error.code}", error.title, error.status, error.code, str(error), request_id)


def problem_response(error: HubelError, request: Request) -> Reply:
    """The answer that tells of an error; counts it."""
    metrics.rejected(error.code).inc()
    if isinstance(error, Overloaded):
        log.warning(REFUSED, error)
    elif isinstance(error, ServerError) and not isinstance(error, Draining):
        log.warning("request %s to %s: %s", request.name(), request.path, error)
    problem = describe(error, request.request_id())
    return Reply(msgspec.json.encode(problem), error.status, PROBLEM, error.headers(), error.counted, error.code)


def write_refusal(
    error: HubelError,
    request: Request,
    route: str,
    began: float,
    more: Headers = (),
    client: Client | None = None,
) -> bytes:
    """``problem_response``, with more headers, as the bytes of HTTP/1.1 for protocol.py; noted under ``route``."""
    reply = problem_response(error, request)
    note_answer(request, route, reply, began, client)
    lines = [b"HTTP/1.1 %d %b\r\n" % (reply.status, HTTPStatus(reply.status).phrase.encode())]
    lines += [b"%b: %b\r\n" % header for header in {**dict(more), **dict(headers_of(reply, request))}.items()]
    return b"".join([*lines, b"\r\n", reply.body])


def write_overloaded(
    error: Overloaded, request_id: str, route: str, began: float, more: Headers = (), client: Client | None = None
) -> bytes:
    """``write_refusal`` of a request that the log does not name and nobody traces, in half the time: at many times the load
    that can be served, that is what leaves the cores to the requests that were accepted.
    """
    metrics.rejected(error.code).inc()
    log.warning(REFUSED, error)
    count_status(route, error.status, client)
    metrics.request_seconds(route).observe(time.perf_counter() - began)
    body = msgspec.json.encode(describe(error, request_id))
    first = [b"%b: %b\r\n" % header for header in more]
    return b"".join([BUSY_LINE, *first, BUSY % (len(body), request_id.encode(), error.retry_after_seconds), body])


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
