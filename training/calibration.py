"""From logits to honest probabilities: temperature, calibration error, and when to say "unsure".

Arrays here: logits (n, classes) float, targets (n,) int64, confidence (n,) the highest probability of each answer,
right (n,) bool. Neighbour: evaluate.py.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.probability import BINS, softmax
from models.probability import calibration_error as calibration_error

Floats = NDArray[np.floating]
TEMPERATURES = np.geomspace(0.05, 20, 600)  # steps of 1 %


class Bin(NamedTuple):
    """Answers whose confidence is at least ``low`` and below ``high``: how many, their mean confidence, their accuracy."""

    low: float
    high: float
    samples: int
    confidence: float
    accuracy: float


def fit_temperature(logits: Floats, targets: NDArray[np.int64]) -> float:
    """The temperature of lowest negative log-likelihood (Guo et al. 2017, arXiv 1706.04599, section 4.2)."""
    rows = np.arange(len(targets))
    losses = [-np.log(softmax(logits, t)[rows, targets].clip(1e-12)).mean() for t in TEMPERATURES]
    return round(float(TEMPERATURES[int(np.argmin(losses))]), 4)


def reliability(confidence: Floats, right: NDArray[np.bool_], bins: int = BINS) -> list[Bin]:
    """Equal bins of confidence, lowest first; those that no answer falls into are left out."""
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    inside = [(b, index == b) for b in range(bins) if (index == b).any()]
    return [Bin(b / bins, (b + 1) / bins, int(i.sum()), float(confidence[i].mean()), float(right[i].mean())) for b, i in inside]


def choose_threshold(confidence: Floats, right: NDArray[np.bool_]) -> float:
    """The lowest confidence, in steps of 0.0001, at which the answers kept err at most half as often as all answers do."""
    steps = np.floor(confidence * 10_000).astype(int)
    order = np.argsort(-steps)
    errors = np.cumsum(~right[order]) / np.arange(1, len(order) + 1)
    last_of_step = np.diff(steps[order], append=-1) < 0  # a threshold keeps or refuses equal answers together
    kept = np.flatnonzero(last_of_step & (errors <= errors[-1] / 2))
    if not len(kept) or errors[-1] == 0:
        return 0.0
    return float(steps[order][kept[-1]] / 10_000)


def kept_at(confidence: Floats, right: NDArray[np.bool_], threshold: float) -> tuple[float, float | None]:
    """Coverage, the share of answers that are not "unsure" at a threshold, and their accuracy; None where there are none."""
    sure = confidence >= threshold
    return float(sure.mean()), float(right[sure].mean()) if sure.any() else None


def coverage_curve(confidence: Floats, right: NDArray[np.bool_], steps: int = 100) -> list[dict[str, float | None]]:
    """``kept_at`` of thresholds from 0 to 1: ``threshold``, ``coverage`` and ``accuracy`` of each."""
    found: list[dict[str, float | None]] = []
    for threshold in np.linspace(0, 1, steps + 1):
        coverage, accuracy = kept_at(confidence, right, float(threshold))
        point = {"threshold": round(float(threshold), 4), "coverage": round(coverage, 4)}
        found.append(point | {"accuracy": None if accuracy is None else round(accuracy, 4)})
    return found
