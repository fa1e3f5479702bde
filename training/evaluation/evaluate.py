"""How good a checkpoint is, on images it was not trained on; what it finds goes into evaluation.json beside it."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

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
from training.evaluation import calibration, confusion, explanations, novelty
from training.evaluation.calibration import Choice
from training.evaluation.retrieval import retrieval
from training.loop import checkpoint as checkpoints
from training.loop import legacy_split
from training.loop.checkpoint import Checkpoint
from training.loop.device import full_precision
from training.loop.normalisation import normalise
from training.networks.classifier import Classifier

FILE = "evaluation.json"
TABLES = ("classes", "confusion", "reliability")  # what of it does not fit on a line
BATCH = 128


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


class Outputs(NamedTuple):
    """Of n images: logits (n, classes) and features (n, dimensions), float32."""

    logits: NDArray[np.float32]
    features: NDArray[np.float32]


@torch.inference_mode()
def outputs_of(model: Classifier, checkpoint: Checkpoint, images: ImageSet, say: bool = True, device: str = "") -> Outputs:
    """What images as they are give, computed by torch in full precision, on a GPU where there is one and no ``device`` is
    named."""
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    model = checkpoint.answering(model).eval().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    found = Outputs(*(np.empty((len(images), n), np.float32) for n in (len(checkpoint.classes), model.head.in_features)))
    with full_precision():
        for begin in tqdm(range(0, len(images), BATCH), "evaluate", unit=" batches", leave=False, disable=not say):
            pixels = torch.from_numpy(images.pixels[begin : begin + BATCH]).to(device)
            for array, values in zip(found, model.outputs(normalise(pixels, checkpoint)), strict=False):
                array[begin : begin + BATCH] = values.float().cpu().numpy()
    return found


def logits_of(
    model: Classifier, checkpoint: Checkpoint, images: ImageSet, say: bool = True, device: str = ""
) -> NDArray[np.float32]:
    """The logits alone."""
    return outputs_of(model, checkpoint, images, say, device).logits


def evaluate(run: Path, source: str | Path) -> dict[str, Any]:
    """Measure the checkpoint in ``run`` on ``source`` and write run/evaluation.json, and run/novelty.npz where there are enough
    images for it.

    Temperature, threshold and what is novel are chosen on the validation images; every figure is of the evaluation images. Where
    these are the same, temperature and threshold are measured on other ones of them than they were chosen on.

    Raises:
        CheckpointError, DataError: see those.
    """
    checkpoint, model, _ = checkpoints.load(run)
    with decoded.beside(run):
        test = dataset.load_test(source, checkpoint.recipe.input, checkpoint.classes)
        trained, validation = training_images(source, checkpoint)
    images, split = (validation, "validation") if test is None else (test, "test")
    held_out = outputs_of(model, checkpoint, validation)
    chosen = calibration.choose(held_out.logits, validation.targets)
    logits, features = held_out if test is None else outputs_of(model, checkpoint, images)
    reference = novelty.fit(outputs_of(model, checkpoint, some_of(trained)).features, held_out.features)
    known = np.ones(len(images), np.bool_) if reference is None else reference.novelty(features) <= novelty.THRESHOLD
    result = {
        "epoch": checkpoint.epoch,
        "dataset": checkpoint.data["folder"],
        "split": split,
        "dataset_sha256": dataset.fingerprint(images),
        "samples": len(images),
        **accuracy(logits, images),
        **honesty(logits, images.targets, *_measured_with(chosen, split, logits, images.targets), known),
        **chosen._asdict(),
        **retrieval(features, images.targets),
        **explanations.measure(model, checkpoint, images, logits, partial(probabilities_of, model, checkpoint, images)),
    }
    if reference is None:
        (run / novelty.FILE).unlink(missing_ok=True)
        with files.whole(run / FILE) as (beside,):
            beside.write_text(json.dumps(result, indent=1))
        return result
    result |= {"novel": round(float((~known).mean()), 4), "novelty_threshold": novelty.THRESHOLD}
    with files.whole(run / novelty.FILE, run / FILE) as (scores, beside):
        with scores.open("wb") as file:
            novelty.write(file, reference)
        beside.write_text(json.dumps(result, indent=1))
    return result


def probabilities_of(
    model: Classifier, checkpoint: Checkpoint, images: ImageSet, pixels: NDArray[np.uint8]
) -> NDArray[np.floating]:
    """(n, classes), without a temperature, of pixels (n, height, width, 3) in the place of those of ``images``."""
    others = replace(images, pixels=pixels, targets=np.zeros(len(pixels), np.int64))
    return probability.softmax(logits_of(model, checkpoint, others, say=False))


def some_of(trained: ImageSet) -> ImageSet:
    """At most novelty.TRAINING_IMAGES, evenly out of all."""
    return trained.subset(np.arange(0, len(trained), -(-len(trained) // novelty.TRAINING_IMAGES) or 1))


def read_novelty(run: Path, evaluation: dict[str, Any]) -> novelty.Reference | None:
    """What ``evaluate`` learnt of novelty beside its figures, None where it learnt nothing; raises CheckpointError."""
    if "novelty_threshold" not in evaluation:
        return None
    try:
        return novelty.read(run / novelty.FILE)
    except (OSError, ValueError, KeyError) as err:
        again = program.command("evaluate", run, "DATA")
        raise CheckpointError(f"{run / novelty.FILE} is gone or damaged: run '{again}' again") from err


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
    known: NDArray[np.bool_] | None = None,
) -> dict[str, Any]:
    """How far probabilities can be believed, without and with the temperature of each image (n,), what is "unsure" by the
    threshold of each or as not ``known``, and the calibration error that a perfect model would show."""
    found, before = calibration.answers(logits, targets, temperatures), calibration.answers(logits, targets).confidence
    confidence, right = found.confidence, found.right
    sure = confidence if known is None else np.where(known, confidence, -1.0)
    coverage, accuracy_kept = calibration.kept_at(sure, right, thresholds)
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
