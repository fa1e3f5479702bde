"""How surely one version is better or worse than another, by what both answered.

Shares are between 0 and 1, differences are new minus old, intervals cover 95 %.
"""

from math import pi, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.package.held_out_answers import UNKNOWN, Answers
from models.package.manifest import Evaluation
from models.package.probability import BINS, calibration_error

Z = 1.959964  # of a normal distribution, two-sided 95 %
RESAMPLES = 400
Rights = NDArray[np.bool_]


class Difference(NamedTuple):
    """A difference and the interval that it lies in."""

    value: float
    low: float
    high: float


class Pairs(NamedTuple):
    """What two versions answered for the same n images: class of each (index into ``labels``), who was right, how sure."""

    labels: list[str]
    target: NDArray[np.int32]
    old_right: Rights
    new_right: Rights
    old_probability: NDArray[np.float32]
    new_probability: NDArray[np.float32]
    old_predicted: NDArray[np.int32]
    new_predicted: NDArray[np.int32]

    @property
    def disagreement(self) -> float:
        """Share of the images that get another class; one that ``labels`` lacks is another too."""
        return float((self.old_predicted != self.new_predicted).mean())


def pair(old: Answers, old_labels: list[str], new: Answers, new_labels: list[str]) -> Pairs:
    """The images that both answered and whose class both know, each once; classes are matched by name."""
    _, in_old, in_new = np.intersect1d(old.image, new.image, return_indices=True)
    number = {label: i for i, label in enumerate(new_labels)}
    renamed = np.array([*(number.get(label, UNKNOWN) for label in old_labels), UNKNOWN], np.int32)  # UNKNOWN is the last
    old_target, new_target = renamed[old.target[in_old]], new.target[in_new]
    both = (old_target == new_target) & (new_target != UNKNOWN)
    in_old, in_new = in_old[both], in_new[both]
    target, before, predicted = new.target[in_new], renamed[old.predicted[in_old]], new.predicted[in_new]
    return Pairs(
        new_labels,
        target,
        before == target,
        predicted == target,
        old.probability[in_old],
        new.probability[in_new],
        before,
        predicted,
    )


def mcnemar(old_right: Rights, new_right: Rights) -> float:
    """Probability of so uneven a split, or a more uneven one, of the images that one version alone has right, were both
    equally good: the exact test of McNemar 1947 (Psychometrika 12, 153), two-sided."""
    worse = int((old_right & ~new_right).sum())
    better = int((~old_right & new_right).sum())
    return min(1.0, 2 * binomial_tail(min(worse, better), worse + better))


def binomial_tail(k: int, n: int) -> float:
    """Probability of at most ``k`` heads in ``n`` throws of a coin, exact."""
    term = total = 1
    for i in range(k):
        term = term * (n - i) // (i + 1)
        total += term
    return total / 2**n if n < 1000 else float(np.exp2(_log2(total) - n))


def _log2(number: int) -> float:
    """Of a whole number that may be too large for a float."""
    shift = max(0, number.bit_length() - 53)
    return float(np.log2(number >> shift)) + shift


def paired(old_right: Rights, new_right: Rights) -> Difference:
    """Accuracy gained, on the same images. Interval: Agresti & Min 2005 (Statistics in Medicine 24, 729), Wald's with half an
    image more in each cell, which holds its level for few images too."""
    n = len(old_right) + 2
    worse = int((old_right & ~new_right).sum()) + 0.5
    better = int((~old_right & new_right).sum()) + 0.5
    centre = (better - worse) / n
    half = Z * sqrt(max(0.0, worse + better - (better - worse) ** 2 / n)) / n
    value = float(new_right.mean() - old_right.mean())
    return Difference(value, max(-1.0, centre - half), min(1.0, centre + half))


def unpaired(old: float, old_n: int, new: float, new_n: int) -> Difference:
    """Accuracy gained, each measured on images of its own. Interval: Newcombe 1998 (Statistics in Medicine 17, 873), method
    10, of two of Wilson's."""
    (old_low, old_high), (new_low, new_high) = wilson(old, old_n), wilson(new, new_n)
    value = new - old
    low = value - sqrt((new - new_low) ** 2 + (old_high - old) ** 2)
    high = value + sqrt((new_high - new) ** 2 + (old - old_low) ** 2)
    return Difference(value, low, high)


def wilson(share: float, n: int, z: float = Z) -> tuple[float, float]:
    """Interval of a share (Wilson 1927, Journal of the American Statistical Association 22, 209)."""
    centre = share + z**2 / (2 * n)
    half = z * sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return (centre - half) / (1 + z**2 / n), (centre + half) / (1 + z**2 / n)


def calibration(pairs: Pairs) -> Difference:
    """Calibration error added. Interval: of the same images drawn again, with repetition (Efron's bootstrap, percentiles)."""

    def added(i: NDArray[np.int64] | slice) -> float:
        new = calibration_error(pairs.new_probability[i], pairs.new_right[i])
        return new - calibration_error(pairs.old_probability[i], pairs.old_right[i])

    n = len(pairs.target)
    random = np.random.default_rng(0)
    drawn = [added(random.integers(0, n, n)) for _ in range(RESAMPLES)]
    return Difference(added(slice(None)), float(np.quantile(drawn, 0.025)), float(np.quantile(drawn, 0.975)))


def stated_calibration(old: Evaluation, new: Evaluation) -> Difference:
    """As ``calibration``, of the figures of two manifests, each freed of what a perfect model would show on as many images.

    Interval: of two normal distributions. The deviation of a calibration error is at most that of the accuracy, which it has
    where all bins err to the same side; what a perfect model may show is no rise.
    """
    value = _surplus(new) - _surplus(old)
    half = Z * sqrt(sum(_variance(e) for e in (old, new)))
    is_perfect = new.calibration_error <= _floor(new)[1]
    return Difference(value, min(0.0, value - half) if is_perfect else value - half, value + half)


def _surplus(evaluation: Evaluation) -> float:
    """Chance and true error add up as squares do."""
    return sqrt(max(0.0, evaluation.calibration_error**2 - _floor(evaluation)[0] ** 2))


def _floor(evaluation: Evaluation) -> tuple[float, float]:
    """Mean and upper end of the calibration error of a perfect model. Packages from before state none: half of the bins are
    taken to hold the answers, equally, and the gap of each to be normal."""
    stated = evaluation.calibration_floor, evaluation.calibration_floor_high
    if stated[0] is not None and stated[1] is not None:
        return stated[0], stated[1]
    mean = sqrt(2 / pi * _variance(evaluation) * BINS / 2)
    return mean, mean + Z * sqrt((1 - 2 / pi) * _variance(evaluation))


def _variance(evaluation: Evaluation) -> float:
    """Of the accuracy; with two right and two wrong answers more (Agresti and Coull 1998, American Statistician 52, 119)."""
    n = evaluation.samples + 4
    share = (evaluation.top1 * evaluation.samples + 2) / n
    return share * (1 - share) / n
