"""Every panel has data of a real service under load, by a Prometheus that scrapes it: queries are asked, nothing is rendered."""

import math
import time
from pathlib import Path

import httpx
import pytest

from tests.client import results_of, samples, send
from tests.conftest import StartServer
from tests.deploy.dashboards import DASHBOARDS, queries
from tests.deploy.prometheus import PATIENCE, Prometheus, running
from tests.factories import LABELS, make_image
from tests.server import Server

pytestmark = pytest.mark.server

WINDOW = "15s"  # in the place of Grafana's $__rate_interval
SECONDS = 3.0  # of load between two looks
SILENT = {  # panels that have nothing to show of such a service, and why
    "service: Requests by key": "keys are not needed",
    "service: Dropped images": "no client hung up, no deadline passed",
    "service: Connections cut": "no connection was closed",
    "models: Time of a swap": "no version became live",
    "models: Novelty": "the network has no such output",
    "models: Index": "no folder of indexes is set",
    "models: Drift of the network's features": "it looks at 200 images, ten a second",
    "machine: GPU busy": "no GPU",
    "machine: GPU memory": "no GPU",
    "machine: GPU power": "no GPU",
    "machine: GPU temperature": "no GPU",
    "machine: GPU errors": "no GPU",
}


def use(server: Server, seconds: float) -> None:
    """A little of everything, on a new connection each time so that every worker has some; feedback on one answer."""
    images = [make_image(color=color, seed=seed) for seed in range(4) for color in LABELS]
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with server.client() as client:
            (result,) = results_of(send(client, "/v1/classify", images[:1], "raw"))
            results_of(send(client, "/v1/top-k", images))
            results_of(send(client, "/v1/classify", images))
            results_of(send(client, "/v1/features", images[:2]))
            assert send(client, "/v1/classify", [b"no image"], "raw").status_code == 415
            assert client.get("/nowhere").status_code == 404
            feedback = {"answer": result["answer"], "label": result["label"]}
            assert client.post("/v1/feedback", json=feedback).status_code == 200
            time.sleep(0.05)  # in which a shadow is computed


def test_every_panel_has_data_of_a_service_under_load(start_server: StartServer, reference_store: Path, tmp_path: Path) -> None:
    found = {str(query) for query in queries()}
    assert set(SILENT) <= found
    with running(tmp_path) as prometheus:
        server = start_server(reference_store, HUBEL_WORKERS="2", HUBEL_FEEDBACK_DIR=str(tmp_path / "kept"))
        prometheus.watch(server)
        with server.client() as client:
            wait_for_shadow(client)
        prometheus.wait_for(lambda: 2 in prometheus.ask("hubel_workers_alive"), "both workers are scraped")
        without = unanswered(prometheus, server)
        noted = [prometheus.ask(one["expr"]) for board in DASHBOARDS.values() for one in board["annotations"]["list"]]
        rules = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
    assert without == set()
    assert noted
    assert [rule["lastError"] for rule in rules if rule["health"] != "ok"] == []


def unanswered(prometheus: Prometheus, server: Server) -> set[str]:
    """Panels that should have data and have none at any look, all of them taken under load: a rate of nothing is no number."""
    without = [query for query in queries() if str(query) not in SILENT]
    until = time.monotonic() + PATIENCE
    while without and time.monotonic() < until:
        use(server, SECONDS)
        without = [query for query in without if not is_answered(prometheus, query.asked(WINDOW))]
    return {f"{query}: {query.text}" for query in without}


def wait_for_shadow(client: httpx.Client) -> None:
    until = time.monotonic() + 60
    while samples(client).get('hubel_candidate_version{model="tiny"}') != 2:
        assert time.monotonic() < until
        time.sleep(0.1)


def is_answered(prometheus: Prometheus, expression: str) -> bool:
    """Whether it gives a number. What is not a number is drawn as a gap: a share of nothing, as of a version that waits."""
    found = prometheus.ask(expression)
    return any(map(math.isfinite, found)) and not any(map(math.isinf, found))
