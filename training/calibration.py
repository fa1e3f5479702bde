"""From logits to honest probabilities: temperature, calibration error, and when to say "unsure".

Arrays here: logits (n, classes) float, targets (n,) int64, confidence (n,) the highest probability of each answer,
right (n,) bool.
"""

import numpy as np
from numpy.typing import NDArray

from models.probability import softmax

Floats = NDArray[np.floating]
TEMPERATURES = np.geomspace(0.05, 20, 600)  # steps of 1 %


def fit_temperature(logits: Floats, targets: NDArray[np.int64]) -> float:
    """The temperature of lowest negative log-likelihood (Guo et al. 2017, arXiv 1706.04599, section 4.2)."""
    rows = np.arange(len(targets))
    losses = [-np.log(softmax(logits, t)[rows, targets].clip(1e-12)).mean() for t in TEMPERATURES]
    return round(float(TEMPERATURES[int(np.argmin(losses))]), 4)


def calibration_error(confidence: Floats, right: NDArray[np.bool_], bins: int = 15) -> float:
    """Expected calibration error: mean |accuracy - confidence| over equal bins of confidence, weighted by their size
    (Guo et al. 2017, equation 3)."""
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [abs(float(right[index == b].sum()) - float(confidence[index == b].sum())) for b in range(bins)]
    return sum(gaps) / len(right)


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
