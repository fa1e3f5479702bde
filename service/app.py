"""The parts of the service, made from the settings and put together."""

import atexit
import logging
import shutil
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
from service.api.pipeline import Pipeline, RequestLimits
from service.api.similar import SimilarApi
from service.engine.client import Attachment, EngineClient
from service.engine.start import OwnEngine, load_request
from service.http.auth import ApiKeyAuth
from service.http.body import BodyBudget
from service.inference.admission import BULK_SHARE, Admission
from service.inference.decode_queue import DecodeQueue
from service.monitoring import feedback_keys
from service.monitoring.answer_token import AnswerTokens
from service.monitoring.capture import DAY, MB, Bounds, Capture
from service.monitoring.drift import Drift
from service.monitoring.feedback import FeedbackIntake
from service.monitoring.recorder import Recorder
from service.rollout.loaded import LoadedModel, LoadedModels
from service.rollout.packages import Packages
from service.rollout.served_model import ServedModel
from service.rollout.traffic import TrafficSplit
from service.settings import Settings
from service.similar.live import LiveIndex
from service.telemetry import metrics

MOST_SLOTS = 4096  # for images that wait; further ones wait for a slot
CONNECT_SECONDS = 600.0  # for an engine that is loading to be ready
log = logging.getLogger("hubel")


class Service:
    """Serves the model of the settings, whose live version ``engine`` computes, until it is closed. Made in an event loop."""

    def __init__(self, config: Settings, engine: EngineClient, attachment: Attachment) -> None:
        metrics.expect_images()
        self.pool = ThreadPoolExecutor(config.decoding_threads(), "decode")
        config = msgspec.structs.replace(config, max_batch=engine.max_batch)  # 0 is by the device, which is known now
        name = engine.manifest.name
        index = LiveIndex(Path(config.index_dir) if config.index_dir else None, metrics.indexed)

        def tell(held: LoadedModel) -> None:
            announce(held)
            index.follow(held.manifest)

        loaded = LoadedModels(engine, partial(connect, config), tell)
        admission = make_admission(config, attachment, loaded)
        self.decoding = make_decoding(config, self.pool, admission)
        packages = Packages(config.model_store(), name, config.signature_key(), loaded)
        capture = make_capture(config)
        tokens = make_tokens(config, name)
        recorder = Recorder(tokens, capture, Drift(packages.reference, metrics.DriftGauges(name)))
        self.model = ServedModel(loaded, admission, TrafficSplit(loaded, admission, self.decode_spare), recorder)
        bodies = BodyBudget(config.max_buffered_bytes, metrics.BUFFERED.set)
        count = partial(metrics.count_feedback, name)
        intake = FeedbackIntake(tokens, packages.labels, count, capture)
        limits = RequestLimits(config.deadline_ms, config.max_body_bytes, config.max_images)
        self.feedback = FeedbackApi(intake, capture, bodies, limits.max_images, limits.max_body_bytes, limits.deadline_ms)
        pipeline = Pipeline(self.model, self.decoding, bodies, limits)
        self.similar = SimilarApi(pipeline, index)
        exposition = metrics.Exposition(metrics.render)
        self.endpoints = Endpoints(config, self.model, pipeline, self.feedback, self.similar, exposition)

    async def decode_spare(self, image: bytes, spec: InputSpec) -> Pixels:
        """Where nothing else is to be decoded; raises Overloaded where something is."""
        plan = self.decoding.plan(image, spec)
        with self.decoding.admit([plan], 0.0):
            return await self.decoding.run(image, plan, spec)

    def close(self) -> None:
        self.model.loaded.close()
        self.pool.shutdown()
        self.decoding.close()
        self.feedback.close()
        self.similar.close()
        self.model.recorder.close()


def connect(config: Settings, address: str) -> EngineClient:
    """To the engine at an address, with slots for as many images as may wait. Raises EngineError."""
    engine = EngineClient.connect(address, min(config.max_queue, MOST_SLOTS), CONNECT_SECONDS)
    engine.observe, engine.drop, engine.lost = metrics.computed, metrics.dropped, metrics.LOST_IMAGES.inc
    return engine


def start_own(config: Settings) -> Attachment:
    """An engine for this process alone, which ends with it. Raises EngineError and PackageError."""
    version = int(registry.resolve(config.model_store(), config.model).name)
    own = OwnEngine(load_request(config, version))
    atexit.register(own.close)
    return Attachment(own.address.name, own.board)


def make_auth(config: Settings) -> ApiKeyAuth | None:
    """Who may ask, as far as this process knows; None: everyone."""
    return ApiKeyAuth(Path(config.api_keys_file), config.worker_count()) if config.api_keys_file else None


def make_admission(config: Settings, attachment: Attachment, loaded: LoadedModels) -> Admission:
    return Admission(
        attachment.board,
        lambda: attachment.board.engine(loaded.serving.engine.place),
        max_batch=config.max_batch,
        max_queue=config.max_queue,
        max_queue_seconds=config.max_queue_ms / 1000,
        place=attachment.place,
        fronts=attachment.fronts,
    )


def make_decoding(config: Settings, pool: ThreadPoolExecutor, admission: Admission) -> DecodeQueue:
    return DecodeQueue(
        pool,
        config.decoding_threads(),
        Limits(config.max_pixels, config.max_side_pixels),
        max_bytes=config.max_decode_bytes,
        max_images=config.max_queue,
        max_seconds=config.max_queue_ms / 1000,
        room=lambda: admission.has_room(BULK_SHARE),
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
    metrics.expect_captures()
    return Capture(folder, bounds, lambda outcome: metrics.CAPTURED_IMAGES.labels(outcome).inc(), partial(tell_kept, folder))


def tell_kept(folder: Path, images: int, size: int, answers: int) -> None:
    """Say in the metrics what a folder holds, and what room its disk has. Raises OSError where it is gone."""
    disk = shutil.disk_usage(folder)
    metrics.kept(images, size, answers, disk.total, disk.free)
