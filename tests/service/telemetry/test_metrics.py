"""Every metric keeps to Prometheus's naming, and a scrape tells of one process or of several together."""

import asyncio
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.parser import text_string_to_metric_families

from service.telemetry import metrics

ROOT = Path(__file__).parents[3]
UNITS = ("seconds", "images", "bytes")
UNITLESS = (
    "hubel_novelty",
    "hubel_confidence",
    "hubel_engine_up",
    "hubel_cores",
    "hubel_requests_in_progress",
    "hubel_model_info",
    "hubel_skipped_backends",
    "hubel_workers_expected",
    "hubel_workers_alive",
    "hubel_worker_pid",
    "hubel_connections",
    "hubel_api_keys_file_faulty",
    "hubel_model_version",
    "hubel_workers_in_sync",
    "hubel_refused_version",
    "hubel_registry_unreadable",
    "hubel_candidate_version",
    "hubel_decision_unrecorded",
    "hubel_drift_answers",
    "hubel_drift_reference",
    "hubel_capture_folder_answers",
    "hubel_drift_psi",
    "hubel_drift_feature_distance",
)

DECLARED = [metric for metric in vars(metrics).values() if isinstance(metric, MetricWrapperBase)]


def name_of(metric: MetricWrapperBase) -> str:
    return next(iter(metric.describe())).name


def samples(text: str) -> dict[str, float]:
    """Values by name and labels, as in the text."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


@pytest.mark.parametrize("metric", DECLARED, ids=name_of)
def test_names_help_and_labels_keep_to_the_conventions(metric: MetricWrapperBase) -> None:
    family = next(iter(metric.describe()))
    assert re.fullmatch(r"hubel(_[a-z]+)+", family.name)
    assert family.documentation.endswith(".")
    for suffix in ("_count", "_sum", "_bucket", "_total"):
        assert not family.name.endswith(suffix)  # the client adds these itself
    if not isinstance(metric, Counter) and family.name not in UNITLESS:
        assert family.name.endswith(UNITS)


@pytest.mark.parametrize("metric", [metric for metric in DECLARED if isinstance(metric, Counter)], ids=name_of)
def test_counters_end_in_total(metric: Counter) -> None:
    assert f"# TYPE {name_of(metric)}_total counter" in metrics.render().decode().splitlines()


def test_durations_are_in_seconds_and_their_buckets_reach_the_deadline() -> None:
    assert metrics.SECONDS[0] <= 0.001
    assert metrics.SECONDS[-1] >= 10
    assert list(metrics.SECONDS) == sorted(metrics.SECONDS)


def test_every_gauge_says_how_several_processes_add_up() -> None:
    for gauge in (metric for metric in DECLARED if isinstance(metric, Gauge)):
        assert gauge._multiprocess_mode in ("livesum", "livemax"), gauge  # pyright: ignore[reportPrivateUsage]


def test_declared_metrics_of_every_kind_are_seen_here() -> None:
    assert {type(metric) for metric in DECLARED} == {Counter, Gauge, Histogram}


def test_a_scrape_shows_every_declared_metric() -> None:
    shown = {family.name for family in text_string_to_metric_families(metrics.render().decode())}
    assert {name_of(metric) for metric in DECLARED} <= shown


def test_a_scrape_shows_what_was_counted_and_no_creation_times() -> None:
    metrics.IMAGES.labels("/test").inc(3)
    text = metrics.render().decode()
    assert samples(text)['hubel_images_total{route="/test"}'] == 3
    assert "_created" not in text


COUNT = """
import sys
from service.telemetry import metrics
metrics.IMAGES.labels("/test").inc(2)
metrics.BATCH_SIZE.observe(4)
metrics.QUEUE_DEPTH.set(5)
metrics.MODEL_INFO.labels("tiny", "1", "abc", "CPU", "int8").set(1)
print("counted", flush=True)
sys.stdin.readline()
"""
SCRAPE = "import sys; from service.telemetry import metrics; sys.stdout.write(metrics.render().decode())"


def start(program: str, environment: dict[str, str]) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, env=environment, text=True, stdin=pipe, stdout=pipe)


def test_a_scrape_adds_up_the_processes_that_share_a_folder(tmp_path: Path) -> None:
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    workers: list[subprocess.Popen[str]] = []
    try:
        for _ in range(2):
            workers.append(start(COUNT, environment))
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "counted\n"
        text, _ = start(SCRAPE, environment).communicate(timeout=30)
    finally:
        for worker in workers:
            worker.communicate("\n", timeout=30)
    values = samples(text)
    assert values['hubel_images_total{route="/test"}'] == 4
    assert values["hubel_batch_size_images_sum"] == 8
    assert values["hubel_batch_size_images_count"] == 2
    assert values["hubel_queue_depth_images"] == 10
    assert values['hubel_model_info{model="tiny",precision="int8",provider="CPU",sha256="abc",version="1"}'] == 1


def test_who_asks_while_the_metrics_are_written_gets_them_as_they_stood_later_and_together() -> None:
    written: list[float] = []

    def write() -> bytes:
        written.append(time.monotonic())
        time.sleep(0.01)
        return b"%d" % len(written)

    async def ask() -> tuple[list[bytes], list[bytes]]:
        exposition = metrics.Exposition(write)
        first = asyncio.create_task(exposition.text())
        while not written:
            await asyncio.sleep(0)
        others = await asyncio.gather(*(exposition.text() for _ in range(50)))
        return [await first], others

    first, others = asyncio.run(ask())
    assert first == [b"1"]
    assert others == [b"2"] * 50
    assert written[1] - written[0] >= 0.01 / metrics.SCRAPE_SHARE


def test_a_scrape_that_is_given_up_does_not_take_it_from_others() -> None:
    async def ask() -> bytes:
        exposition = metrics.Exposition(lambda: b"all")
        gone, stays = (asyncio.create_task(exposition.text()) for _ in range(2))
        await asyncio.sleep(0)
        gone.cancel()
        return await stays

    assert asyncio.run(ask()) == b"all"


def test_metrics_that_cannot_be_written_are_tried_again() -> None:
    results = iter([OSError("gone"), b"all"])

    def write() -> bytes:
        if isinstance(result := next(results), OSError):
            raise result
        return result

    async def ask() -> bytes:
        exposition = metrics.Exposition(write)
        with pytest.raises(OSError, match="gone"):
            await exposition.text()
        return await exposition.text()

    assert asyncio.run(ask()) == b"all"
