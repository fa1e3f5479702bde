"""How good a checkpoint is, on images it was not trained on; what it finds goes into evaluation.json beside it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from models.package import probability
from models.terminal import program
from training import files
from training.data import dataset, decoded
from training.data.dataset import ImageSet
from training.data.lineage import unpack
from training.errors import CheckpointError
from training.evaluation import calibration, confusion
from training.evaluation.calibration import Choice
from training.loop import checkpoint as checkpoints
from training.loop import legacy_split
from training.loop.checkpoint import Checkpoint
from training.loop.device import full_precision
from training.loop.normalisation import normalise
from training.networks.classifier import Classifier

FILE = "evaluation.json"
TABLES = ("classes", "confusion", "reliability")  # what of it does not fit on a line
BATCH = 128


def evaluation_images(source: str | Path, checkpoint: Checkpoint) -> tuple[ImageSet, str]:
    """The images to report on and their split: "test" where ``source`` gives test images, else "validation"."""
    test = dataset.load_test(source, checkpoint.recipe.input, checkpoint.classes)
    return (training_images(source, checkpoint)[1], "validation") if test is None else (test, "test")


def training_images(source: str | Path, checkpoint: Checkpoint) -> tuple[ImageSet, ImageSet]:
    """What was trained on, as far as ``source`` still holds it, and all that was held out; raises CheckpointError when it does
    not hold all of that. What came to ``source`` since is left out."""
    recipe = checkpoint.recipe
    if not checkpoint.past:
        return legacy_split.training_images(source, checkpoint)
    trained, held_out = dataset.load_run(source, recipe.input, checkpoint.classes, checkpoint.past)
    before = unpack(checkpoint.held_out)
    if missing := len(np.setdiff1d(before, held_out.identities)):
        what = "does not hold the" if missing == len(before) else f"lacks {missing} of the {len(before)}"
        raise CheckpointError(
            f"{source} {what} validation images that this checkpoint was trained beside: bring them back, as they were, or train "
            "on what is there now"
        )
    return trained, held_out


@torch.inference_mode()
def logits_of(
    model: Classifier, checkpoint: Checkpoint, images: ImageSet, say: bool = True, device: str = ""
) -> NDArray[np.float32]:
    """Logits (n, classes) float32 of images as they are, computed by torch in full precision, on a GPU where there is one
    and no ``device`` is named."""
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    model = checkpoint.answering(model).eval().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    logits = np.empty((len(images), len(checkpoint.classes)), np.float32)
    with full_precision():
        for begin in tqdm(range(0, len(images), BATCH), "evaluate", unit=" batches", leave=False, disable=not say):
            pixels = torch.from_numpy(images.pixels[begin : begin + BATCH]).to(device)
            logits[begin : begin + BATCH] = model(normalise(pixels, checkpoint)).float().cpu().numpy()
    return logits


def evaluate(run: Path, source: str | Path) -> dict[str, Any]:
    """Measure the checkpoint in ``run`` on ``source`` and write run/evaluation.json.

    Temperature and threshold are chosen on the validation images; every figure is of the evaluation images. Where these are
    the same, each is measured with what was chosen on others of them.

    Raises:
        CheckpointError, DataError: see those.
    """
    checkpoint, model, _ = checkpoints.load(run)
    with decoded.beside(run):
        images, split = evaluation_images(source, checkpoint)
        validation = images if split == "validation" else training_images(source, checkpoint)[1]
    held_out = logits_of(model, checkpoint, validation)
    chosen = calibration.choose(held_out, validation.targets)
    logits = held_out if split == "validation" else logits_of(model, checkpoint, images)
    result = {
        "epoch": checkpoint.epoch,
        "dataset": checkpoint.data["folder"],
        "split": split,
        "dataset_sha256": dataset.fingerprint(images),
        "samples": len(images),
        **accuracy(logits, images),
        **honesty(logits, images.targets, *_measured_with(chosen, split, logits, images.targets)),
        **chosen._asdict(),
    }
    with files.whole(run / FILE) as (beside,):
        beside.write_text(json.dumps(result, indent=1))
    return result


def read(run: Path, checkpoint: Checkpoint) -> dict[str, Any]:
    """What ``evaluate`` found of this checkpoint; raises CheckpointError where it did not, or an earlier version did."""
    result = checkpoints.read_result(run / FILE, "evaluate", checkpoint)
    if "classes" not in result:
        again = program.command("evaluate", run, "DATA")
        raise CheckpointError(f"{run / FILE} is of an earlier version: run '{again}' again")
    return result


def accuracy(logits: NDArray[np.float32], images: ImageSet) -> dict[str, Any]:
    """How often the answers are right, in all and by class, and what they are confused with."""
    matrix = confusion.confusion_matrix(images.targets, logits.argmax(axis=1), len(images.classes))
    by_class = confusion.figures(matrix, images.classes)
    return {
        "top1": round(float(matrix.right().sum() / len(images)), 4),
        "top5": round(float((ranks(logits, images.targets) < 5).mean()), 4),
        "macro_f1": confusion.macro_f1(matrix),
        "per_class": {figure["label"]: figure["recall"] for figure in by_class if figure["support"]},
        "classes": by_class,
        "confusion": confusion.written(matrix),
    }


def ranks(logits: NDArray[np.float32], targets: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many classes are likelier than the label of each image (n,); of equally likely ones the first counts as likelier."""
    found = np.empty(len(targets), np.int64)
    for rows in calibration.slices(logits):
        label = targets[rows, None]
        own = np.take_along_axis(logits[rows], label, axis=1)
        ties = (logits[rows] == own) & (np.arange(logits.shape[1]) < label)
        found[rows] = ((logits[rows] > own) | ties).sum(axis=1)
    return found


def _measured_with(
    chosen: Choice, split: str, logits: NDArray[np.float32], targets: NDArray[np.int64]
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Temperature and threshold for each image: those chosen, or on the images that they were chosen on those of other folds."""
    if split == "validation":
        return calibration.choose_out_of_folds(logits, targets)
    return np.full(len(targets), chosen.temperature), np.full(len(targets), chosen.threshold)


def honesty(
    logits: NDArray[np.float32],
    targets: NDArray[np.int64],
    temperatures: NDArray[np.floating],
    thresholds: NDArray[np.floating],
) -> dict[str, Any]:
    """How far probabilities can be believed, without and with the temperature of each image (n,), what is "unsure" by the
    threshold of each, and the calibration error that a perfect model would show."""
    found, before = calibration.answers(logits, targets, temperatures), calibration.answers(logits, targets).confidence
    confidence, right = found.confidence, found.right
    coverage, accuracy_kept = calibration.kept_at(confidence, right, thresholds)
    floor, floor_high = probability.calibration_floor(confidence)
    bins = {"before": calibration.reliability(before, right), "after": calibration.reliability(confidence, right)}
    return {
        "calibration_error": round(calibration.calibration_error(confidence, right), 4),
        "calibration_error_before": round(calibration.calibration_error(before, right), 4),
        "calibration_floor": round(floor, 4),
        "calibration_floor_high": round(floor_high, 4),
        "calibration_bins": probability.bins_for(len(targets)),
        "negative_log_likelihood": round(found.negative_log_likelihood, 4),
        "brier": round(found.brier, 4),
        "coverage": round(coverage, 4),
        "accuracy_kept": None if accuracy_kept is None else round(accuracy_kept, 4),
        "reliability": {name: [_rounded(b) for b in found] for name, found in bins.items()},
    }


def _rounded(found: calibration.Bin) -> dict[str, float]:
    return {name: round(value, 4) for name, value in found._asdict().items()}
