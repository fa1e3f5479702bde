"""Each alert fires by a real fault of a real service, seen by a real Prometheus whose windows are shortened; none before."""

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import onnxruntime
import pytest

from models.lifecycle import candidate
from models.lifecycle.candidate import Candidate
from models.package.precision import OPENVINO
from models.registry import registry
from service.http import api_keys
from tests.conftest import Figures, StartServer
from tests.deploy.prometheus import Prometheus, running
from tests.deploy.promql import rules
from tests.factories import make_image, make_package
from tests.faults.slow import make_slow_package, picture
from tests.server import ROOT, Server, launch_as
from tests.traffic import TURNED

pytestmark = [pytest.mark.server, pytest.mark.long]

PATIENCE = 90.0  # seconds of a fault until its alert fires
KEY, BLOCK = api_keys.make("prometheus")
fired: dict[str, float] = {}  # alert -> seconds after the fault began


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    with running(tmp_path_factory.mktemp("prometheus"), key=KEY) as started:
        yield started


@pytest.fixture
def watched(prometheus: Prometheus, start_server: StartServer) -> Iterator[Callable[..., Server]]:
    """Services that are scraped one at a time, and have been without an alert before their fault."""
    servers: list[Server] = []

    def start(*store: Path, **settings: str) -> Server:
        server = start_server(*store, **settings)
        servers.append(server)
        watch(prometheus, server)
        return server

    yield start
    prometheus.watch()
    for server in servers:
        server.stop()


def watch(prometheus: Prometheus, server: Server) -> None:
    prometheus.watch(server)
    instance = f'instance="127.0.0.1:{server.port}"'
    prometheus.wait_for(lambda: prometheus.ask(f"count_over_time(up{{{instance}}}[1m]) > 3"), "it is scraped")


def provoke(prometheus: Prometheus, *alerts: str, fault: Callable[[], object]) -> None:
    """Do what is wrong again and again, in a thread, until each of these alerts has fired."""
    assert not set(alerts) & set(prometheus.firing())
    began, missing, over = time.monotonic(), set(alerts), threading.Event()

    def repeat() -> None:
        while not over.wait(0.2):
            fault()

    with ThreadPoolExecutor(1) as pool:
        work = pool.submit(repeat)
        try:
            while missing:
                assert time.monotonic() - began < PATIENCE, f"{missing} do not fire"
                assert not work.done(), work.exception()
                for alert, annotations in prometheus.firing().items():
                    assert not any("<no value>" in text or "<error" in text for text in annotations.values()), annotations
                    if alert in missing:
                        fired[alert] = time.monotonic() - began
                        missing.remove(alert)
                time.sleep(0.2)
        finally:
            over.set()


def post(server: Server, image: bytes, **headers: str) -> int:
    """The status; 0 where there is none."""
    with suppress(httpx.TransportError), server.client() as client:
        return client.post("/v1/classify", content=image, headers=headers).status_code
    return 0


def kill(processes: Callable[[], list[int]]) -> None:
    for pid in processes():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_processes_that_die_and_a_service_that_is_gone(prometheus: Prometheus, watched: Callable[..., Server]) -> None:
    server = watched(HUBEL_WORKERS="2")
    stays = server.workers()[0]  # and answers for all
    provoke(
        prometheus,
        "HubelWorkerMissing", "HubelProcessesDie",
        fault=lambda: kill(lambda: [pid for pid in server.workers() if pid != stays]),
    )  # fmt: skip
    provoke(prometheus, "HubelEngineMissing", fault=lambda: kill(server.engines))
    server.stop()
    provoke(prometheus, "HubelDown", fault=lambda: None)


def test_one_of_two_services_that_is_found_no_more(
    prometheus: Prometheus, watched: Callable[..., Server], start_server: StartServer
) -> None:
    stays, goes = watched(), start_server()
    prometheus.watch(stays, goes)
    prometheus.wait_for(lambda: prometheus.ask('count(up{job="hubel"})') == [2], "both are scraped")
    goes.stop()
    prometheus.watch(stays)  # as the list of names that Docker answers with
    provoke(prometheus, "HubelReplicaGone", fault=lambda: None)


def test_more_than_can_be_computed(prometheus: Prometheus, watched: Callable[..., Server], wide_store: Path) -> None:
    server = watched(wide_store, HUBEL_MAX_QUEUE="4", HUBEL_MAX_IMAGES="4")
    image = make_image()
    with ThreadPoolExecutor(16) as pool:
        provoke(
            prometheus,
            "HubelOverloaded", "HubelAvailabilityFastBurn", "HubelAvailabilitySlowBurn",
            fault=lambda: list(pool.map(lambda _: post(server, image), range(64))),
        )  # fmt: skip


def test_answers_that_come_late(prometheus: Prometheus, watched: Callable[..., Server], tmp_path: Path) -> None:
    make_slow_package(tmp_path / "store")
    server = watched(tmp_path / "store", HUBEL_DEADLINE_MS="60000", HUBEL_HANG_SECONDS="60")
    provoke(prometheus, "HubelLatencyFastBurn", "HubelLatencySlowBurn", fault=lambda: post(server, picture(2)))
    provoke(prometheus, "HubelLate", fault=lambda: post(server, picture(1), **{"x-deadline-ms": "100"}))


def test_images_that_are_none(prometheus: Prometheus, watched: Callable[..., Server]) -> None:
    server, image = watched(), make_image()[:200]
    provoke(prometheus, "HubelUploadsRejected", fault=lambda: post(server, image))


def test_versions_that_are_refused_or_worse_and_a_store_that_is_damaged(
    prometheus: Prometheus, watched: Callable[..., Server], tmp_path: Path
) -> None:
    store = tmp_path / "store"
    make_package(store)
    make_package(store, labels=TURNED)
    make_package(store, golden_error=1.0)
    server, image = watched(store), make_image(color="red")
    candidate.start(store, "tiny", Candidate(2, "canary", requests=100_000, percent=20))  # disagrees about every picture
    provoke(prometheus, "HubelCanaryRolledBack", fault=lambda: [post(server, image) for _ in range(5)])
    registry.promote(store, "tiny", 3, "test")
    provoke(prometheus, "HubelModelRefused", fault=lambda: None)
    (store / "tiny" / "current.json").write_text("{")
    provoke(prometheus, "HubelStoreFaulty", fault=lambda: None)


@pytest.mark.skipif(OPENVINO not in onnxruntime.get_available_providers(), reason="no OpenVINO here that could be skipped")
def test_a_provider_that_cannot_compute_the_graph(prometheus: Prometheus, watched: Callable[..., Server], tmp_path: Path) -> None:
    make_package(tmp_path / "store", graph={"poison": True})  # with a sequence, which OpenVINO has not
    assert "HubelBackendSkipped" not in prometheus.firing()
    watched(tmp_path / "store")
    prometheus.wait_for(lambda: "HubelBackendSkipped" in prometheus.firing(), "the alert fires")
    fired["HubelBackendSkipped"] = float("nan")  # from the start on


def test_images_unlike_the_reference_and_a_folder_that_cannot_be_written_to(
    prometheus: Prometheus, watched: Callable[..., Server], reference_store: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    server = watched(reference_store, HUBEL_FEEDBACK_DIR=str(kept))
    image = make_image(color="blue")
    provoke(prometheus, "HubelDrift", fault=lambda: [post(server, image) for _ in range(20)])
    shutil.rmtree(kept / "images")
    (kept / "images").touch()
    provoke(prometheus, "HubelKeptImagesDisk", fault=lambda: post(server, image))


def test_a_log_that_nobody_takes_and_a_file_of_keys_that_is_faulty(
    prometheus: Prometheus, tiny_store: Path, tmp_path: Path
) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text(BLOCK)
    keys.chmod(0o600)
    prefix = ("sh", "-c", 'exec "$@" 2>/dev/full', "sh")
    server = launch_as(prefix, ROOT, tiny_store, tmp_path / "log.txt", {"HUBEL_API_KEYS_FILE": str(keys)})
    try:
        server.wait_until_ready()
        watch(prometheus, server)
        provoke(prometheus, "HubelLogLost", fault=lambda: kill(server.engines))
        server.wait_until_ready()
        keys.write_text("nonsense")
        provoke(prometheus, "HubelKeysFaulty", fault=lambda: post(server, make_image(), authorization=f"Bearer {KEY}"))
    finally:
        prometheus.watch()
        server.kill()


def test_every_alert_has_fired_in_the_tests_before_this_one(figures: Figures) -> None:
    figures(**{f"{alert} after s": seconds for alert, seconds in fired.items()})
    assert set(fired) == {rule["alert"] for rule in rules() if "alert" in rule}
