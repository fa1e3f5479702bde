"""What is noted of a request once it is answered: it is counted, and where that is on, logged and traced."""

import logging
import os
import time
from typing import TYPE_CHECKING

from service.http.auth import ALWAYS, Client
from service.http.request import Reply, Request
from service.telemetry import lines, metrics
from service.telemetry.log import REQUEST_LINES, WRITER

if TYPE_CHECKING:
    from service.telemetry.spans import Value

GONE = 499  # the status, in metrics and log, of a request whose client hung up
OK, DISCONNECTED = "ok", "disconnected"  # outcomes beside the codes of errors
PID = os.getpid()


def note_answer(request: Request, route: str, reply: Reply, began: float, client: Client | None = None) -> None:
    """began: when its head was here, in seconds of time.perf_counter."""
    count_status(route, reply.counted or reply.status, client)
    note_end(request, route, reply, began, client)


def note_end(request: Request, route: str, reply: Reply, began: float, client: Client | None = None) -> None:
    """The same of an answer that was counted before it was sent, so that whoever has it finds it counted."""
    metrics.request_seconds(route).observe(time.perf_counter() - began)
    tell(request, route, reply.status, reply.code or OK, began, client)


def note_gone(request: Request, route: str, began: float) -> None:
    """Nobody is there to get an answer."""
    count_status(route, GONE, request.client)
    tell(request, route, GONE, DISCONNECTED, began, request.client)


def count_status(route: str, status: int, client: Client | None) -> None:
    metrics.requests_answered(route, status).inc()
    if client is not None:
        metrics.REQUESTS_BY_KEY.labels(client.name, str(status)).inc()


def tell(request: Request, route: str, status: int, outcome: str, began: float, client: Client | None) -> None:
    """The log, where it has a line for each request, and the collector of traces, where the request is one that is traced."""
    level = level_of(route, status)
    if logs(level):
        WRITER.put(line(request, route, status, outcome, began, client, level), REQUEST_LINES)
    if request.trace is not None:
        request.trace.end(0 if status == GONE else status, outcome, facts(request))


def logs(level: int) -> bool:
    """Whether the log has lines for requests of this level."""
    return level >= WRITER.request_level


def level_of(route: str, status: int) -> int:
    """Of its line: what probes and Prometheus ask all the time is of little interest, and what the service failed at of much."""
    return logging.DEBUG if route in ALWAYS else logging.WARNING if status >= 500 else logging.INFO


def line(
    request: Request, route: str, status: int, outcome: str, began: float, client: Client | None, level: int = logging.INFO
) -> str:
    name, _, version = request.model.rpartition(":")
    event = lines.RequestEvent(
        lines.at(time.time()),
        logging.getLevelName(level).lower(),
        lines.REQUEST,
        PID,
        f"{request.method} {route} {status}".lstrip(),
        request.id,
        request.method,
        route,
        status,
        outcome,
        milliseconds(time.perf_counter() - began),
        {stage: milliseconds(seconds) for stage, seconds in request.stages.items()},
        request.size,
        request.images,
        request.failed,
        request.pixels,
        name,
        int(version or 0),
        client.name if client else "",
        request.given,
        *((request.trace.trace_id, request.trace.span_id) if request.trace else ()),
    )
    return lines.encode(event)


def facts(request: Request) -> "dict[str, Value]":
    """Attributes of a span."""
    name, _, version = request.model.rpartition(":")
    found: dict[str, Value] = {"hubel.request_id": request.request_id(), "http.request.body.size": request.size}
    if request.images:
        found |= {"hubel.images": request.images, "hubel.failed": request.failed, "hubel.pixels": request.pixels}
    return found | ({"hubel.model": name, "hubel.version": int(version)} if name else {})


def milliseconds(seconds: float) -> float:
    return round(1000 * seconds, 3)
