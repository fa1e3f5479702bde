"""The real service with traces and a log of JSON: what a collector gets of requests, and what it never gets."""

import json
import shutil
import subprocess
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.http import api_keys
from service.telemetry.lines import Event, RequestEvent
from tests.client import results_of, send
from tests.collector import Collector, Span, collecting
from tests.conftest import StartServer
from tests.factories import make_image
from tests.server import ROOT, Server, free_port, launch

pytestmark = pytest.mark.server
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
ABOVE = "00f067aa0ba902b7"
STAGES = ["read", "decode", "queue", "infer", "postprocess"]
SOON = {"OTEL_BSP_SCHEDULE_DELAY": "50", "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}


def traceparent(trace_id: str, flags: str = "01") -> dict[str, str]:
    return {"traceparent": f"00-{trace_id}-{ABOVE}-{flags}"}


def number(value: int) -> str:
    return f"{value + 2**100:032x}"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    key, block = api_keys.make("web")
    file = tmp_path_factory.mktemp("keys") / "keys.toml"
    file.write_text(block)
    return key, file


@pytest.fixture(scope="module")
def traced(start_server: StartServer, collector: Collector, key: tuple[str, Path]) -> Server:
    where = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.address, "OTEL_SERVICE_NAME": "pictures"}
    secret = {"OTEL_EXPORTER_OTLP_HEADERS": "x-token=t0ken-of-collector"}
    return start_server(HUBEL_LOG="json", HUBEL_API_KEYS_FILE=str(key[1]), **where, **secret, **SOON)


@pytest.fixture(scope="module")
def client(traced: Server, key: tuple[str, Path]) -> Iterator[httpx.Client]:
    with traced.client() as client:
        client.headers["authorization"] = f"Bearer {key[0]}"
        yield client


def events(server: Server) -> list[dict[str, Any]]:
    """Every line of its log, each of which is an object."""
    return [json.loads(line) for line in server.output().splitlines()]


def requests_in(server: Server, count: int = 1, **wanted: object) -> list[dict[str, Any]]:
    """The lines about requests with these values, waited for."""
    until = time.monotonic() + 20
    while True:
        lines = server.output().rpartition("\n")[0].splitlines()
        found = [event for event in map(json.loads, lines) if event["logger"] == "hubel.request"]
        found = [event for event in found if wanted.items() <= event.items()]
        if len(found) >= count:
            return found
        assert time.monotonic() < until, (wanted, lines)
        time.sleep(0.05)


def children(spans: list[Span], server: Span) -> list[str]:
    return [span.name for span in sorted(spans, key=lambda span: span.began) if span.parent_id == server.span_id]


def test_one_request_shows_its_stages_below_the_client_s_span(client: httpx.Client, collector: Collector) -> None:
    client_id = number(1)
    answer = client.post("/v1/classify", content=make_image(), headers=traceparent(client_id) | {"x-request-id": "mine"})
    spans = collector.trace(client_id, "POST /v1/classify")
    (server,) = [span for span in spans if span.name == "POST /v1/classify"]
    assert (server.parent_id, server.kind, server.failed) == (ABOVE, 2, False)
    assert children(spans, server) == STAGES
    assert len(spans) == 1 + len(STAGES)
    assert all(server.began <= span.began <= span.ended <= server.ended + 0.001 for span in spans)
    timing = dict(part.split(";dur=") for part in answer.headers["server-timing"].split(", "))
    assert {span.name: 1000 * (span.ended - span.began) for span in spans if span is not server} == pytest.approx(
        {stage: float(ms) for stage, ms in timing.items()}, abs=0.02
    )
    assert server.attributes == {
        "http.request.method": "POST",
        "url.scheme": "http",
        "http.route": "/v1/classify",
        "http.request.body.size": len(make_image()),
        "http.response.status_code": 200,
        "hubel.outcome": "ok",
        "hubel.request_id": "mine",
        "hubel.images": 1,
        "hubel.failed": 0,
        "hubel.pixels": 64 * 48,
        "hubel.model": "tiny",
        "hubel.version": 1,
    }
    assert server.resource["service.name"] == "pictures"
    assert collector.posts[0][0] == "/v1/traces"
    assert collector.posts[0][1]["x-token"] == "t0ken-of-collector"


def test_a_request_without_a_trace_begins_one_that_has_its_id(client: httpx.Client, collector: Collector) -> None:
    answer = client.post("/v1/top-k", content=make_image())
    (server, *_) = [s for s in collector.trace(answer.headers["x-request-id"], "POST /v1/top-k") if not s.parent_id]
    assert server.name == "POST /v1/top-k"


@pytest.mark.parametrize("path", ["/v1/top-k", "/v1/features", "/v1/similar", "/v1/explain"])
def test_every_route_about_images_is_traced(client: httpx.Client, collector: Collector, path: str) -> None:
    trace = number(100 + len(path))
    answer = client.post(path, content=make_image(), headers=traceparent(trace))
    spans = collector.trace(trace, f"POST {path}")
    (server,) = [span for span in spans if span.name == f"POST {path}"]
    assert answer.status_code == server.attributes["http.response.status_code"]
    if answer.status_code == 200:
        assert children(spans, server)[:5] == STAGES
    else:
        assert server.attributes["hubel.outcome"] == answer.json()["code"]
        assert "error.type" not in server.attributes


def test_images_that_are_computed_together_share_a_batch_that_is_linked_with_their_request(
    client: httpx.Client, collector: Collector
) -> None:
    trace = number(2)
    files = [("i", (f"{n}", make_image(seed=n), "image/png")) for n in range(4)]
    assert client.post("/v1/classify", files=files, headers=traceparent(trace)).status_code == 200
    spans = collector.trace(trace, "POST /v1/classify")
    (server,) = [span for span in spans if span.name == "POST /v1/classify"]
    passes = [span for span in spans if span.name == "infer"]
    assert len(passes) == 4
    together = [span for span in passes if span.attributes["hubel.batch.size"] > 1]
    assert together
    for each in together:
        (link,) = each.links
        collector.wait(lambda link=link: any(span.span_id == link for span in collector.named("batch")))
        (batch,) = [span for span in collector.named("batch") if span.span_id == link]
        assert set(batch.links) == {server.span_id}
        assert batch.attributes == {"hubel.batch.size": each.attributes["hubel.batch.size"]}
        assert batch.trace_id != trace


def test_probes_and_scrapes_are_neither_traced_nor_logged(client: httpx.Client, collector: Collector, traced: Server) -> None:
    for path in ("/livez", "/readyz", "/metrics"):
        assert client.get(path, headers=traceparent(number(3))).status_code == 200
    client.get("/v1/info", headers=traceparent(number(4)))
    collector.trace(number(4), "GET /v1/info")
    assert not [span for span in collector.spans if span.trace_id == number(3)]
    assert {event["route"] for event in requests_in(traced, route="/v1/info")} == {"/v1/info"}
    assert not {"/livez", "/readyz", "/metrics"} & {event["route"] for event in requests_in(traced)}


MALFORMED = [b"00-0-0-01", b"x" * 60_000, b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-01", b"\xff\xfe", b"00" * 30_000, b""]


@pytest.mark.parametrize("given", MALFORMED, ids=range(len(MALFORMED)))
def test_a_traceparent_that_is_none_is_ignored(client: httpx.Client, collector: Collector, given: bytes) -> None:
    answer = client.get("/v1/info", headers=[(b"traceparent", given), (b"tracestate", b"a=\xff")])
    assert answer.status_code == 200
    (span,) = collector.trace(answer.headers["x-request-id"], "GET /v1/info")
    assert not span.parent_id


def test_a_traceparent_that_is_there_twice_is_none(client: httpx.Client, collector: Collector) -> None:
    one, two = (value.encode() for n in (5, 6) for value in traceparent(number(n)).values())
    answer = client.get("/v1/info", headers=[(b"traceparent", one), (b"traceparent", two)])
    assert answer.status_code == 200
    (span,) = collector.trace(answer.headers["x-request-id"], "GET /v1/info")
    assert not span.parent_id


def documented(begin: str) -> set[str]:
    """The fields of the first table behind a text of docs/tracing.md."""
    table = (ROOT / "docs/tracing.md").read_text().partition(begin)[2].partition("| --- |")[2].partition("\n\n")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    return {name.strip(" `") for cell in cells for name in cell.split(",")}


def test_the_fields_of_a_line_are_the_documented_ones() -> None:
    common = documented("An event has these fields:")
    assert common == set(Event.__struct_fields__)
    always = {"time", "level", "logger", "pid", "message"}
    assert documented("<!-- request -->") | always == set(RequestEvent.__struct_fields__)
    assert {"id", "method", "route", "status", "outcome", "duration_ms", "stages_ms", "bytes", "images"} == {
        name for name in RequestEvent.__struct_fields__[: -len(RequestEvent.__struct_defaults__)] if name not in always
    }


def test_a_request_is_a_line_with_what_there_is_to_say_of_it(client: httpx.Client, traced: Server) -> None:
    files = [("i", ("a", make_image(), "image/png")), ("i", ("b", b"no image", "image/png"))]
    assert (
        client.post("/v1/classify", files=files, headers=traceparent(number(7)) | {"x-request-id": "order-7"}).status_code == 200
    )
    (event,) = requests_in(traced, given_id="order-7")
    assert list(event["stages_ms"]) == STAGES
    assert set(event) == set(RequestEvent.__struct_fields__)
    stated = {name: event[name] for name in ("level", "message", "method", "route", "status", "outcome", "images", "failed")}
    assert stated == {
        **{"level": "info", "message": "POST /v1/classify 200", "method": "POST", "route": "/v1/classify", "status": 200},
        **{"outcome": "ok", "images": 2, "failed": 1},
    }
    assert (event["model"], event["version"], event["client"], event["pixels"]) == ("tiny", 1, "web", 64 * 48)
    assert event["trace_id"] == number(7)
    assert event["bytes"] > len(make_image())
    assert event["duration_ms"] >= sum(event["stages_ms"].values()) / 2


def test_refusals_and_what_is_no_request_have_a_line_too(client: httpx.Client, traced: Server) -> None:
    client.post("/v1/classify", content=b"no image", headers={"x-request-id": "bad"})
    client.post("/v1/classify", content=make_image(), headers={"authorization": "Bearer wrong", "x-request-id": "stranger"})
    client.get("/nowhere", headers={"x-request-id": "lost"})
    outcomes = {"bad": "unsupported_format", "stranger": "unauthorized", "lost": "unknown_path"}
    found = {name: requests_in(traced, given_id=name)[0] for name in outcomes}
    assert {name: event["outcome"] for name, event in found.items()} == outcomes
    assert found["lost"]["route"] == "other"
    assert "client" not in found["stranger"]
    with httpx.Client(base_url=traced.url, trust_env=False) as other:
        other.request("GET", "/", headers=[(b"x", b"y" * 70_000)])
    (event,) = requests_in(traced, status=431)
    assert (event["method"], event["route"]) == ("", "other")


def test_neither_paths_nor_headers_nor_keys_get_into_log_or_traces(
    client: httpx.Client, traced: Server, collector: Collector, key: tuple[str, Path]
) -> None:
    mark = "uncommon-word"
    for path in (f"/{mark}/%0a%1b%5b2J{{", f"/v1/classify?{mark}=%0a", f"/v1/feedback/{mark}"):
        client.post(path, content=make_image(), headers={"x-request-id": "hostile", "user-agent": mark, "x-more": f"{mark}\t{{"})
    client.delete(f"/v1/feedback/{mark}", headers={"x-request-id": f"{mark} {{", "content-type": f"{mark}/x"})
    client.get("/v1/info", headers=traceparent(number(8)))
    collector.trace(number(8), "GET /v1/info")
    requests_in(traced, 3, given_id="hostile")
    requests_in(traced, route="/v1/feedback/{answer}", method="DELETE")
    log = traced.output()
    assert all(set(json.loads(line)) >= {"time", "level", "logger", "pid", "message"} for line in log.splitlines())
    assert all(line.isprintable() for line in log.splitlines())
    sent = b"".join(body for _, _, body in collector.posts)
    for secret in (key[0], "t0ken-of-collector", mark):
        assert secret not in log
        assert secret.encode() not in sent
    assert b"web" not in sent  # the name of the key


def test_all_processes_write_the_same_form(client: httpx.Client, traced: Server) -> None:
    assert client.get("/v1/info").status_code == 200
    pids = {event["pid"] for event in events(traced)}
    assert pids >= set(traced.processes())


def test_a_collector_that_goes_away_is_missed_by_the_log_alone(
    client: httpx.Client, traced: Server, collector: Collector
) -> None:
    collector.status = 500
    for _ in range(5):
        assert client.post("/v1/classify", content=make_image()).status_code == 200
        time.sleep(0.1)
    until = time.monotonic() + 20
    while not (told := [event for event in events(traced) if "does not take spans" in event["message"]]):
        assert time.monotonic() < until
        time.sleep(0.1)
    assert len(told) == 1
    collector.status = 200
    answer = client.get("/v1/info")
    collector.trace(answer.headers["x-request-id"], "GET /v1/info")


CONFIG = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass {url}; }} }}
}}
"""


@contextmanager
def nginx(folder: Path, url: str) -> Generator[str]:
    """The address of one in front of a service."""
    assert NGINX
    port = free_port()
    (folder / "nginx.conf").write_text(CONFIG.format(folder=folder, port=port, url=url))
    process = subprocess.Popen([NGINX, "-p", folder, "-e", folder / "start.log", "-c", folder / "nginx.conf"])
    try:
        until = time.monotonic() + 20
        while True:
            try:
                httpx.get(f"http://127.0.0.1:{port}/livez", trust_env=False)
                break
            except httpx.TransportError:
                assert process.poll() is None
                assert time.monotonic() < until
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


@pytest.mark.skipif(NGINX is None, reason="there is no nginx here")
def test_through_nginx_the_client_s_trace_goes_on(
    traced: Server, collector: Collector, key: tuple[str, Path], tmp_path: Path
) -> None:
    with nginx(tmp_path, traced.url) as url:
        headers = traceparent(number(9)) | {"authorization": f"Bearer {key[0]}"}
        answer = httpx.post(f"{url}/v1/classify", content=make_image(), headers=headers, trust_env=False)
    assert answer.status_code == 200
    spans = collector.trace(number(9), "POST /v1/classify")
    (server,) = [span for span in spans if span.name == "POST /v1/classify"]
    assert server.parent_id == ABOVE
    assert children(spans, server) == STAGES


def test_what_is_not_sampled_is_not_sent(start_server: StartServer) -> None:
    none = {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"}
    with collecting() as collector:
        server = start_server(OTEL_EXPORTER_OTLP_ENDPOINT=collector.address, **none, **SOON)
        with server.client() as client:
            for _ in range(20):
                results_of(send(client, "/v1/classify", [make_image()]))
                assert client.get("/v1/info", headers=traceparent(number(1))).status_code == 200
        assert server.stop() == 0  # which sends what waits
        assert collector.posts == []
        assert "INFO hubel.request" not in server.output()  # as text they are not logged


def test_a_collector_that_never_answers_costs_no_request_and_no_end(start_server: StartServer) -> None:
    small = {"OTEL_BSP_MAX_QUEUE_SIZE": "64", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "16", "OTEL_BSP_SCHEDULE_DELAY": "20"}
    with collecting(status=0) as hole:
        server = start_server(OTEL_EXPORTER_OTLP_ENDPOINT=hole.address, **small)
        with server.client() as client:
            for _ in range(40):
                results_of(send(client, "/v1/classify", [make_image()]))
            assert client.get("/readyz").status_code == 200
        hole.wait(lambda: bool(hole.posts))
        assert server.stop() == 0
        lines = server.output().splitlines()
    assert sum("span" in line.lower() for line in lines) <= 2, lines


def test_a_service_that_cannot_trace_as_it_should_does_not_start(tiny_store: Path, tmp_path: Path) -> None:
    server = launch(tiny_store, tmp_path / "log", OTEL_EXPORTER_OTLP_ENDPOINT="collector:4318")
    assert server.process.wait(60) == 1
    assert server.output().startswith("error: OTEL_EXPORTER_OTLP_ENDPOINT is 'collector:4318', it must be an address")
