"""The BentoML service. An image goes bytes -> read -> decode -> queue -> infer -> postprocess -> answer.

Each stage is a module of that name; this one wires and times them.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import bentoml
import msgspec

from models.captures import captured
from models.image.limits import Limits
from models.image.preprocess import Pixels
from models.image.spec import InputSpec
from models.package import drift_reference
from models.package.drift_reference import Reference
from models.package.manifest import Manifest
from models.registry import registry
from service import settings
from service.api import feedback
from service.api.describe import announce, describe_models, describe_service
from service.api.feedback import FeedbackApi
from service.api.openapi import document
from service.api.schemas import BOOLEANS, ENCODINGS, Answer, Classification, Failure, Ranking, default_k
from service.engine.client import Open, Remote
from service.errors import ClientError, DeadlineExceeded, InvalidParameter, RequestTimeout
from service.http import api_keys
from service.http.asgi import App, Edge, Handler, Reply, Request, Routes, describe, reply_json
from service.http.auth import OPEN, Access
from service.http.body import Buffer, Share, images_in, less_than, read_body, while_connected
from service.http.cors import Cors
from service.http.hosts import Hosts
from service.inference.batcher import Batcher, Job
from service.inference.decode_queue import Decoding, Plan
from service.inference.postprocess import Row, classify, encode_features, rank
from service.inference.session import Runtime
from service.monitoring.answer_log import RecentAnswers
from service.monitoring.capture import DAY, MB, Bounds, Keeper
from service.monitoring.drift import Drift
from service.monitoring.feedback import Verdicts
from service.monitoring.recorder import Aftermath
from service.rollout.loaded import Held, Holding
from service.rollout.messages import Orders, Report
from service.rollout.traffic import Contest, check_finite
from service.telemetry import metrics, multiprocess
from service.telemetry.log import of_requests

SETTINGS = settings.read()
INTERACTIVE_IMAGES = 4  # a request with more is bulk, and waits behind those with fewer
# Of the queue, what each kind of work may fill while weightier work comes too: bulk is refused first, features next.
FEATURES_SHARE, BULK_SHARE = 0.5, 0.25
KNOWN = 16  # versions whose manifests are remembered
TURN_SECONDS = 0.001  # that headers are read for before other requests have their turn
DEADLINE_HEADER = "x-deadline-ms"
T = TypeVar("T")
log = logging.getLogger("hubel")
Finish = Callable[[Row, Manifest], Any]


@cache
def load() -> Runtime:
    """The model in service, checked and warm; once in a process."""
    began = time.perf_counter()
    threads = SETTINGS.inference_threads()
    folder = registry.resolve(Path(SETTINGS.store), SETTINGS.model)
    runtime = Runtime(folder, SETTINGS.device, SETTINGS.precision, threads, SETTINGS.signature_key())
    runtime.warm(SETTINGS.max_batch)
    seconds = time.perf_counter() - began
    what = (runtime.manifest.id, runtime.provider, runtime.precision)
    log.info("loaded %s on %s in %s, %d threads, in %.1f s", *what, threads, seconds)
    return runtime


def start_beside(version: int) -> Remote:
    """Another version of the model, which begins to load in a process of its own while one is in service here."""
    folder = registry.resolve(Path(SETTINGS.store), f"{SETTINGS.model.partition(':')[0]}:{version}")
    how = (SETTINGS.device, SETTINGS.precision, SETTINGS.inference_threads(), SETTINGS.require_signature, SETTINGS.max_batch)
    return Remote(Open(str(folder), *how, SETTINGS.log_level), SETTINGS.hang_seconds / 2)


@cache
def access() -> Access | None:
    """Who may ask, as far as this process knows; None: everyone."""
    return Access(Path(SETTINGS.api_keys_file), SETTINGS.workers) if SETTINGS.api_keys_file else None


@cache
def describe_api(classes: int) -> bytes:
    """The document of the API, for a model of so many classes."""
    return msgspec.json.encode(document(classes, SETTINGS.max_images, keys_needed=bool(SETTINGS.api_keys_file)))


class FrontedService(bentoml.Service[Any]):
    """A BentoML service whose HTTP side is ours: fewer layers between the socket and the network, one shape of error."""

    def to_asgi(self, is_main: bool = True) -> App:
        """For BentoML's own server, which does not tell where it listens."""
        api_keys.require(SETTINGS.api_keys_file, SETTINGS.allow_anonymous, host=None)
        return self.fronted(is_main)

    def fronted(self, is_main: bool = True) -> App:
        hosts = Hosts(SETTINGS.own_hosts(), SETTINGS.allowed_origins())
        edge = Edge(super().to_asgi(is_main), bentoml.get_current_service, access(), hosts)
        return Cors(edge, origins) if (origins := SETTINGS.allowed_origins()) else edge


@bentoml.service(name="hubel", service_class=FrontedService, workers=SETTINGS.workers, metrics={"enabled": False})
class Hubel:
    """Classify, rank and describe images with one model."""

    def __init__(self) -> None:
        self.holding = Holding(load(), start_beside, announce)
        self.pool = ThreadPoolExecutor(SETTINGS.decoding_threads(), "decode")
        self.exposition = metrics.Exposition(metrics.render)
        self.batcher = Batcher(
            self.holding.serving.compute,
            max_batch=SETTINGS.max_batch,
            max_wait=SETTINGS.max_wait_ms / 1000,
            max_queue=SETTINGS.max_queue,
            max_queue_seconds=SETTINGS.max_queue_ms / 1000,
            observe=metrics.BATCH_SIZE.observe,
            drop=metrics.dropped,
        )
        self.decoding = Decoding(
            self.pool,
            SETTINGS.decoding_threads(),
            Limits(SETTINGS.max_pixels, SETTINGS.max_side_pixels),
            max_bytes=SETTINGS.max_decode_bytes,
            max_images=SETTINGS.max_queue,
            max_seconds=SETTINGS.max_queue_ms / 1000,
            room=lambda: self.batcher.has_room(BULK_SHARE),
            drop=metrics.dropped,
            changed=metrics.decoding,
            refused=metrics.DECODE_REFUSED.inc,
        )
        self.bodies = Buffer(SETTINGS.max_buffered_bytes, metrics.BUFFERED.set)
        self.known: dict[int, Manifest] = {}  # of versions that have answered
        self.planning = asyncio.Lock()  # one request of several images at a time, as headers can be long to read
        self.contest = Contest(self.holding, self.batcher, self.decode_spare)
        recent = RecentAnswers(*multiprocess.place(), SETTINGS.feedback_answers)
        keeper = make_keeper()
        self.aftermath = Aftermath(recent, keeper, Drift(self.reference_of, metrics.DriftGauges()))
        verdicts = Verdicts(self.manifest.name, recent, self.labels_of, metrics.count_feedback, keeper)
        self.feedback = FeedbackApi(
            verdicts, keeper, self.bodies, SETTINGS.max_images, SETTINGS.max_body_bytes, SETTINGS.deadline_ms
        )

    @bentoml.on_shutdown
    def close(self) -> None:
        self.batcher.close()
        self.holding.close()
        self.pool.shutdown()
        self.decoding.close()
        self.feedback.close()
        self.aftermath.close()

    def busy_seconds(self) -> float:
        return self.batcher.busy_seconds()

    def check_load(self, route: str, seconds: float = math.inf) -> None:
        """seconds: within which the answer is wanted."""
        if route == feedback.PATH:
            self.feedback.check_load()
        else:
            self.batcher.check(1, share_of(route), seconds)
            self.decoding.check(seconds)

    def package_of(self, version: int) -> Path:
        return registry.resolve(Path(SETTINGS.store), f"{self.manifest.name}:{version}")

    def manifest_of(self, version: int) -> Manifest:
        """Of a version that is or was held, as it was when that was loaded; of another as it is, signed where it has to be.

        Raises:
            PackageError.
        """
        held = self.holding.held.get(version)
        known = held.manifest if held else self.known.get(version)
        manifest = known or registry.describe(self.package_of(version), SETTINGS.signature_key())
        self.known[version] = manifest
        if len(self.known) > KNOWN:
            self.known.pop(next(iter(self.known)), None)
        return manifest

    def labels_of(self, version: int) -> list[str]:
        """The classes of a version that has answered; raises PackageError where it is no longer there."""
        return self.manifest_of(version).labels

    def reference_of(self, version: int) -> Reference | None:
        """What the package of a version says of the images it is for; raises PackageError."""
        manifest = self.manifest_of(version)
        if drift_reference.FILE not in manifest.files:
            return None
        data = registry.load(self.package_of(version), manifest, drift_reference.FILE)
        return drift_reference.read(data, len(manifest.labels), manifest.outputs["features"][0])

    @property
    def manifest(self) -> Manifest:
        """Of the version in service."""
        return self.holding.serving.manifest

    def obey(self, orders: Orders) -> None:
        self.holding.obey(orders)

    def report(self) -> Report:
        return msgspec.structs.replace(self.holding.report(), progress=self.contest.progress())

    def reported(self) -> None:
        self.contest.reported()

    def on_change(self, speak: Callable[[], object]) -> None:
        self.holding.changed = speak

    def routes(self) -> Routes:
        def get(value: Callable[[], Reply]) -> tuple[str, Handler]:
            async def handler(request: Request) -> Reply:
                if request.path not in OPEN:  # what probes may add, such as ?verbose, changes nothing
                    request.parameters()
                return value()

            return "GET", handler

        return {
            "/v1/classify": ("POST", self.classify),
            "/v1/top-k": ("POST", self.top_k),
            "/v1/features": ("POST", self.features),
            **self.feedback.routes(),
            "/v1/models": get(lambda: reply_json(describe_models(self.holding))),
            "/v1/info": get(lambda: reply_json(describe_service(self.holding.serving.network, SETTINGS, bentoml.__version__))),
            "/livez": get(lambda: reply_json({"status": "alive"})),
            "/readyz": get(lambda: reply_json({"status": "ready", "model": self.manifest.id})),
            "/openapi.json": get(lambda: Reply(describe_api(len(self.manifest.labels)))),
            "/metrics": ("GET", self.scrape),
        }

    async def scrape(self, request: Request) -> Reply:
        request.parameters()
        return Reply(await self.exposition.text(), media_type=metrics.CONTENT_TYPE_LATEST)

    async def classify(self, request: Request) -> Reply:
        request.parameters()
        return await self.answer(request, "logits", classify)

    async def top_k(self, request: Request) -> Reply:
        given = request.parameters("k").get("k")
        k = None if given is None else self.parse_k(given, request)
        return await self.answer(request, "logits", lambda logits, manifest: rank(logits, manifest, k or default_k(len(logits))))

    def parse_k(self, text: str, request: Request) -> int:
        classes = len(self.contest.choose(request.key(), "logits").manifest.labels)
        if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= classes):
            raise InvalidParameter(f"k is {text[:50]!r}, it must be a whole number from 1 to {classes}, the number of classes")
        return int(text)

    async def features(self, request: Request) -> Reply:
        given = request.parameters("normalize", "encoding")
        normalize = choose(given, "normalize", BOOLEANS)
        encoding = choose(given, "encoding", ENCODINGS)
        return await self.answer(request, "features", lambda row, _: encode_features(row, normalize, encoding))

    async def answer(self, request: Request, output: str, finish: Finish) -> Reply:
        """Images in, results out, within the deadline; of several images, a bad one fails alone."""
        limit_ms = deadline_of(request)
        seconds = limit_ms / 1000
        deadline = time.perf_counter() + seconds
        images: list[bytes] | None = None
        less = less_than(request.headers.get("content-type", ""))
        try:
            async with asyncio.timeout(seconds):
                self.check_load(request.path, seconds)  # before the body is read: what is refused costs little
                with self.bodies.share() as share:
                    images = await self.read(request, share, less)
                    request.charge(len(images))
                    plans = await self.plan(images)
                    bulk = is_bulk(images)
                    weight = BULK_SHARE if bulk else share_of(request.path)
                    left = deadline - time.perf_counter()
                    with (
                        self.batcher.admit(len(images), weight, left),
                        self.decoding.admit(plans, left, request.client and request.client.name, bulk),
                        while_connected(request.receive),
                    ):
                        metrics.QUEUE_DEPTH.set(self.batcher.admitted)
                        held, jobs = await self.compute_by_turn(request, images, plans, output, deadline)
        except (TimeoutError, DeadlineExceeded) as err:
            if images is None:
                limit = f"{limit_ms} ms ({name_of_limit(limit_ms)})"
                ways = ", or ".join(["send it faster", less, *more_time(limit_ms)])
                raise RequestTimeout(f"the body did not arrive within {limit}; {ways}") from err
            chosen = limit_ms < SETTINGS.deadline_ms
            raise DeadlineExceeded(describe_delay(len(images), request.stages, limit_ms), chosen) from err
        finally:
            metrics.QUEUE_DEPTH.set(self.batcher.admitted)
        with request.stage("postprocess"):
            results = [
                Failure(describe(job)) if isinstance(job, ClientError) else finish(job.answer.result()[output], held.manifest)
                for job in jobs
            ]
            metrics.IMAGES.labels(request.path).inc(len(results))
            self.note(request, held, images, jobs, results)
            self.aftermath.take(request, images, jobs, results, held.manifest)
            answer = Answer(request.id, held.manifest.name, held.manifest.version, results)
            return Reply(msgspec.json.encode(answer), headers={"x-model": held.manifest.id, "x-answer-id": request.id})

    def note(
        self, request: Request, held: Held, images: list[bytes], jobs: list[Job | ClientError], results: Sequence[object]
    ) -> None:
        """Count what a version answered, and have another that is on trial compute the first good image too."""
        answers = [result for result in results if isinstance(result, Classification | Ranking)]
        if answers:
            self.contest.note(held, answers, request.stages["queue"] + request.stages["infer"])
            image, job = next((image, job) for image, job in zip(images, jobs, strict=True) if isinstance(job, Job))
            self.contest.compare(request.key(), held, image, job)

    async def read(self, request: Request, share: Share, less: str) -> list[bytes]:
        with request.stage("read"):
            kind = request.headers.get("content-type", "")
            body = await read_body(request.receive, request.headers, SETTINGS.max_body_bytes, share, less)
            return images_in(body, kind, SETTINGS.max_images)

    async def plan(self, images: list[bytes]) -> list[Plan | ClientError]:
        """What it takes to decode each image, or why it cannot be. An error of a single image is raised."""
        if len(images) == 1:
            return [self.decoding.plan(images[0], self.manifest.input)]
        plans: list[Plan | ClientError] = []
        async with self.planning:
            began = time.perf_counter()
            for image in images:
                try:
                    plans.append(self.decoding.plan(image, self.manifest.input))
                except ClientError as err:
                    plans.append(err)
                if time.perf_counter() - began > TURN_SECONDS:
                    await asyncio.sleep(0)
                    began = time.perf_counter()
        return plans

    async def compute_by_turn(
        self, request: Request, images: list[bytes], plans: list[Plan | ClientError], output: str, deadline: float
    ) -> tuple[Held, list[Job | ClientError]]:
        """By the version whose turn it is; where a candidate fails, by the one in service, so that nobody else notices."""
        held = self.contest.choose(request.key(), output)
        try:
            with held.used():
                return held, await self.compute(request, held, images, plans, output, deadline)
        except Exception as err:
            if not self.contest.is_fault(held, err) or held is self.holding.serving:
                raise
            what = (request.name(), held.manifest.id, err)
            of_requests().warning("request %s is answered by the version in service: %s failed: %s", *what)
        serving = self.holding.serving
        with serving.used():
            return serving, await self.compute(request, serving, images, plans, output, deadline)

    async def compute(
        self,
        request: Request,
        held: Held,
        images: list[bytes],
        plans: list[Plan | ClientError],
        output: str,
        deadline: float,
    ) -> list[Job | ClientError]:
        """A finished job for each image, or why it could not be used. An error of a single image is raised."""
        if len(images) == 1:
            return [await self.compute_one(request, held, images[0], plans[0], output, deadline)]
        bulk = is_bulk(images)
        pairs = zip(images, plans, strict=True)
        tasks = (self.compute_one(request, held, image, plan, output, deadline, bulk) for image, plan in pairs)
        jobs = await asyncio.gather(*tasks, return_exceptions=True)
        for job in jobs:
            if isinstance(job, ClientError):
                metrics.REJECTIONS.labels(job.code).inc()
            elif isinstance(job, BaseException):
                raise job
        return cast(list[Job | ClientError], jobs)

    async def compute_one(
        self,
        request: Request,
        held: Held,
        image: bytes,
        plan: Plan | ClientError,
        output: str,
        deadline: float,
        bulk: bool = False,
    ) -> Job:
        if isinstance(plan, ClientError):
            raise plan
        with request.stage("decode"), nullcontext() if plan.small else self.batcher.aside():
            pixels = await self.decoding.run(image, plan, held.manifest.input, bulk)
        outputs = self.aftermath.outputs(held.version, output)
        job = await self.batcher.submit(pixels, outputs, deadline, bulk, held.compute)
        if held is not self.holding.serving:
            check_finite([job.answer.result()[output]])
        request.record("queue", job.queue_seconds)
        request.record("infer", job.infer_seconds)
        return job

    async def decode_spare(self, image: bytes, spec: InputSpec) -> Pixels:
        """Where nothing else is to be decoded; raises Overloaded where something is."""
        plan = self.decoding.plan(image, spec)
        with self.decoding.admit([plan], 0.0):
            return await self.decoding.run(image, plan, spec)


def make_keeper() -> Keeper | None:
    """What keeps images in HUBEL_FEEDBACK_DIR; None where that is not set."""
    if not SETTINGS.feedback_dir:
        return None
    folder = Path(SETTINGS.feedback_dir)
    try:
        captured.prepare(folder)
    except OSError as err:  # since the start, which checks it; it may come back
        log.error("no image is kept by this worker yet: %s: %s", folder, err.strerror)
    bounds = Bounds(
        images=SETTINGS.feedback_max_images,
        seconds=SETTINGS.feedback_max_days * DAY,
        bytes=SETTINGS.feedback_max_mb * MB,
        share=SETTINGS.feedback_share,
        wait=SETTINGS.feedback_wait_minutes * 60,
    )
    return Keeper(folder, bounds, lambda outcome: metrics.KEPT_IMAGES.labels(outcome).inc(), metrics.kept)


def is_bulk(images: Sequence[bytes]) -> bool:
    return len(images) > INTERACTIVE_IMAGES


def share_of(route: str) -> float:
    """Of the queue, what requests to a route may fill."""
    return FEATURES_SHARE if route == "/v1/features" else 1.0


def deadline_of(request: Request) -> int:
    """Milliseconds that an answer may take: the service's limit, or less where the client asks for it."""
    text = request.headers.get(DEADLINE_HEADER)
    if text is None:
        return SETTINGS.deadline_ms
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) >= 1):
        raise InvalidParameter(f"X-Deadline-Ms is {text[:50]!r}, it must be a whole number of milliseconds from 1 on")
    return min(int(text), SETTINGS.deadline_ms)


def name_of_limit(limit_ms: int) -> str:
    return "HUBEL_DEADLINE_MS" if limit_ms == SETTINGS.deadline_ms else "X-Deadline-Ms"


def describe_delay(images: int, stages: Mapping[str, float], limit_ms: int) -> str:
    """Where the time went in which a request was not answered, and what may help."""
    read, decode = (round(1000 * stages.get(stage, 0.0)) for stage in ("read", "decode"))
    rest = max(0, limit_ms - read - decode)
    ways = ["send fewer images at once"] if images > 1 else ["send a smaller image"] if decode > rest else []
    return (
        f"no answer to {'1 image' if images == 1 else f'{images} images'} within {limit_ms} ms ({name_of_limit(limit_ms)}): "
        f"{read} ms of these went by until the body was here, {decode} with decoding, {rest} with waiting and computing; "
        + ", or ".join([*ways, *more_time(limit_ms), "try again"])
    )


def more_time(limit_ms: int) -> list[str]:
    """What a client may do that allows less time than the service does."""
    return [f"allow more time (X-Deadline-Ms, at most {SETTINGS.deadline_ms})"] if limit_ms < SETTINGS.deadline_ms else []


def choose(given: dict[str, str], name: str, values: dict[str, T]) -> T:
    """Value of a parameter with few possible ones, the first of which is its default."""
    text = given.get(name, next(iter(values)))
    if text not in values:
        raise InvalidParameter(f"{name} is {text[:50]!r}, it must be {' or '.join(values)}")
    return values[text]


def application() -> Edge | Cors:
    """The ASGI application that a worker process runs."""
    return cast("Edge | Cors", cast(Any, Hubel).fronted())
