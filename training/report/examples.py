"""The images that the report shows the network at work on: confusions, the worst mistakes, right answers beside wrong ones."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.data.dataset import ImageSet
from training.evaluation.calibration import Answers
from training.evaluation.class_activation import class_activation_maps
from training.loop.checkpoint import Checkpoint
from training.networks.classifier import Classifier
from training.report import confusions, feature_maps, mistakes, patches, pictures

RIGHT, WRONG = 4, 8  # images whose class activation maps are shown
SIDE = 112  # pixels, of a map
PRIVATE = {"left_out": "the report was made without images and file names of the data (--without-images)"}
MAPLESS = {"left_out": "the network has no convolutions, so it has no maps of places"}
NAMES = ("confusions", "mistakes", "feature_maps", "patches", "class_activation")


def none() -> dict[str, Any]:
    """Of every section of ``show``, that it was left out."""
    return dict.fromkeys(NAMES, PRIVATE)


def show(
    model: Classifier,
    checkpoint: Checkpoint,
    trained: ImageSet,
    images: ImageSet,
    answers: Answers,
    confused: Sequence[dict[str, Any]],
) -> dict[str, dict[str, Any]]:
    """What NAMES names. images: those evaluated, and their answers; confused: pairs of classes, the commonest first."""
    wrong, right = mistakes.worst(answers), mistakes.best(answers)
    has_maps = bool(model.stages())
    pair = [*_alike(images, right, wrong), *wrong[:1]]
    return {
        "confusions": {"pairs": confusions.show(images, answers, confused)},
        "mistakes": {"count": len(wrong), "images": [mistakes.show(images, answers, int(i)) for i in wrong[: mistakes.MOST]]},
        "feature_maps": {"images": [_mapped(model, checkpoint, images, answers, int(i)) for i in pair]} if has_maps else MAPLESS,
        "patches": patches.show(model, checkpoint, trained),
        "class_activation": {
            "right": activation(model, checkpoint, images, answers, _mixed(images, right)),
            "wrong": activation(model, checkpoint, images, answers, wrong[:WRONG]),
        }
        if has_maps
        else MAPLESS,
    }


def _alike(images: ImageSet, right: NDArray[np.int64], wrong: NDArray[np.int64]) -> NDArray[np.int64]:
    """One right answer, to an image of the class that the worst mistake is of, where there is one."""
    same = right[images.targets[right] == images.targets[wrong[0]]] if len(wrong) else right
    return (same if len(same) else right)[:1]


def _mixed(images: ImageSet, right: NDArray[np.int64]) -> NDArray[np.int64]:
    """Right answers of as many classes as there are places."""
    _, first = np.unique(images.targets[right], return_index=True)
    others = np.setdiff1d(np.arange(len(right)), first)
    return right[np.concatenate([np.sort(first), others])][:RIGHT]


def _mapped(model: Classifier, checkpoint: Checkpoint, images: ImageSet, answers: Answers, index: int) -> dict[str, Any]:
    shown = mistakes.show(images, answers, index)
    return shown | {"stages": feature_maps.show(model, checkpoint, images.pixels[index])}


def activation(
    model: Classifier, checkpoint: Checkpoint, images: ImageSet, answers: Answers, indices: Sequence[int] | NDArray[np.int64]
) -> list[dict[str, Any]]:
    """Of each image what ``mistakes.show`` says, and ``maps``: a picture for its answer and, if that is wrong, its label."""
    found: list[dict[str, Any]] = []
    for i in map(int, indices):
        classes = np.unique([int(answers.predicted[i]), int(images.targets[i])], return_index=True)
        wanted = classes[0][np.argsort(classes[1])]  # the answer first
        maps = class_activation_maps(model, checkpoint, images.pixels[[i] * len(wanted)], wanted)
        maps = maps / max(float(maps.max()), 1e-12)  # on one scale, or a map without evidence would show its noise
        shown = [
            {"label": images.classes[c], "picture": pictures.uri(pictures.heat(m, images.pixels[i], SIDE), lossless=False)}
            for c, m in zip(wanted, maps, strict=True)
        ]
        found.append(mistakes.show(images, answers, i) | {"maps": shown})
    return found
