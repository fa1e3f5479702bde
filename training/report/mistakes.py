"""The answers that were wrong with the highest probability: wrong labels and hard images show here first.

Neighbours: class_activation.py shows where the network looked, page.py shows both.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.data import ImageSet
from training.report import pictures

MOST = 50
SIDE = 112  # pixels


def best(images: ImageSet, shares: NDArray[np.floating]) -> NDArray[np.int64]:
    """Indices of all right answers, the most confident first. shares: probabilities (n, classes)."""
    right = np.flatnonzero(shares.argmax(axis=1) == images.targets)
    return right[np.argsort(-shares[right].max(axis=1), kind="stable")]


def worst(images: ImageSet, shares: NDArray[np.floating]) -> NDArray[np.int64]:
    """Indices of all wrong answers, the most confident first. shares: probabilities (n, classes)."""
    wrong = np.flatnonzero(shares.argmax(axis=1) != images.targets)
    return wrong[np.argsort(-shares[wrong].max(axis=1), kind="stable")]


def count_sure(images: ImageSet, shares: NDArray[np.floating], least: float) -> int:
    """How many wrong answers have a probability of at least ``least``."""
    return int((shares[worst(images, shares)].max(axis=1) >= least).sum())


def show(images: ImageSet, shares: NDArray[np.floating], index: int) -> dict[str, Any]:
    """An image with its answer: file, given label, answer, both their probabilities, picture."""
    answer, label = int(shares[index].argmax()), int(images.targets[index])
    return {
        "file": images.paths[index],
        "label": images.classes[label],
        "label_probability": round(float(shares[index, label]), 4),
        "answer": images.classes[answer],
        "probability": round(float(shares[index, answer]), 4),
        "picture": pictures.thumbnail(images.pixels[index], SIDE),
    }
