"""The parts of the service, made from the settings and put together."""

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from models.captures import captured
from models.image.limits import Limits
from models.image.preprocess import Pixels
from models.image.spec import InputSpec
from models.registry import registry
from service.api.describe import announce
from service.api.endpoints import Endpoints
from service.api.feedback import FeedbackApi
from service.api.pipeline import BULK_SHARE, Pipeline, RequestLimits
from service.engine.client import Open, Remote
from service.http.auth import Access
from service.http.body import Buffer
from service.inference.batcher import Batcher
from service.inference.decode_queue import Decoding
from service.inference.session import Runtime
from service.monitoring.answer_log import RecentAnswers
from service.monitoring.capture import DAY, MB, Bounds, Keeper
from service.monitoring.drift import Drift
from service.monitoring.feedback import Verdicts
from service.monitoring.recorder import Aftermath
from service.rollout.loaded import Holding
from service.rollout.packages import Packages
from service.rollout.served_model import ServedModel
from service.rollout.traffic import Contest
from service.settings import Settings
from service.telemetry import metrics, multiprocess

log = logging.getLogger("hubel")


class Service:
    """Serves the model of the settings, whose live version is ``runtime``, until it is closed. Made in an event loop."""

    def __init__(self, config: Settings, runtime: Runtime) -> None:
        self.pool = ThreadPoolExecutor(config.decoding_threads(), "decode")
        batcher = make_batcher(config, holding := Holding(runtime, lambda version: load_beside(config, version), announce))
        self.decoding = make_decoding(config, self.pool, batcher)
        packages = Packages(config.model_store(), runtime.manifest.name, config.signature_key(), holding)
        recent, keeper = RecentAnswers(*multiprocess.place(), config.feedback_answers), make_keeper(config)
        aftermath = Aftermath(recent, keeper, Drift(packages.reference, metrics.DriftGauges()))
        self.model = ServedModel(holding, batcher, Contest(holding, batcher, self.decode_spare), aftermath)
        bodies = Buffer(config.max_buffered_bytes, metrics.BUFFERED.set)
        verdicts = Verdicts(runtime.manifest.name, recent, packages.labels, metrics.count_feedback, keeper)
        limits = RequestLimits(config.deadline_ms, config.max_body_bytes, config.max_images)
        self.feedback = FeedbackApi(verdicts, keeper, bodies, limits.max_images, limits.max_body_bytes, limits.deadline_ms)
        pipeline = Pipeline(self.model, self.decoding, bodies, limits)
        self.endpoints = Endpoints(config, self.model, pipeline, self.feedback, metrics.Exposition(metrics.render))

    async def decode_spare(self, image: bytes, spec: InputSpec) -> Pixels:
        """Where nothing else is to be decoded; raises Overloaded where something is."""
        plan = self.decoding.plan(image, spec)
        with self.decoding.admit([plan], 0.0):
            return await self.decoding.run(image, plan, spec)

    def close(self) -> None:
        self.model.batcher.close()
        self.model.holding.close()
        self.pool.shutdown()
        self.decoding.close()
        self.feedback.close()
        self.model.aftermath.close()


def load(config: Settings) -> Runtime:
    """The live version, checked and warm."""
    began = time.perf_counter()
    threads = config.inference_threads()
    folder = registry.resolve(config.model_store(), config.model)
    runtime = Runtime(folder, config.device, config.precision, threads, config.signature_key())
    runtime.warm(config.max_batch)
    seconds = time.perf_counter() - began
    what = (runtime.manifest.id, runtime.provider, runtime.precision)
    log.info("loaded %s on %s in %s, %d threads, in %.1f s", *what, threads, seconds)
    return runtime


def load_beside(config: Settings, version: int) -> Remote:
    """Another version of the model, which begins to load in a process of its own while one is live here."""
    folder = registry.resolve(config.model_store(), f"{config.model.partition(':')[0]}:{version}")
    how = (config.device, config.precision, config.inference_threads(), config.require_signature, config.max_batch)
    return Remote(Open(str(folder), *how, config.log_level), config.hang_seconds / 2)


def make_access(config: Settings) -> Access | None:
    """Who may ask, as far as this process knows; None: everyone."""
    return Access(Path(config.api_keys_file), config.workers) if config.api_keys_file else None


def make_batcher(config: Settings, holding: Holding) -> Batcher:
    return Batcher(
        holding.serving.compute,
        max_batch=config.max_batch,
        max_wait=config.max_wait_ms / 1000,
        max_queue=config.max_queue,
        max_queue_seconds=config.max_queue_ms / 1000,
        observe=metrics.BATCH_SIZE.observe,
        drop=metrics.dropped,
    )


def make_decoding(config: Settings, pool: ThreadPoolExecutor, batcher: Batcher) -> Decoding:
    return Decoding(
        pool,
        config.decoding_threads(),
        Limits(config.max_pixels, config.max_side_pixels),
        max_bytes=config.max_decode_bytes,
        max_images=config.max_queue,
        max_seconds=config.max_queue_ms / 1000,
        room=lambda: batcher.has_room(BULK_SHARE),
        drop=metrics.dropped,
        changed=metrics.decoding,
        refused=metrics.DECODE_REFUSED.inc,
    )


def make_keeper(config: Settings) -> Keeper | None:
    """What keeps images in HUBEL_FEEDBACK_DIR; None where that is not set."""
    if not config.feedback_dir:
        return None
    folder = Path(config.feedback_dir)
    try:
        captured.prepare(folder)
    except OSError as err:  # since the start, which checks it; it may come back
        log.error("no image is kept by this worker yet: %s: %s", folder, err.strerror)
    bounds = Bounds(
        images=config.feedback_max_images,
        seconds=config.feedback_max_days * DAY,
        bytes=config.feedback_max_mb * MB,
        share=config.feedback_share,
        wait=config.feedback_wait_minutes * 60,
    )
    return Keeper(folder, bounds, lambda outcome: metrics.KEPT_IMAGES.labels(outcome).inc(), metrics.kept)
