"""What is told of the versions that a worker holds: on /v1/models and /v1/info, and in the metrics."""

from typing import cast

from models.image.formats import FORMATS
from models.package.manifest import Manifest
from models.package.precision import GRAPHS, Precision
from service.rollout.loaded import Engine, LoadedModel, LoadedModels
from service.settings import Settings
from service.telemetry import metrics

ANNOUNCED: set[tuple[str, ...]] = set()  # labels under which a version was live


def announce(held: LoadedModel) -> None:
    """Say in the metrics what is live and what computes it."""
    engine, manifest = held.engine, held.manifest
    sha256 = manifest.files[GRAPHS[cast(Precision, engine.precision)]]
    what = (manifest.name, str(manifest.version), sha256, engine.provider, engine.precision)
    for before in ANNOUNCED - {what}:
        metrics.MODEL_INFO.labels(*before).set(0)
    ANNOUNCED.add(what)
    metrics.MODEL_INFO.labels(*what).set(1)
    metrics.MODEL_LOADED.labels(manifest.name).set(engine.loaded_at)
    metrics.SKIPPED_BACKENDS.labels(manifest.name).set(len(engine.skipped_backends))


def describe_models(loaded: LoadedModels) -> dict[str, object]:
    """The live version; the candidate, as far as it is ready; and what was refused, with its reason."""
    described: dict[str, object] = {"models": [describe_model(loaded.serving.manifest)], "candidate": None, "refused": None}
    if loaded.trial is not None:
        trial, held = loaded.trial
        progress = {"mode": trial.mode, "percent": trial.percent, "requests": trial.requests, "wanted": trial.wanted}
        described["candidate"] = progress | describe_model(held.manifest)
    if loaded.desired.refused is not None:
        described["refused"] = loaded.desired.refused
    return described


def describe_model(manifest: Manifest) -> dict[str, object]:
    """What a caller needs to know of the live model."""
    return {
        "name": manifest.name,
        "version": manifest.version,
        "created": manifest.created,
        "architecture": manifest.architecture,
        "labels": manifest.labels,
        "input": manifest.input,
        "dimensions": manifest.outputs["features"][0],
        "threshold": manifest.threshold,
        "novelty_threshold": manifest.novelty_threshold,
        "evaluation": {
            name: getattr(manifest.evaluation, name) for name in ("dataset", "split", "samples", "top1", "calibration_error")
        },
    }


def describe_service(engine: Engine, settings: Settings, bentoml: str) -> dict[str, object]:
    """Limits, formats and what computes; bentoml: its version."""
    limits = ("max_body_bytes", "max_buffered_bytes", "max_pixels", "max_side_pixels", "max_images", "max_batch", "max_queue")
    times = ("max_wait_ms", "max_queue_ms", "deadline_ms")
    return {
        "model": engine.manifest.id,
        "provider": engine.provider,
        "precision": engine.precision,
        "skipped_backends": engine.skipped_backends,
        "preprocessing": engine.manifest.preprocessing,
        "formats": FORMATS,
        "limits": {name: getattr(settings, name) for name in limits + times},
        "bentoml": bentoml,
    }
