"""What a running service says of itself: asked over HTTP, shown as a few lines or as JSON. For hubel status."""

import http.client
import json
import time
from typing import Any

import msgspec
from msgspec import Struct
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

SECONDS = 5.0  # for each answer
KEY_VARIABLE = "HUBEL_API_KEY"  # what it shows where the service wants a key
LOOK = "HUBEL_HOST and HUBEL_PORT say where to look"


class StatusError(Exception):
    """The service cannot be asked; ``str()`` says where and why."""


class WorkerStatus(Struct):
    """A worker that is ready. up_seconds: since it was started. version: of the model, that it answers with."""

    worker: int
    pid: int
    up_seconds: float
    version: int


class Status(Struct):
    """models: what is live and what computes it. readiness: "ready", or why not. candidate: the candidate; refused:
    what did not become live, and why; both empty where there is none.
    """

    address: str
    readiness: str
    models: list[str]
    workers: list[WorkerStatus]
    workers_expected: int
    restarts: int
    requests_in_progress: int
    images_waiting: int
    candidate: str = ""
    refused: str = ""

    @property
    def well(self) -> bool:
        agree = len({worker.version for worker in self.workers}) <= 1
        return self.readiness == "ready" and len(self.workers) == self.workers_expected and agree


def ask(host: str, port: int, key: str = "") -> Status:
    """Ask the service at an address; ``key`` where it wants an API key. Raises StatusError."""
    where = "::1" if host == "::" else "127.0.0.1" if host == "0.0.0.0" else host
    ready, body = _get(where, port, "/readyz", key)
    if ready == 401:  # which needs no key
        raise StatusError(f"what answers at {where}:{port} is no Hubel, or stands before it: 401 for /readyz; {LOOK}")
    readiness = "ready" if ready == 200 else _detail(body)
    samples = _measure(where, port, key, readiness)

    def values(name: str) -> list[tuple[dict[str, str], float]]:
        return [(sample.labels, sample.value) for sample in samples if sample.name == name]

    def value(name: str) -> int:
        return int(sum(number for _, number in values(name)))

    described = _describe(where, port, key, readiness)
    versions = {labels["worker"]: int(version) for labels, version in values("hubel_model_version")}
    started = {labels["worker"]: at for labels, at in values("hubel_worker_started_timestamp_seconds")}
    now = time.time()
    return Status(
        address=f"{where}:{port}",
        readiness=readiness,
        models=[
            "{model}:{version} on {provider} in {precision}".format(**labels)
            for labels, there in values("hubel_model_info")
            if there
        ],
        workers=[
            WorkerStatus(int(w := labels["worker"]), int(pid), round(now - started[w], 1), versions.get(w, 0))
            for labels, pid in sorted(values("hubel_worker_pid"), key=lambda found: int(found[0]["worker"]))
            if pid
        ],
        workers_expected=value("hubel_workers_expected"),
        restarts=value("hubel_worker_restarts_total"),
        requests_in_progress=value("hubel_requests_in_progress") - 1,  # but for the question itself
        images_waiting=value("hubel_queue_depth_images"),
        candidate=_say_candidate(described.get("candidate")),
        refused="{version}: {reason}".format(**refused) if (refused := described.get("refused")) else "",
    )


def _measure(where: str, port: int, key: str, readiness: str) -> list[Sample]:
    """What /metrics tells."""
    text = _ask(where, port, "/metrics", key, readiness)
    try:
        return [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    except ValueError as err:
        raise StatusError(f"what answers at {where}:{port} is no Hubel: its /metrics are none; {LOOK}") from err


def _describe(where: str, port: int, key: str, readiness: str) -> dict[str, Any]:
    """What /v1/models tells."""
    try:
        return msgspec.json.decode(_ask(where, port, "/v1/models", key, readiness), type=dict[str, Any])
    except msgspec.DecodeError as err:
        raise StatusError(f"what answers at {where}:{port} is no Hubel: its /v1/models is none; {LOOK}") from err


def _ask(where: str, port: int, path: str, key: str, readiness: str) -> str:
    """The answer of a path that needs a key where the service wants one."""
    found, text = _get(where, port, path, key)
    if found == 401:
        reason = f"the key in {KEY_VARIABLE} is none of its" if key else f"it wants an API key, and {KEY_VARIABLE} is not set"
        raise StatusError(
            f"{where}:{port} ({readiness}) tells no more (401): {reason}; set {KEY_VARIABLE} to a key, not to a hash from the "
            "file of keys"
        )
    if found != 200:
        raise StatusError(f"{where}:{port} answers {found} for {path}: {_detail(text)}")
    return text


def _say_candidate(found: dict[str, Any] | None) -> str:
    if found is None:
        return ""
    return "{name}:{version}, a {mode} on {percent:g} % of the requests, {requests} of {wanted} seen".format(**found)


def show(status: Status) -> str:
    """The lines for a terminal."""
    lines = [
        f"{status.address}  {status.readiness}",
        *(f"model    {model}" for model in status.models),
        *([f"trial    {status.candidate}"] if status.candidate else []),
        *([f"refused  version {status.refused}"] if status.refused else []),
        f"workers  {len(status.workers)} of {status.workers_expected}, replaced {status.restarts} times",
        *(f"  {w.worker}  pid {w.pid}, up {w.up_seconds:.0f} s, version {w.version}" for w in status.workers),
        f"load     {status.requests_in_progress} requests in progress, {status.images_waiting} images waiting",
    ]
    return "\n".join(lines)


def _get(host: str, port: int, path: str, key: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(host, port, timeout=SECONDS)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {key}"} if key else {})
        response = connection.getresponse()
        return response.status, response.read().decode()
    except TimeoutError as err:
        raise StatusError(
            f"{host}:{port} does not answer {path} within {SECONDS:g} s: it hangs or has too much to do, or is no Hubel; {LOOK}"
        ) from err
    except (http.client.HTTPException, ConnectionResetError, UnicodeDecodeError) as err:
        raise StatusError(f"what answers at {host}:{port} is no Hubel, or ended meanwhile: {type(err).__name__}; {LOOK}") from err
    except OSError as err:
        raise StatusError(f"nothing answers at {host}:{port}: {err.strerror or err}; {LOOK}") from err
    finally:
        connection.close()


def _detail(body: str) -> str:
    """The detail of problem details, or what there is."""
    try:
        problem: dict[str, Any] = json.loads(body)
        return str(problem["detail"])
    except (ValueError, KeyError, TypeError):
        return body[:100]
