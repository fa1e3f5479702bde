"""A package of a network with random weights: for measuring speed, which does not depend on the weights.

It is evaluated on made images whose classes are the network's own answers in fp32, so its top-1 is the share of answers that a
precision leaves as they are.
"""

import json
import tempfile
from pathlib import Path

import numpy as np
import torch

from models.image.spec import InputSpec
from models.package.manifest import Manifest
from training import provenance
from training.data import dataset
from training.data.dataset import ImageSet
from training.errors import RecipeError
from training.evaluation import evaluate
from training.loop import checkpoint as checkpoints
from training.loop.checkpoint import Checkpoint
from training.networks import catalogue
from training.publishing import export, golden, package
from training.recipe import Recipe

CLASSES = tuple(f"class-{i:03d}" for i in range(1000))
INPUT = InputSpec(height=224, width=224, resize=256)  # the geometry that He et al. 2015 test at
MEAN, STD = [127.5] * 3, [64.0] * 3
IMAGES = 64
SPREAD = 10  # deviation of the head's biases, in those of the logits


def publish(architecture: str, store: Path, seed: int = 0) -> Manifest:
    """Publish ``architecture`` with random weights and 1000 classes under its own name, for images of 224x224 pixels or
    of the one size that it takes.

    Raises:
        RecipeError: no such architecture.
    """
    if architecture not in catalogue.ARCHITECTURES:
        raise RecipeError(f"unknown architecture {architecture!r}; known are {', '.join(catalogue.ARCHITECTURES)}")
    torch.manual_seed(seed)
    side = catalogue.ONE_SIDE.get(architecture)
    spec = InputSpec(height=side, width=side, resize=side) if side else INPUT
    checkpoint = Checkpoint(Recipe(architecture, spec, epochs=1), CLASSES, MEAN, STD, provenance=provenance.describe())
    model = checkpoint.build().eval()
    pixels = golden.made(spec.height, spec.width, IMAGES)
    unlabelled = _images(pixels, np.zeros(IMAGES, np.int64))
    spread = float(evaluate.logits_of(model, checkpoint, unlabelled, device="cpu").std())
    with torch.no_grad():  # random weights leave classes nearly equal, and rounding would decide between them
        model.head.bias.add_(SPREAD * spread * torch.randn_like(model.head.bias))
    images = _images(pixels, evaluate.logits_of(model, checkpoint, unlabelled, device="cpu").argmax(1))  # as the graphs' are
    none = {"training_images": 0, "validation_images": 0, "skipped": [], "folder": "made images"}
    checkpoint.data = none | {"training_sha256": dataset.fingerprint(images), "validation_sha256": dataset.fingerprint(images)}
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder)
        checkpoints.save(run, checkpoint, model.state_dict(), training={})
        export.write_graphs(run, checkpoint, model, images, pixels)
        (run / evaluate.FILE).write_text(json.dumps(_evaluation(images)))
        return package.publish(run, store, architecture)


def _images(pixels: np.ndarray, targets: np.ndarray) -> ImageSet:
    return ImageSet(pixels, targets, CLASSES, tuple(str(i) for i in range(len(pixels))), ())


def _evaluation(images: ImageSet) -> dict[str, object]:
    """What evaluation.json would hold: nothing was learnt, and the network agrees with itself."""
    return {
        "epoch": 0,
        "dataset": "made images",
        "split": "agreement",
        "dataset_sha256": dataset.fingerprint(images),
        "samples": len(images),
        "top1": 1.0,
        "top5": 1.0,
        "macro_f1": 1.0,
        "per_class": {},
        "classes": [],
        "calibration_error": 0.0,
        "calibration_error_before": 0.0,
        "coverage": 1.0,
        "accuracy_kept": 1.0,
        "temperature": 1.0,
        "threshold": 0.0,
    }
