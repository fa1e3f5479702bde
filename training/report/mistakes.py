"""The answers that were wrong with the highest probability: wrong labels and hard images show here first."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.data.dataset import ImageSet
from training.evaluation.calibration import Answers
from training.report import pictures

MOST = 50
SIDE = 112  # pixels


def best(answers: Answers) -> NDArray[np.int64]:
    """Indices of all right answers, the most confident first."""
    right = np.flatnonzero(answers.right)
    return right[np.argsort(-answers.confidence[right], kind="stable")]


def worst(answers: Answers) -> NDArray[np.int64]:
    """Indices of all wrong answers, the most confident first."""
    wrong = np.flatnonzero(~answers.right)
    return wrong[np.argsort(-answers.confidence[wrong], kind="stable")]


def count_sure(answers: Answers, least: float) -> int:
    """How many wrong answers have a probability of at least ``least``."""
    return int((answers.confidence[~answers.right] >= least).sum())


def show(images: ImageSet, answers: Answers, index: int) -> dict[str, Any]:
    """An image with its answer: file, given label, answer, both their probabilities, picture."""
    return {
        "file": images.paths[index],
        "label": images.classes[images.targets[index]],
        "label_probability": round(float(answers.given[index]), 4),
        "answer": images.classes[answers.predicted[index]],
        "probability": round(float(answers.confidence[index]), 4),
        "picture": pictures.thumbnail(images.pixels[index], SIDE),
    }
