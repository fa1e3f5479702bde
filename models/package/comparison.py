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
from models.package.statistics import Z, agresti_coull_variance, agresti_min, newcombe

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


def discordant(old_right: Rights, new_right: Rights) -> tuple[int, int]:
    """How many of the images the old version alone has right, and the new one alone."""
    return int((old_right & ~new_right).sum()), int((~old_right & new_right).sum())


def paired(old_right: Rights, new_right: Rights) -> Difference:
    """Accuracy gained, on the same images."""
    interval = agresti_min(*discordant(old_right, new_right), len(old_right))
    return Difference(float(new_right.mean() - old_right.mean()), *interval)


def unpaired(old: float, old_n: int, new: float, new_n: int) -> Difference:
    """Accuracy gained, each measured on images of its own."""
    return Difference(new - old, *newcombe(old, old_n, new, new_n))


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
    """Of the accuracy."""
    return agresti_coull_variance(evaluation.top1, evaluation.samples)
