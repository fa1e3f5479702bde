"""What becomes spans: which requests, under whose trace, and how they and their batches are linked."""

import asyncio
import threading
import time
from collections.abc import Mapping

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, ParentBasedTraceIdRatio, Sampler
from opentelemetry.trace import SpanContext

from service.telemetry import spans as module
from service.telemetry.spans import MOST_SPANS, Tracer

ID = "0af7651916cd43dd8448eb211c80319c"  # of a request
CLIENT = "4bf92f3577b34da6a3ce929d0e0e4736"
ABOVE = "00f067aa0ba902b7"
TRACEPARENT = f"00-{CLIENT}-{ABOVE}-01"


class Traced:
    """A tracer, and what it has made."""

    def __init__(self, sampler: Sampler = ALWAYS_ON) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracer = Tracer(SimpleSpanProcessor(self.exporter), sampler, Resource({}))

    def begin(
        self, headers: Mapping[str, str] | None = None, route: str | None = "/v1/classify", method: str = "POST"
    ) -> module.Trace:
        trace = self.tracer.begin(ID, method, route, headers or {})
        assert trace is not None
        return trace

    def made(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self.exporter.get_finished_spans()}


def context(span: ReadableSpan) -> SpanContext:
    found = span.get_span_context()
    assert found is not None
    return found


def test_a_trace_that_no_client_began_has_the_request_s_id() -> None:
    traced = Traced()
    trace = traced.begin()
    trace.end(200, "ok", {})
    span = traced.made()["POST /v1/classify"]
    assert trace.trace_id == f"{context(span).trace_id:032x}" == ID
    assert span.parent is None
    assert dict(span.attributes or {}) == {
        "http.request.method": "POST",
        "url.scheme": "http",
        "http.route": "/v1/classify",
        "http.response.status_code": 200,
        "hubel.outcome": "ok",
    }


@pytest.mark.parametrize("version", ["00", "01", "fe"])
def test_the_trace_of_the_client_goes_on(version: str) -> None:
    traced = Traced()
    more = "" if version == "00" else "-more"
    traced.begin({"traceparent": version + TRACEPARENT[2:] + more, "tracestate": "a=1,b=2"}).end(200, "ok", {})
    span = traced.made()["POST /v1/classify"]
    assert f"{context(span).trace_id:032x}" == CLIENT
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == ABOVE
    assert context(span).trace_state.to_header() == "a=1,b=2"


MALFORMED = [
    "",
    "x",
    "00-" + "0" * 32 + f"-{ABOVE}-01",
    f"00-{CLIENT}-" + "0" * 16 + "-01",
    f"ff-{CLIENT}-{ABOVE}-01",
    f"00-{CLIENT.upper()}-{ABOVE}-01",
    f"00-{CLIENT}-{ABOVE}-01-more",
    f"00-{CLIENT}-{ABOVE}-1",
    f"00-{CLIENT}{ABOVE}-01",
    f"{TRACEPARENT},{TRACEPARENT}",
    TRACEPARENT.replace("-", "_"),
    TRACEPARENT + "\x00",
    TRACEPARENT.replace("4", "\u00e9"),
    TRACEPARENT * 1000,
    "00-" * 20_000,
    " " * 60_000 + TRACEPARENT[:-1],
]


@pytest.mark.parametrize("given", MALFORMED, ids=range(len(MALFORMED)))
def test_what_is_no_traceparent_is_ignored(given: str) -> None:
    traced = Traced()
    began = time.process_time()
    traced.begin({"traceparent": given, "tracestate": "a=1"}).end(200, "ok", {})
    assert time.process_time() - began < 0.5  # of the processor, for what takes microseconds
    span = traced.made()["POST /v1/classify"]
    assert (f"{context(span).trace_id:032x}", span.parent) == (ID, None)
    assert not context(span).trace_state


@pytest.mark.parametrize("state", ["a" * 60_000, "a=1," * 15_000, "," * 60_000, "=,=,\x01", "a=" + "1" * 600])
def test_of_a_tracestate_that_is_long_or_makes_no_sense_nothing_is_kept(state: str) -> None:
    traced = Traced()
    traced.begin({"traceparent": TRACEPARENT, "tracestate": state}).end(200, "ok", {})
    span = traced.made()["POST /v1/classify"]
    assert f"{context(span).trace_id:032x}" == CLIENT
    assert not context(span).trace_state


def test_who_is_traced_is_decided_by_the_sampler_and_the_client_s_flag() -> None:
    none = Traced(ALWAYS_OFF).tracer
    assert none.begin(ID, "POST", "/v1/classify", {"traceparent": TRACEPARENT}) is None
    by_client = Traced(ParentBased(ALWAYS_OFF)).tracer
    assert by_client.begin(ID, "POST", "/v1/classify", {}) is None
    assert by_client.begin(ID, "POST", "/v1/classify", {"traceparent": TRACEPARENT[:-1] + "0"}) is None
    assert by_client.begin(ID, "POST", "/v1/classify", {"traceparent": TRACEPARENT}) is not None
    for flags, traced in (("00", False), ("02", False), ("fe", False), ("03", True), ("ff", True)):
        found = Traced(ParentBased(ALWAYS_ON)).tracer.begin(ID, "POST", None, {"traceparent": TRACEPARENT[:-2] + flags})
        assert (found is not None) == traced
    for malformed in (f"00-{'0' * 32}-{ABOVE}-00", f"00-{CLIENT}-{'0' * 16}-00", f"00-{CLIENT}-{ABOVE}-0"):
        assert Traced(ParentBased(ALWAYS_ON)).tracer.begin(ID, "POST", None, {"traceparent": malformed}) is not None


def test_the_share_that_is_traced_is_the_one_asked_for() -> None:
    tracer = Traced(ParentBasedTraceIdRatio(0.25)).tracer
    ids = [f"{(number * 2**64) // 1000 + 2**127:032x}" for number in range(1000)]  # evenly
    assert sum(tracer.begin(each, "POST", "/v1/classify", {}) is not None for each in ids) == 250


def test_stages_are_children_with_their_own_times() -> None:
    traced = Traced()
    trace = traced.begin()
    now = time.perf_counter()
    trace.stage("decode", now - 0.5, now - 0.25)
    trace.stage("queue", now, now - 1)  # clocks that disagree make no span that ends before it begins
    trace.infer("engine", now, now + 0.125, 1)
    trace.end(200, "ok", {"hubel.images": 1})
    made = traced.made()
    server = made["POST /v1/classify"]
    assert [made[name].parent == context(server) for name in ("decode", "queue", "infer")] == [True] * 3
    seconds = {name: ((span.end_time or 0) - (span.start_time or 0)) / 1e9 for name, span in made.items()}
    assert [seconds[name] for name in ("decode", "queue", "infer")] == pytest.approx([0.25, 0, 0.125], abs=1e-5)
    assert abs((made["decode"].start_time or 0) / 1e9 - time.time()) < 60
    assert "batch" not in made


@pytest.mark.parametrize(("status", "outcome", "failed"), [(400, "invalid_parameter", False), (503, "overloaded", True)])
def test_a_fault_of_the_service_fails_the_span_and_one_of_the_client_does_not(status: int, outcome: str, failed: bool) -> None:
    traced = Traced()
    traced.begin(route=None, method="BREW").end(status, outcome, {})
    span = traced.made()["HTTP"]
    assert span.status.is_ok != failed
    attributes = dict(span.attributes or {})
    assert attributes["http.request.method"] == "_OTHER"
    assert attributes.get("error.type") == (outcome if failed else None)
    assert "http.route" not in attributes


def test_a_request_whose_client_hung_up_has_no_status() -> None:
    traced = Traced()
    traced.begin().end(0, "disconnected", {})
    attributes = dict(traced.made()["POST /v1/classify"].attributes or {})
    assert attributes["error.type"] == "disconnected"
    assert "http.response.status_code" not in attributes


def test_one_request_makes_no_endless_number_of_spans() -> None:
    traced = Traced()
    trace = traced.begin()
    for _ in range(MOST_SPANS + 10):
        trace.stage("decode", 0.0, 1.0)
    trace.end(200, "ok", {})
    assert len(traced.exporter.get_finished_spans()) == MOST_SPANS + 1
    assert dict(traced.made()["POST /v1/classify"].attributes or {})["hubel.spans_left_out"] == 10


def test_a_batch_is_one_span_that_is_linked_with_all_its_requests_and_they_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LINGER_SECONDS", 0.01)
    traced = Traced()

    async def work() -> None:
        traces = [traced.begin({"traceparent": f"00-{number:032x}-{ABOVE}-01"}) for number in (1, 2, 3)]
        for trace, began in zip(traces, (5.0, 5.0, 7.0), strict=True):
            trace.infer("one", began, began + 1, 2)
            trace.end(200, "ok", {})
        traces[0].infer("another", 5.0, 6.0, 4)
        await asyncio.sleep(0.1)

    asyncio.run(work())
    assert traced.tracer.batches == {}
    finished = traced.exporter.get_finished_spans()
    batches = {context(span).span_id: span for span in finished if span.name == "batch"}
    links = [sorted(link.context.trace_id for link in span.links) for span in batches.values()]
    assert sorted(links) == [[1], [1, 2], [3]]
    assert all(span.parent is None and context(span).trace_id > 3 for span in batches.values())
    assert sorted(str(dict(span.attributes or {})["hubel.batch.size"]) for span in batches.values()) == ["2", "2", "4"]
    for span in finished:
        if span.name == "infer":
            (link,) = span.links
            assert context(span).trace_id in [back.context.trace_id for back in batches[link.context.span_id].links]


class Stuck(SimpleSpanProcessor):
    """A collector that answers nothing."""

    def __init__(self, over: threading.Event) -> None:
        super().__init__(InMemorySpanExporter())
        self.over = over

    def shutdown(self) -> None:
        self.over.wait()


def test_the_end_waits_for_no_collector_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FLUSH_SECONDS", 0.05)
    over = threading.Event()
    closing = threading.Thread(target=Tracer(Stuck(over), ALWAYS_ON, Resource({})).close)
    closing.start()
    closing.join(20)
    assert not closing.is_alive()
    over.set()
