"""What a package's temperature means: logits -> probabilities, and how far these can be believed.

Training fits and measures with the functions that service and gate use.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 15


def softmax(logits: NDArray[np.floating[Any]], temperature: float = 1.0) -> NDArray[np.float64]:
    """Probabilities of logits (..., classes) divided by ``temperature``; the last axis sums to 1."""
    scaled = logits.astype(np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def calibration_error(confidence: NDArray[np.floating[Any]], right: NDArray[np.bool_], bins: int = BINS) -> float:
    """Expected calibration error: mean |accuracy - confidence| over equal bins of confidence, weighted by their size
    (Guo et al. 2017, arXiv 1706.04599, equation 3). confidence: (n,) the highest probability of each answer."""
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    surplus = np.bincount(index, weights=right - confidence.astype(np.float64), minlength=bins)
    return float(np.abs(surplus).sum() / len(right))
