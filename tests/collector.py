"""A collector of traces on 127.0.0.1: it takes OTLP over HTTP and keeps the spans, refuses them, or never answers."""

import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

PATIENCE = 20.0  # seconds


class Span:
    """One, with ids in hexadecimal and times in seconds; resource: attributes of the process that made it."""

    def __init__(self, span: Any, resource: dict[str, Any]) -> None:
        self.name: str = span.name
        self.kind: int = span.kind
        self.trace_id, self.span_id, self.parent_id = (x.hex() for x in (span.trace_id, span.span_id, span.parent_span_id))
        self.began, self.ended = span.start_time_unix_nano / 1e9, span.end_time_unix_nano / 1e9
        self.attributes = values(span.attributes)
        self.links = [link.span_id.hex() for link in span.links]
        self.failed = span.status.code == 2
        self.state: str = span.trace_state
        self.resource = resource


def values(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


class Collector(ThreadingHTTPServer):
    """status: that each post is answered with; 0: none is."""

    daemon_threads = True

    def __init__(self, port: int = 0, status: int = 200) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.status = status
        self.spans: list[Span] = []
        self.posts: list[tuple[str, dict[str, str], bytes]] = []  # path, headers, body
        self.over = threading.Event()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]

    def trace(self, trace_id: str, last: str) -> list[Span]:
        """The spans of a trace, waited for until the one named ``last``, which ends after the others."""
        self.wait(lambda: any(span.trace_id == trace_id and span.name == last for span in self.spans))
        return [span for span in self.spans if span.trace_id == trace_id]

    def wait(self, condition: Callable[[], bool]) -> None:
        until = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < until, f"not within {PATIENCE} s; spans: {[span.name for span in self.spans]}"
            time.sleep(0.02)


class Handler(BaseHTTPRequestHandler):
    server: Collector  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.posts.append((self.path, dict(self.headers), body))
        if not self.server.status:
            self.server.over.wait()
            return
        if self.server.status == 200:
            for found in ExportTraceServiceRequest.FromString(body).resource_spans:
                resource = values(found.resource.attributes)
                self.server.spans += [Span(span, resource) for scope in found.scope_spans for span in scope.spans]
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@contextmanager
def collecting(port: int = 0, status: int = 200) -> Generator[Collector]:
    collector = Collector(port, status)
    thread = threading.Thread(target=collector.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield collector
    finally:
        collector.over.set()
        collector.shutdown()
        collector.server_close()
        thread.join()
