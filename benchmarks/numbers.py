"""Arithmetic of the benchmark: percentiles, medians with their spread, and rates of answers that come in bursts."""

from collections.abc import Sequence
from statistics import median

import numpy as np
from msgspec import Struct


class Spread(Struct, frozen=True):
    """A median and the least and most of the values it stands for."""

    median: float
    low: float
    high: float
    n: int


def spread_of(values: Sequence[float]) -> Spread | None:
    """None where there are no values."""
    return Spread(median(values), min(values), max(values), len(values)) if values else None


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least ``share`` percent of the values do not exceed; NaN where there are none."""
    if not values:
        return float("nan")
    return float(np.percentile(values, share, method="inverted_cdf"))


def rate_of(times: Sequence[float]) -> float:
    """Events a second: the slope of the line through the running count of events over their times.

    Answers come in bursts, one burst a batch. The slope does not depend on where in a burst the measurement began or
    ended, as the quotient of a count and a duration does.
    """
    if len(times) < 3 or times[-1] <= times[0]:
        return 0.0
    elapsed = np.asarray(times) - times[0]
    return float(np.polyfit(elapsed, np.arange(len(times)), 1)[0])
