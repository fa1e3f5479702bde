"""What of a request becomes spans: one of the request itself, one for each stage, and one for each batch, linked with them.

Whether a request is traced is decided at its head. One that is not costs that decision; spans are made in the event loop, and
sent by a thread of their own.
"""

import asyncio
import logging
import os
import re
import threading
import time
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased, Sampler
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode, get_current_span, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from service.telemetry.export import Sender
from service.telemetry.log import SERVICE
from service.telemetry.tracing import ARGUMENT, SAMPLER

NAME = "hubel"
MOST_SPANS = 256  # of one request, whose images have three each
LINGER_SECONDS = 0.5  # a batch waits for the requests that it computed to say so
FLUSH_SECONDS = 1.0  # at the end of a process, for what is not sent yet
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT")
TRACEPARENT, TRACESTATE = "traceparent", "tracestate"
UNTRACED = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f][02468ace]")  # by the client, as most are
MOST_STATE = 512  # characters of a tracestate that is kept
Value: TypeAlias = str | int | float
log = logging.getLogger(SERVICE)


class Ids(RandomIdGenerator):
    """chosen: the next trace's id, where it was decided by."""

    chosen = 0

    def generate_trace_id(self) -> int:
        return self.chosen or super().generate_trace_id()


class Trace:
    """Of one request. shift: from seconds of time.perf_counter to nanoseconds of Unix time."""

    def __init__(self, tracer: "Tracer", span: Span) -> None:
        self.tracer = tracer
        self.span = span
        self.context = span.get_span_context()
        self.parent = set_span_in_context(span, Context())
        self.shift = time.time_ns() - time.perf_counter_ns()
        self.spans = 0

    @property
    def trace_id(self) -> str:
        return f"{self.context.trace_id:032x}"

    @property
    def span_id(self) -> str:
        return f"{self.context.span_id:016x}"

    def stage(self, name: str, began: float, ended: float, links: Sequence[Link] = (), together: int = 0) -> None:
        """One that the request went through, from and to seconds of time.perf_counter."""
        self.spans += 1
        if self.spans <= MOST_SPANS:
            attributes: dict[str, Value] = {"hubel.batch.size": together} if together else {}
            begin, end = self.at(began), self.at(max(began, ended))
            self.tracer.make(name, self.parent, begin, attributes, links).end(end)

    def infer(self, engine: str, began: float, ended: float, together: int) -> None:
        """The pass of the network that computed an image, ``together`` images at a time."""
        links = () if together < 2 else (Link(self.tracer.batch(self, engine, began, ended, together)),)
        self.stage("infer", began, ended, links, together)

    def end(self, status: int, outcome: str, facts: Mapping[str, Value]) -> None:
        """The request is answered, with a status, or 0 where nobody was there to be answered."""
        self.span.set_attributes({"hubel.outcome": outcome, **facts})
        if status:
            self.span.set_attribute("http.response.status_code", status)
        if not status or status >= 500:
            self.span.set_attribute("error.type", outcome)
        if status >= 500:
            self.span.set_status(Status(StatusCode.ERROR))
        if self.spans > MOST_SPANS:
            self.span.set_attribute("hubel.spans_left_out", self.spans - MOST_SPANS)
        self.span.end()

    def at(self, seconds: float) -> int:
        return round(seconds * 1e9) + self.shift


class Tracer:
    """Of one process, in one event loop. sampler: decides which requests are traced."""

    def __init__(self, processor: SpanProcessor, sampler: Sampler, resource: Resource) -> None:
        self.sampler = sampler
        self.obeys = isinstance(sampler, ParentBased)  # the client
        self.ids = Ids()
        self.provider = TracerProvider(ALWAYS_ON, resource, shutdown_on_exit=False, id_generator=self.ids)
        self.provider.add_span_processor(processor)
        self.tracer = self.provider.get_tracer(NAME)
        self.read = TraceContextTextMapPropagator().extract
        self.batches: dict[tuple[str, float], Span] = {}  # by engine and begin, until all that were computed have said so

    def begin(self, request_id: str, method: str, route: str | None, headers: Mapping[str, str]) -> Trace | None:
        """A request's head is here; None where it is not traced. A trace that no client began has the request's id. route: None
        for what has none."""
        if self.obeys and UNTRACED.fullmatch(headers.get(TRACEPARENT, "")):
            return None  # as it would be below, in a tenth of the time
        parent, above = self.parent(headers)
        trace_id = above.trace_id if above else int(request_id, 16)
        method = method if method in METHODS else "_OTHER"
        name = (method if method in METHODS else "HTTP") + (f" {route}" if route else "")
        if not self.sampler.should_sample(parent, trace_id, name, SpanKind.SERVER).decision.is_sampled():
            return None
        self.ids.chosen = trace_id
        attributes = {"http.request.method": method, "url.scheme": "http", **({"http.route": route} if route else {})}
        span = self.tracer.start_span(name, parent or Context(), SpanKind.SERVER, attributes)
        self.ids.chosen = 0
        return Trace(self, span)

    def parent(self, headers: Mapping[str, str]) -> tuple[Context | None, SpanContext | None]:
        """What the client says of its own span, where it says so in the form of W3C Trace Context."""
        if TRACEPARENT not in headers:
            return None, None
        carrier = {TRACEPARENT: headers[TRACEPARENT]}
        if len(state := headers.get(TRACESTATE, "")) <= MOST_STATE:
            carrier[TRACESTATE] = state
        context = self.read(carrier, Context())
        found = get_current_span(context).get_span_context()
        return (context, found) if found.is_valid else (None, None)

    def make(self, name: str, parent: Context, began: int, attributes: Mapping[str, Value], links: Sequence[Link]) -> Span:
        return self.tracer.start_span(name, parent, attributes=attributes, links=links, start_time=began)

    def batch(self, trace: Trace, engine: str, began: float, ended: float, together: int) -> SpanContext:
        """The span of a batch, in a trace of its own, made when the first request says that it was in it."""
        key = engine, began
        if key not in self.batches:
            span = self.make("batch", Context(), trace.at(began), {"hubel.batch.size": together}, ())
            self.batches[key] = span
            asyncio.get_running_loop().call_later(LINGER_SECONDS, self.end_batch, key, trace.at(ended))
        self.batches[key].add_link(trace.context)
        return self.batches[key].get_span_context()

    def end_batch(self, key: tuple[str, float], ended: int | None = None) -> None:
        if (span := self.batches.pop(key, None)) is not None:
            span.end(ended)

    def close(self) -> None:
        """Send what is not sent yet, for ``FLUSH_SECONDS`` at most."""
        for key in list(self.batches):
            self.end_batch(key)
        thread = threading.Thread(target=self.provider.shutdown, name="last spans", daemon=True)
        thread.start()
        thread.join(FLUSH_SECONDS)


def described(environment: Mapping[str, str]) -> str:
    return " ".join(filter(None, (environment.get(SAMPLER) or "parentbased_always_on", environment.get(ARGUMENT))))


def start(address: str) -> Tracer:
    """Spans go to an address, as often and as many as the OTEL_ variables say. Raises what the SDK does about these."""
    given = OTELResourceDetector().detect().attributes
    instance = {"service.name": NAME, "service.instance.id": os.urandom(8).hex(), "process.pid": os.getpid()}
    sampler = TracerProvider(shutdown_on_exit=False).sampler  # that of the variables
    sender = Sender(OTLPSpanExporter(), address)
    log.info("traces go to %s, sampled by %s", address, described(os.environ))
    return Tracer(BatchSpanProcessor(sender), sampler, Resource.create({**instance, **given}))
