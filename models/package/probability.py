"""What a package's temperature means: logits -> probabilities, and how far these can be believed.

Training fits and measures with the functions that service and gate use.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 15  # at most
DRAWS = 400  # of a perfect model's answers
NONE = 1e-12  # least probability whose logarithm is taken


def softmax(logits: NDArray[np.floating[Any]], temperature: float | NDArray[np.floating[Any]] = 1.0) -> NDArray[np.float64]:
    """Probabilities of logits (..., classes) divided by ``temperature``, or each row by its own (..., 1); the last axis sums
    to 1."""
    scaled = logits.astype(np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def share_of_highest(logits: NDArray[np.floating[Any]], temperature: float) -> float:
    """The highest of ``softmax`` of one image's logits (classes,), which alone costs half as much."""
    scaled = logits.astype(np.float64)
    scaled -= scaled.max()
    scaled /= temperature
    return 1.0 / float(np.exp(scaled, out=scaled).sum())


def bins_for(n: int) -> int:
    """Into how many bins of confidence ``n`` answers are sorted: the cube root of 2 n (Terrell and Scott 1985, Journal of the
    American Statistical Association 80, 209), BINS at most, so that each holds enough answers to say something."""
    return min(BINS, math.ceil((2 * n) ** (1 / 3)))


def calibration_error(confidence: NDArray[np.floating[Any]], right: NDArray[np.bool_], bins: int | None = None) -> float:
    """Expected calibration error: mean |accuracy - confidence| over equal bins of confidence, weighted by their size
    (Guo et al. 2017, arXiv 1706.04599, equation 3). confidence: (n,) the highest probability of each answer; ``bins`` are
    ``bins_for`` (n) unless told otherwise."""
    bins = bins or bins_for(len(right))
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    surplus = np.bincount(index, weights=right - confidence.astype(np.float64), minlength=bins)
    return float(np.abs(surplus).sum() / len(right))


def calibration_floor(confidence: NDArray[np.floating[Any]], bins: int | None = None) -> tuple[float, float]:
    """The calibration error that a perfectly calibrated model shows by chance when it is as sure as this: the mean and the
    95th percentile of DRAWS, in each of which every answer is right with the probability that it was given."""
    random = np.random.default_rng(0)
    drawn = [calibration_error(confidence, random.random(len(confidence)) < confidence, bins) for _ in range(DRAWS)]
    return float(np.mean(drawn)), float(np.quantile(drawn, 0.95))


def negative_log_likelihood(probabilities: NDArray[np.floating[Any]], targets: NDArray[np.integer[Any]]) -> float:
    """Mean of -log of the probability (n, classes) that the label (n,) was given."""
    return float(-np.log(probabilities[np.arange(len(targets)), targets].clip(NONE)).mean())


def brier(probabilities: NDArray[np.floating[Any]], targets: NDArray[np.integer[Any]]) -> float:
    """Mean squared distance of the probabilities (n, classes) from 1 for the label and 0 for the rest: 0 to 2 (Brier 1950,
    Monthly Weather Review 78, 1)."""
    given = probabilities[np.arange(len(targets)), targets]
    return float(((probabilities**2).sum(axis=1) - 2 * given + 1).mean())
