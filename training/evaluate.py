"""How good a checkpoint is, on images it was not trained on; what it finds goes into evaluation.json beside it.

Neighbours: data.py decodes as the service does, calibration.py turns logits into probabilities.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from training import calibration, data
from training import checkpoint as checkpoints
from training.architectures.classifier import Classifier
from training.checkpoint import Checkpoint
from training.data import ImageSet
from training.errors import CheckpointError
from training.normalisation import normalise

FILE = "evaluation.json"
BATCH = 128


def evaluation_images(source: str | Path, checkpoint: Checkpoint) -> tuple[ImageSet, str]:
    """The images to report on and their split: "test" where ``source`` gives test images, else "validation"."""
    test = data.load_test(source, checkpoint.recipe.input, checkpoint.classes)
    return (training_images(source, checkpoint)[1], "validation") if test is None else (test, "test")


def training_images(source: str | Path, checkpoint: Checkpoint) -> tuple[ImageSet, ImageSet]:
    """What was trained on and what was held out; raises CheckpointError when ``source`` no longer holds the same."""
    recipe = checkpoint.recipe
    trained, held_out = data.load_training(source, recipe.input, recipe.validation_share, recipe.seed)
    if data.fingerprint(held_out) != checkpoint.data["validation_sha256"]:
        raise CheckpointError(f"{source} does not hold the validation images that this checkpoint was trained beside")
    return trained, held_out


@torch.inference_mode()
def logits_of(model: Classifier, checkpoint: Checkpoint, images: ImageSet) -> NDArray[np.float32]:
    """Logits (n, classes) float32 of images as they are, computed by torch in full precision."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = checkpoint.answering(model).eval().to(device)
    parts: list[NDArray[np.float32]] = []
    for begin in tqdm(range(0, len(images), BATCH), "evaluate", unit=" batches", leave=False):
        pixels = torch.from_numpy(images.pixels[begin : begin + BATCH]).to(device)
        parts.append(model(normalise(pixels, checkpoint)).float().cpu().numpy())
    return np.concatenate(parts)


def evaluate(run: Path, source: str | Path) -> dict[str, Any]:
    """Measure the checkpoint in ``run`` on ``source`` and write run/evaluation.json.

    Temperature and threshold are chosen on the validation images; every figure is of the evaluation images.

    Raises:
        CheckpointError, DataError: see those.
    """
    checkpoint, model, _ = checkpoints.load(run)
    images, split = evaluation_images(source, checkpoint)
    validation = images if split == "validation" else training_images(source, checkpoint)[1]
    held_out = logits_of(model, checkpoint, validation)
    temperature = calibration.fit_temperature(held_out, validation.targets)
    confidence, right = _answers(held_out, validation.targets, temperature)
    threshold = calibration.choose_threshold(confidence, right)

    logits = held_out if split == "validation" else logits_of(model, checkpoint, images)
    confidence, right = _answers(logits, images.targets, temperature)
    highest = np.argsort(-logits, axis=1)[:, :5]
    result = {
        "epoch": checkpoint.epoch,
        "dataset": checkpoint.data["folder"],
        "split": split,
        "dataset_sha256": data.fingerprint(images),
        "samples": len(images),
        "top1": round(float(right.mean()), 4),
        "top5": round(float((highest == images.targets[:, None]).any(axis=1).mean()), 4),
        "per_class": {
            name: round(float(right[images.targets == c].mean()), 4)
            for c, name in enumerate(images.classes)
            if (images.targets == c).any()
        },
        "calibration_error": round(calibration.calibration_error(confidence, right), 4),
        "coverage": round(float((confidence >= threshold).mean()), 4),
        "temperature": temperature,
        "threshold": threshold,
    }
    (run / FILE).write_text(json.dumps(result, indent=1))
    return result


def _answers(
    logits: NDArray[np.float32], targets: NDArray[np.int64], temperature: float
) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
    """Confidence and rightness of each answer, both (n,)."""
    return calibration.softmax(logits, temperature).max(axis=1), logits.argmax(axis=1) == targets
