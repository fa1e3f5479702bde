"""What traces and a log of JSON cost: ``python -m benchmarks.tracing``, services that differ in these alone, in turns.

Each is asked by wrk with tiny pictures, for which a request costs least beside them. All are up at a time, and idle unless asked;
from round to round the order is turned round. "off again" is what the same service differs by from itself. The collector, which
takes spans and forgets them, runs on the same machine.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from timeit import timeit

from benchmarks import fronts, machine, wrk
from benchmarks.bodies import Bodies
from benchmarks.numbers import spread_of
from benchmarks.processes import ROOT, Server, free_port, start, wait_for_answer

MODEL, WARM_SECONDS = "cifar10", 2
RATIO = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio"}
WAYS: dict[str, dict[str, str] | None] = {  # settings beside the collector; None: without one
    "off": None,
    "off again": None,
    "0 % traced": RATIO | {"OTEL_TRACES_SAMPLER_ARG": "0"},
    "1 % traced": RATIO | {"OTEL_TRACES_SAMPLER_ARG": "0.01"},
    "10 % traced": RATIO | {"OTEL_TRACES_SAMPLER_ARG": "0.1"},
    "all traced": RATIO | {"OTEL_TRACES_SAMPLER_ARG": "1"},
    "log of JSON": {"HUBEL_LOG": "json", "OTEL_TRACES_EXPORTER": "none"},
}


class Sink(BaseHTTPRequestHandler):
    """Takes what is posted."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


def collect(port: int) -> None:
    ThreadingHTTPServer(("127.0.0.1", port), Sink).serve_forever()


def start_service(way: dict[str, str] | None, collector: int, folder: Path, name: str) -> Server:
    port = free_port()
    rest = {key: value for key, value in os.environ.items() if not key.startswith(("HUBEL_", "OTEL_"))}
    where = {} if way is None else {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector}"} | way
    settings = {"HUBEL_MODEL": MODEL, "HUBEL_PORT": str(port), "PYTHONPATH": str(ROOT)}
    return start([sys.executable, "-m", "service"], rest | settings | where, port, folder / name.replace(" ", "-"))


def measure(ways: list[str], rounds: int, seconds: int, clients: int) -> int:
    sent = Bodies("/v1/classify", "image/jpeg", fronts.pictures("tiny"))
    found: dict[str, list[wrk.Closed]] = {name: [] for name in ways}
    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        port = free_port()
        sink = subprocess.Popen([sys.executable, "-m", "benchmarks.tracing", "--collect", str(port)], cwd=ROOT)
        stack.callback(sink.wait)
        stack.callback(sink.terminate)
        services: dict[str, Server] = {}
        for name in ways:
            began = time.monotonic()
            services[name] = start_service(WAYS[name], port, Path(folder), name)
            stack.callback(services[name].stop)
            wait_for_answer(services[name], sent, began)
            wrk.load(services[name].port, sent, clients, WARM_SECONDS, services[name].cpu_seconds)
        for turn in range(rounds):
            for name in ways if turn % 2 == 0 else ways[::-1]:
                service = services[name]
                found[name].append(wrk.load(service.port, sent, clients, seconds, service.cpu_seconds))
                service.wait_until_idle()
    show(found, clients, seconds)
    return int(any(result.errors for results in found.values() for result in results))


def alone() -> None:
    """What it costs the event loop of a worker, without a service: microseconds, the median of 15 rounds of 500 requests."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBasedTraceIdRatio

    from service.http import answered
    from service.http.request import Request, new_id, nothing
    from service.telemetry.spans import Tracer

    given = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"}
    off, on = (Tracer(SpanProcessor(), sampler, Resource({})) for sampler in (ParentBasedTraceIdRatio(0), ALWAYS_ON))
    stages = dict.fromkeys(("read", "decode", "queue", "infer", "postprocess"), 0.001)
    request = Request("POST", "/v1/classify", "", {}, nothing, new_id(), stages, model="cifar10:2", images=1, pixels=1024)

    def trace() -> None:
        found = on.begin(request.id, "POST", "/v1/classify", {})
        assert found is not None
        for stage in stages:
            found.stage(stage, 1.0, 2.0)
        found.end(200, "ok", answered.facts(request))

    ways = {
        "a request that is not traced": lambda: off.begin(request.id, "POST", "/v1/classify", {}),
        "the same, with a traceparent": lambda: off.begin(request.id, "POST", "/v1/classify", given),
        "a request that is traced": trace,
        "a line of JSON": lambda: answered.line(request, "/v1/classify", 200, "ok", 0.0, None),
    }
    for name, work in ways.items():
        print(f"{name}: {median(1e6 * timeit(work, number=500) / 500 for _ in range(15)):.1f} us")


def show(found: dict[str, list[wrk.Closed]], clients: int, seconds: int) -> None:
    first = next(iter(found.values()))
    print(f"\n{machine.describe()['processor']}; {clients} clients, {seconds} s a turn, n = {len(first)}\n")
    print("| | images/s | least to most | against the first, by round | core ms an image |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, results in found.items():
        if (rates := spread_of([result.rate for result in results])) is None:
            continue
        change = median(100 * (result.rate / before.rate - 1) for result, before in zip(results, first, strict=True))
        core = median(result.core_ms for result in results)
        print(f"| {name} | {rates.median:.0f} | {rates.low:.0f} to {rates.high:.0f} | {change:+.2f} % | {core:.3f} |")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tracing", description=__doc__)
    parser.add_argument("--ways", default=",".join(WAYS), help=f"with commas (default: {','.join(WAYS)})")
    parser.add_argument("--rounds", type=int, default=11, help="turns of each (default: 11)")
    parser.add_argument("--seconds", type=int, default=5, help="of a turn (default: 5)")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--alone", action="store_true", help="without a service: what it costs the event loop of a worker")
    parser.add_argument("--collect", type=int, metavar="PORT", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.collect:
        collect(given.collect)
        return 0
    if given.alone:
        alone()
        return 0
    return measure(given.ways.split(","), given.rounds, given.seconds, given.clients)


if __name__ == "__main__":
    sys.exit(main())
