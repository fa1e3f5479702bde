"""Every metric, declared once. docs/metrics.md says what each means. Names and units follow Prometheus's conventions.

With worker processes PROMETHEUS_MULTIPROC_DIR is set before this is imported, and a scrape of any of them adds all up;
gauges say how. multiprocess.py keeps the files there.
"""

import asyncio
import math
import os
import time
from collections.abc import Callable
from functools import cache

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

from service.telemetry import log, multiprocess

__all__ = ["CONTENT_TYPE_LATEST"]

disable_created_metrics()
SCRAPE_SHARE = 0.1  # of the time, at most, goes to writing metrics
NOVELTY_BUCKETS = (0.25, 0.5, 0.75, 0.9, 0.97, 0.99, 0.999)
CONFIDENCE_BUCKETS = (0.25, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99)
SWAP_BUCKETS = (0.5, 1, 2, 3, 5, 7.5, 10, 20, 30, 60, 120)
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

REQUESTS = Counter("hubel_requests_total", "Requests answered.", ["route", "status"])
REQUEST_SECONDS = Histogram(
    "hubel_request_duration_seconds", "Time from the request's head to the end of its answer.", ["route"], buckets=SECONDS
)
IN_PROGRESS = Gauge("hubel_requests_in_progress", "Requests being answered now.", multiprocess_mode="livesum")
STAGE_SECONDS = Histogram(
    "hubel_stage_duration_seconds",
    "Time a request spent in a stage: read, decode, queue, infer or postprocess.",
    ["stage"],
    buckets=SECONDS,
)
IMAGES = Counter("hubel_images_total", "Images answered, good and bad ones.", ["route"])
BATCH_SIZE = Histogram("hubel_batch_size_images", "Images computed together.", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256))
BATCH_SECONDS = Histogram("hubel_batch_duration_seconds", "Time the engine took to compute a batch.", buckets=SECONDS)
DROPPED = Counter(
    "hubel_dropped_images_total",
    "Images that waited and were not decoded or not computed: their client had hung up, or their deadline had passed.",
    ["reason"],
)
QUEUE_DEPTH = Gauge("hubel_queue_depth_images", "Images admitted and not yet answered.", multiprocess_mode="livesum")
QUEUE_WAIT = Gauge(
    "hubel_queue_wait_forecast_seconds",
    "Time until what is admitted now is computed, as the engine computes at present.",
    multiprocess_mode="livemax",
)
QUEUE_WAIT_LIMIT = Gauge(
    "hubel_queue_wait_limit_seconds", "Forecast above which requests are refused.", multiprocess_mode="livemax"
)
BUFFERED = Gauge("hubel_buffered_bytes", "Bytes of request bodies held in memory.", multiprocess_mode="livesum")
CONNECTIONS = Gauge("hubel_connections", "Open connections, by what they wait for.", ["state"], multiprocess_mode="livesum")
CONNECTIONS_CUT = Counter(
    "hubel_connections_cut_total",
    "Connections that were ended by their time in a state, for places, or for bytes that were in no request yet.",
    ["reason"],
)
UNREAD = Gauge("hubel_unread_bytes", "Bytes received that are in no request yet.", multiprocess_mode="livesum")
DECODE_WAITING = Gauge(
    "hubel_decode_waiting_images", "Images above 0.3 megapixels that wait to be decoded.", multiprocess_mode="livesum"
)
DECODE_BYTES = Gauge(
    "hubel_decode_bytes", "Bytes of memory for the pixels of such images being decoded.", multiprocess_mode="livesum"
)
DECODE_REFUSED = Counter("hubel_decode_refused_total", "Requests refused as their images would not be decoded in time.")
REJECTIONS = Counter("hubel_rejections_total", "Requests and images refused, by the error's code.", ["reason"])
REQUESTS_BY_KEY = Counter(
    "hubel_requests_by_key_total", "Requests answered, by the name of their API key; none without keys.", ["key", "status"]
)
KEYS_FILE_FAULTY = Gauge(
    "hubel_api_keys_file_faulty", "1: the file of API keys cannot be used, those before hold.", multiprocess_mode="livemax"
)
MODEL_INFO = Gauge(
    "hubel_model_info",
    "1 for the live model, 0 for models that were live earlier in the life of this process.",
    ["model", "version", "sha256", "provider", "precision"],
    multiprocess_mode="livemax",
)
SKIPPED_BACKENDS = Gauge(
    "hubel_skipped_backends",
    "Faster ways to compute the model that failed when it was loaded; the log says why.",
    ["model"],
    multiprocess_mode="livemax",
)
MODEL_LOADED = Gauge(
    "hubel_model_loaded_timestamp_seconds", "When the live version was loaded, Unix time.", ["model"], multiprocess_mode="livemax"
)
MODEL_VERSION = Gauge(
    "hubel_model_version",
    "Version that each worker answers with; 0: no worker is there.",
    ["model", "worker"],
    multiprocess_mode="livemax",
)
WORKERS_IN_SYNC = Gauge(
    "hubel_workers_in_sync", "1: all workers answer with the same version.", ["model"], multiprocess_mode="livemax"
)
SWAPS = Counter("hubel_swaps_total", "Versions that were to become live or a candidate: done, or refused.", ["model", "result"])
SWAP_SECONDS = Histogram(
    "hubel_swap_seconds", "Time from seeing a promotion to the last worker that answers with it.", ["model"], buckets=SWAP_BUCKETS
)
REFUSED_VERSION = Gauge(
    "hubel_refused_version", "Version that was refused last; 0: none.", ["model"], multiprocess_mode="livemax"
)
REGISTRY_UNREADABLE = Gauge(
    "hubel_registry_unreadable",
    "1: pointer or candidate cannot be read, the version before stays.",
    ["model"],
    multiprocess_mode="livemax",
)
INDEX_IMAGES = Gauge(
    "hubel_index_images",
    "Images in the index of the live version, of the worker that has most; 0: it has none.",
    ["model"],
    multiprocess_mode="livemax",
)
VERSION_IMAGES = Counter("hubel_version_images_total", "Images answered, by the version that did.", ["model", "version"])
VERSION_UNSURE = Counter("hubel_version_unsure_images_total", "Images answered as unsure, by version.", ["model", "version"])
NOVELTY = Histogram(
    "hubel_novelty", "How unlike images were to those that the model was trained on, 0 to 1.", ["model"], buckets=NOVELTY_BUCKETS
)
CONFIDENCE = Histogram(
    "hubel_confidence", "Probability of the likeliest class.", ["model", "version"], buckets=CONFIDENCE_BUCKETS
)
VERSION_ERRORS = Counter(
    "hubel_version_errors_total", "Requests that a version's network failed to compute.", ["model", "version"]
)
VERSION_SECONDS = Histogram(
    "hubel_version_duration_seconds",
    "Time a request waited for a version's network and in it.",
    ["model", "version"],
    buckets=SECONDS,
)
CANDIDATE_VERSION = Gauge(
    "hubel_candidate_version", "Version that is a candidate; 0: none.", ["model"], multiprocess_mode="livemax"
)
CANDIDATE_IMAGES = Counter(
    "hubel_candidate_images_total",
    "Images that a candidate and the live version were to be compared on, by what came of it.",
    ["model", "version", "result"],
)
CANDIDATES_ENDED = Counter(
    "hubel_candidates_ended_total", "Candidates that have ended: promoted or rolled back.", ["model", "result"]
)
DECISION_UNRECORDED = Gauge(
    "hubel_decision_unrecorded",
    "1: a candidate has ended and the store could not be written to.",
    ["model"],
    multiprocess_mode="livemax",
)
WORKERS_EXPECTED = Gauge("hubel_workers_expected", "Worker processes that there should be.", multiprocess_mode="livemax")
WORKERS_ALIVE = Gauge("hubel_workers_alive", "Worker processes that are loaded and answer.", multiprocess_mode="livemax")
WORKER_RESTARTS = Counter("hubel_worker_restarts_total", "Worker processes that ended and were replaced.")
ENGINE_UP = Gauge("hubel_engine_up", "1: the engine of the live version is loaded.", ["model"], multiprocess_mode="livemax")
ENGINE_RESTARTS = Counter(
    "hubel_engine_restarts_total", "Engine processes that ended or hung and were replaced; their images are computed by the next."
)
LOST_IMAGES = Counter("hubel_lost_images_total", "Images that failed, as two engines died while they computed them.")
PROCESS_CPU = Counter(
    "hubel_process_cpu_seconds_total", "Processor time, by kind of process: supervisor, worker or engine.", ["process"]
)
PROCESS_MEMORY = Gauge(
    "hubel_process_resident_memory_bytes",
    "Resident memory, by kind of process; memory that several share counts in each.",
    ["process"],
    multiprocess_mode="livemax",
)
CORES = Gauge("hubel_cores", "Processor cores that the service may use.", multiprocess_mode="livemax")
MEMORY_LIMIT = Gauge(
    "hubel_memory_limit_bytes",
    "Memory that the service may use: its container's limit, or what the machine has.",
    multiprocess_mode="livemax",
)
LOG_LINES_DROPPED = Counter("hubel_log_lines_dropped_total", "Lines of the log that nobody took in time.")
WORKER_PID = Gauge("hubel_worker_pid", "Process id of each worker that is ready.", ["worker"], multiprocess_mode="livemax")
WORKER_STARTED = Gauge(
    "hubel_worker_started_timestamp_seconds", "When each worker was started, Unix time.", ["worker"], multiprocess_mode="livemax"
)

FEEDBACK = Counter("hubel_feedback_total", "Answers with feedback, and whether they were right.", ["model", "version", "right"])
FEEDBACK_REPLACED = Counter(
    "hubel_feedback_replaced_total", "Of these, those on which later feedback said otherwise.", ["model", "version", "right"]
)
CAPTURED_IMAGES = Counter(
    "hubel_captured_images_total", "What became of images that were to be kept: kept, known, dropped or failed.", ["outcome"]
)
CAPTURE_FOLDER_IMAGES = Gauge("hubel_capture_folder_images", "Images in the folder of kept images.", multiprocess_mode="livemax")
CAPTURE_FOLDER_BYTES = Gauge("hubel_capture_folder_bytes", "Bytes of these images.", multiprocess_mode="livemax")
CAPTURE_FOLDER_ANSWERS = Gauge(
    "hubel_capture_folder_answers", "Answers in the folder of kept images.", multiprocess_mode="livemax"
)
CAPTURE_DISK_FREE = Gauge("hubel_capture_disk_free_bytes", "Free space of the disk of kept images.", multiprocess_mode="livemax")
CAPTURE_DISK = Gauge("hubel_capture_disk_bytes", "Size of the disk of kept images.", multiprocess_mode="livemax")
DRIFT_ANSWERS = Gauge(
    "hubel_drift_answers",
    "Recent answers that are compared with the reference.",
    ["model", "version"],
    multiprocess_mode="livesum",
)
DRIFT_REFERENCE = Gauge(
    "hubel_drift_reference",
    "1 where the package holds a reference to compare answers with, 0 where it has none and drift is not measured.",
    ["model", "version"],
    multiprocess_mode="livemax",
)
DRIFT_PSI = Gauge(
    "hubel_drift_psi",
    "Population stability index of recent answers against the reference, of the worker where it is highest.",
    ["model", "version", "feature"],
    multiprocess_mode="livemax",
)
DRIFT_DISTANCE = Gauge(
    "hubel_drift_feature_distance",
    "Frechet distance of recent features from the reference, over its variance, of the worker where it is highest.",
    ["model", "version"],
    multiprocess_mode="livemax",
)


# Prometheus sees a counter rise between two scrapes, not from nothing to its first value: what alerts ask for is there from
# the start on.
BAD_UPLOADS = (
    "malformed_request",
    "undecodable_image",
    "image_too_large",
    "body_too_large",
    "too_many_images",
    "unsupported_format",
    "unsupported_encoding",
    "unsupported_media_type",
)


def expect_images() -> None:
    images_answered("/v1/classify")
    for reason in ("overloaded", "deadline_exceeded", *BAD_UPLOADS):
        REJECTIONS.labels(reason)


def expect_captures() -> None:
    for outcome in ("kept", "known", "dropped", "failed"):
        CAPTURED_IMAGES.labels(outcome)


def expect_versions(model: str) -> None:
    for result in ("done", "refused"):
        SWAPS.labels(model, result)
    for result in ("promoted", "rolled_back"):
        CANDIDATES_ENDED.labels(model, result)


# Series that every request changes, found once: of routes, statuses and stages there are few.
@cache
def requests_answered(route: str, status: int) -> Counter:
    return REQUESTS.labels(route, str(status))


@cache
def rejected(reason: str) -> Counter:
    return REJECTIONS.labels(reason)


@cache
def request_seconds(route: str) -> Histogram:
    return REQUEST_SECONDS.labels(route)


@cache
def stage_seconds(stage: str) -> Histogram:
    return STAGE_SECONDS.labels(stage)


@cache
def images_answered(route: str) -> Counter:
    return IMAGES.labels(route)


class DriftGauges:
    """Sets the figures of a model's version; feature: "classes", "confidence", "brightness", "sharpness" or "size"."""

    def __init__(self, model: str) -> None:
        self.model = model

    def stability(self, version: int, feature: str, value: float) -> None:
        DRIFT_PSI.labels(self.model, str(version), feature).set(value)

    def distance(self, version: int, value: float) -> None:
        DRIFT_DISTANCE.labels(self.model, str(version)).set(value)

    def known(self, version: int, has_reference: bool) -> None:
        DRIFT_REFERENCE.labels(self.model, str(version)).set(has_reference)

    def compared(self, version: int, answers: int) -> None:
        DRIFT_ANSWERS.labels(self.model, str(version)).set(answers)


def count_feedback(model: str, version: int, right: bool, replaced: bool) -> None:
    for metric in (FEEDBACK, FEEDBACK_REPLACED):
        for known in ("true", "false"):
            metric.labels(model, str(version), known)  # there from the first feedback on, so that differences can be asked for
    (FEEDBACK_REPLACED if replaced else FEEDBACK).labels(model, str(version), str(right).lower()).inc()


def indexed(model: str, images: int) -> None:
    INDEX_IMAGES.labels(model).set(images)


def dropped(reason: str) -> None:
    DROPPED.labels(reason).inc()


def decoding(waiting: int, held: int) -> None:
    DECODE_WAITING.set(waiting)
    DECODE_BYTES.set(held)


def computed(images: int, seconds: float) -> None:
    """A batch was."""
    BATCH_SIZE.observe(images)
    BATCH_SECONDS.observe(seconds)


def waiting(seconds: float, limit: float) -> None:
    QUEUE_WAIT.set(seconds)
    QUEUE_WAIT_LIMIT.set(limit)


def kept(images: int, size: int, answers: int, disk: int, free: int) -> None:
    CAPTURE_FOLDER_IMAGES.set(images)
    CAPTURE_FOLDER_BYTES.set(size)
    CAPTURE_FOLDER_ANSWERS.set(answers)
    CAPTURE_DISK.set(disk)
    CAPTURE_DISK_FREE.set(free)


class Exposition:
    """What a scrape gets: written for all who ask meanwhile, by a thread, and not for more than ``SCRAPE_SHARE`` of the time."""

    def __init__(self, render: Callable[[], bytes]) -> None:
        self.render = render
        self.next: asyncio.Task[bytes] | None = None  # which has not begun to be written
        self.one = asyncio.Lock()
        self.free = -math.inf  # when there is time again, in seconds of time.monotonic

    async def text(self) -> bytes:
        """As things stood when it was asked for, or later."""
        self.next = self.next or asyncio.create_task(self._write())
        return await asyncio.shield(self.next)

    async def _write(self) -> bytes:
        async with self.one:
            await asyncio.sleep(max(0.0, self.free - time.monotonic()))
            self.next = None
            began = time.monotonic()
            text = await asyncio.to_thread(self.render)
            ended = time.monotonic()
            self.free = ended + (ended - began) * (1 / SCRAPE_SHARE - 1)
            return text


def upkeep() -> None:
    """Is due about once a second in each process that counts."""
    multiprocess.mend()
    LOG_LINES_DROPPED.inc(log.WRITER.dropped())  # and with it what the ledger mends


def render() -> bytes:
    """The exposition text of this process, or of all workers."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest(REGISTRY)
    upkeep()
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    return generate_latest(registry)
