"""The parts of the service, made from the settings and put together."""

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import msgspec

from models.captures import captured
from models.image.limits import Limits
from models.image.preprocess import Pixels
from models.image.spec import InputSpec
from models.registry import registry
from service.api.describe import announce
from service.api.endpoints import Endpoints
from service.api.feedback import FeedbackApi
from service.api.pipeline import BULK_SHARE, Pipeline, RequestLimits
from service.engine.client import EngineClient, Load
from service.http.auth import ApiKeyAuth
from service.http.body import BodyBudget
from service.inference.batcher import Batcher
from service.inference.decode_queue import DecodeQueue
from service.inference.session import OnnxSession
from service.monitoring import feedback_keys
from service.monitoring.answer_token import AnswerTokens
from service.monitoring.capture import DAY, MB, Bounds, Capture
from service.monitoring.drift import Drift
from service.monitoring.feedback import FeedbackIntake
from service.monitoring.recorder import Recorder
from service.rollout.loaded import LoadedModels
from service.rollout.packages import Packages
from service.rollout.served_model import ServedModel
from service.rollout.traffic import TrafficSplit
from service.settings import Settings
from service.telemetry import metrics

log = logging.getLogger("hubel")


class Service:
    """Serves the model of the settings, whose live version is ``runtime``, until it is closed. Made in an event loop."""

    def __init__(self, config: Settings, runtime: OnnxSession) -> None:
        config = msgspec.structs.replace(config, max_batch=runtime.sizes[-1])  # 0 is by the device, which is known now
        self.pool = ThreadPoolExecutor(config.decoding_threads(), "decode")
        batcher = make_batcher(config, loaded := LoadedModels(runtime, lambda version: start_engine(config, version), announce))
        self.decoding = make_decoding(config, self.pool, batcher)
        packages = Packages(config.model_store(), runtime.manifest.name, config.signature_key(), loaded)
        capture = make_capture(config)
        tokens = make_tokens(config, runtime.manifest.name)
        recorder = Recorder(tokens, capture, Drift(packages.reference, metrics.DriftGauges(runtime.manifest.name)))
        self.model = ServedModel(loaded, batcher, TrafficSplit(loaded, batcher, self.decode_spare), recorder)
        bodies = BodyBudget(config.max_buffered_bytes, metrics.BUFFERED.set)
        count = partial(metrics.count_feedback, runtime.manifest.name)
        intake = FeedbackIntake(tokens, packages.labels, count, capture)
        limits = RequestLimits(config.deadline_ms, config.max_body_bytes, config.max_images)
        self.feedback = FeedbackApi(intake, capture, bodies, limits.max_images, limits.max_body_bytes, limits.deadline_ms)
        pipeline = Pipeline(self.model, self.decoding, bodies, limits)
        self.endpoints = Endpoints(config, self.model, pipeline, self.feedback, metrics.Exposition(metrics.render))

    async def decode_spare(self, image: bytes, spec: InputSpec) -> Pixels:
        """Where nothing else is to be decoded; raises Overloaded where something is."""
        plan = self.decoding.plan(image, spec)
        with self.decoding.admit([plan], 0.0):
            return await self.decoding.run(image, plan, spec)

    def close(self) -> None:
        self.model.batcher.close()
        self.model.loaded.close()
        self.pool.shutdown()
        self.decoding.close()
        self.feedback.close()
        self.model.recorder.close()


def load(config: Settings) -> OnnxSession:
    """The live version, checked and warm."""
    began = time.perf_counter()
    threads = config.inference_threads()
    folder = registry.resolve(config.model_store(), config.model)
    runtime = OnnxSession(folder, config.device, config.precision, threads, config.signature_key(), config.gpu_memory())
    runtime.warm(config.max_batch)
    seconds = time.perf_counter() - began
    what = (runtime.manifest.id, runtime.provider, runtime.precision)
    log.info("loaded %s on %s in %s, %d threads, in %.1f s", *what, threads, seconds)
    return runtime


def start_engine(config: Settings, version: int) -> EngineClient:
    """Another version of the model, which begins to load in a process of its own while one is live here."""
    folder = registry.resolve(config.model_store(), f"{config.model.partition(':')[0]}:{version}")
    how = (config.device, config.precision, config.inference_threads(), config.require_signature, config.max_batch)
    return EngineClient(Load(str(folder), *how, config.log_level, config.gpu_memory()), config.hang_seconds / 2)


def make_auth(config: Settings) -> ApiKeyAuth | None:
    """Who may ask, as far as this process knows; None: everyone."""
    return ApiKeyAuth(Path(config.api_keys_file), config.workers) if config.api_keys_file else None


def make_batcher(config: Settings, loaded: LoadedModels) -> Batcher:
    return Batcher(
        loaded.serving.compute,
        max_batch=config.max_batch,
        max_wait=config.max_wait_ms / 1000,
        max_queue=config.max_queue,
        max_queue_seconds=config.max_queue_ms / 1000,
        observe=metrics.BATCH_SIZE.observe,
        drop=metrics.dropped,
    )


def make_decoding(config: Settings, pool: ThreadPoolExecutor, batcher: Batcher) -> DecodeQueue:
    return DecodeQueue(
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


def make_tokens(config: Settings, model: str) -> AnswerTokens:
    """What signs the answers of a model. Raises FeedbackKeyError."""
    return AnswerTokens(feedback_keys.find(config), model, config.feedback_expiry_days * DAY)


def make_capture(config: Settings) -> Capture | None:
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
    return Capture(folder, bounds, lambda outcome: metrics.CAPTURED_IMAGES.labels(outcome).inc(), metrics.kept)
