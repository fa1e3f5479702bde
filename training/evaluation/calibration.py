"""From logits to honest probabilities: temperature, calibration error, and when to say "unsure".

Arrays here: logits (n, classes) float, targets (n,) int64, confidence (n,) the highest probability of each answer, right (n,)
bool. Of thousands of classes, logits are most of the memory: they are looked at a few rows at once.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.package.probability import NONE, bins_for, brier, negative_log_likelihood, softmax
from models.package.probability import calibration_error as calibration_error
from models.package.statistics import wilson

Floats = NDArray[np.floating]
STEP = 0.05
LOGS = np.arange(-46, 47) * STEP  # logarithms of the temperatures that are tried, 0.1 to 10; of 1 too
PRIOR = 3.0  # of log T: Laplace's distribution with 95 % between -1 and 1
FOLDS = 5
LEAST_KEPT = 10  # answers
SURE = 2.576  # of a normal distribution, two-sided 99 %
AT_ONCE = 2**18  # logits that are looked at together: they stay in the cache of a core


class Bin(NamedTuple):
    """Answers whose confidence is at least ``low`` and below ``high``: how many, their mean confidence, their accuracy."""

    low: float
    high: float
    samples: int
    confidence: float
    accuracy: float


class Choice(NamedTuple):
    """What is chosen on held-out images, and what there is to say of it: of a temperature at the end of what is tried, and of
    a threshold of 0, at which no answer is "unsure"."""

    temperature: float
    threshold: float
    temperature_reason: str = ""
    threshold_reason: str = ""


class Answers(NamedTuple):
    """What n logits mean: the class answered, the probabilities of it and of the label, and whether they are one, all (n,);
    the mean negative log-likelihood and Brier score (models.package.probability)."""

    predicted: NDArray[np.int64]
    confidence: Floats
    given: Floats
    right: NDArray[np.bool_]
    negative_log_likelihood: float
    brier: float


def answers(logits: Floats, targets: NDArray[np.int64], temperature: float | Floats = 1.0) -> Answers:
    """What the logits mean, divided by one temperature or by one for each image (n,)."""
    n, temperatures = len(targets), np.broadcast_to(np.asarray(temperature, np.float64), len(targets))
    predicted, confidence, given = np.empty(n, np.int64), np.empty(n), np.empty(n)
    sums = np.zeros(2)
    for rows in slices(logits):
        shares, labels = softmax(logits[rows], temperatures[rows, None]), targets[rows]
        predicted[rows], confidence[rows] = logits[rows].argmax(axis=1), shares.max(axis=1)
        given[rows] = shares[np.arange(len(labels)), labels]
        sums += len(labels) * np.array([negative_log_likelihood(shares, labels), brier(shares, labels)])
    likelihood, score = (sums / max(1, n)).tolist()
    return Answers(predicted, confidence, given, predicted == targets, likelihood, score)


def slices(logits: Floats) -> Iterator[slice]:
    """Rows to look at together."""
    step = max(1, AT_ONCE // logits.shape[1])
    yield from (slice(begin, begin + step) for begin in range(0, len(logits), step))


def choose(logits: Floats, targets: NDArray[np.int64]) -> Choice:
    """Temperature and threshold by all images that are given."""
    temperature = fit_temperature(logits, targets)
    found = answers(logits, targets, temperature)
    threshold = choose_threshold(found.confidence, found.right)
    why = "" if threshold else _no_threshold(len(targets), int((~found.right).sum()))
    return Choice(temperature, threshold, _at_the_end(temperature), why)


def choose_out_of_folds(logits: Floats, targets: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """The temperature and the threshold for each of n images, both (n,), chosen on the images of the other folds, so that
    they can be measured on the same images: FOLDS of equal size, drawn with a fixed seed."""
    fold = np.random.default_rng(0).permutation(len(targets)) % FOLDS
    temperatures, thresholds = np.ones(len(targets)), np.zeros(len(targets))
    losses = temperature_losses(logits, targets)
    for k in np.unique(fold):
        temperature = _fitted(losses[fold != k])
        found = answers(logits, targets, temperature)
        temperatures[fold == k] = temperature
        thresholds[fold == k] = choose_threshold(found.confidence[fold != k], found.right[fold != k])
    return temperatures, thresholds


def fit_temperature(logits: Floats, targets: NDArray[np.int64]) -> float:
    """The temperature of lowest negative log-likelihood (Guo et al. 2017, arXiv 1706.04599, section 4.2) with a prior that
    holds it near 1, so that a few images do not move it by chance: PRIOR |log T| is added to the sum over the images, as in
    the lasso (Tibshirani 1996, Journal of the Royal Statistical Society B 58, 267). What n images say grows with n, the prior
    does not: of no image it is 1, and of thousands it moves the temperature by less than 1 %."""
    return _fitted(temperature_losses(logits, targets))


def temperature_losses(logits: Floats, targets: NDArray[np.int64]) -> Floats:
    """The negative log-likelihood of each image at each temperature that is tried, (n, LOGS)."""
    losses = np.empty((len(targets), len(LOGS)))
    for rows in slices(logits):
        below = logits[rows] - logits[rows].max(axis=1, keepdims=True)  # the highest is 0, so that no power is too large
        label = below[np.arange(len(below)), targets[rows]].astype(np.float64)
        powers = np.empty_like(below)
        for i, temperature in enumerate(np.exp(LOGS).tolist()):
            np.exp(np.multiply(below, 1 / temperature, out=powers), out=powers)
            shares = np.exp(label / temperature) / powers.sum(axis=1)
            losses[rows, i] = -np.log(shares.clip(NONE))
    return losses


def _fitted(losses: Floats) -> float:
    """The temperature by ``temperature_losses`` of the images that count."""
    return round(float(np.exp(_lowest(losses.sum(axis=0)))), 4)


def _lowest(losses: Floats) -> float:
    """The log T of least loss and prior together, by a parabola through the losses around the best that was tried."""
    i = int(np.argmin(losses + PRIOR * np.abs(LOGS)))
    if i in (0, len(LOGS) - 1):
        return float(LOGS[i])
    before, here, after = losses[i - 1 : i + 2]
    slope, curve = (after - before) / (2 * STEP), (after - 2 * here + before) / STEP**2
    prior = PRIOR * np.sign(LOGS[i]) if LOGS[i] else np.clip(-slope, -PRIOR, PRIOR)
    return float(LOGS[i] - np.clip((slope + prior) / max(curve, NONE), -STEP, STEP))


def _at_the_end(temperature: float) -> str:
    if temperature not in np.exp(LOGS[[0, -1]]).round(4):
        return ""
    kind = "highest" if temperature > 1 else "lowest"
    what = "how sure the network is says next to nothing" if temperature > 1 else "the network is far surer than its logits say"
    return f"{temperature:g} is the {kind} temperature that is tried: {what}; look at the data, and train longer"


def _no_threshold(images: int, errors: int) -> str:
    if not errors:
        return f"all {images} held-out images were answered right, so nothing shows which answers are unsure"
    return f"{errors} errors in {images} held-out images do not show a probability above which answers err half as often"


def reliability(confidence: Floats, right: NDArray[np.bool_], bins: int | None = None) -> list[Bin]:
    """The bins of the calibration error, lowest first; those that no answer falls into are left out."""
    bins = bins or bins_for(len(right))
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    inside = [(b, index == b) for b in range(bins) if (index == b).any()]
    return [Bin(b / bins, (b + 1) / bins, int(i.sum()), float(confidence[i].mean()), float(right[i].mean())) for b, i in inside]


def choose_threshold(confidence: Floats, right: NDArray[np.bool_]) -> float:
    """The lowest confidence, in steps of 0.0001, at which the answers kept err at most half as often as all answers do: by
    these images, and by the probabilities themselves, which vary less where the images are few. It must be sure that they
    err less often at all (99 %, Wilson, of LEAST_KEPT answers or more); 0 where that holds of none."""
    steps = np.floor(confidence * 10_000).astype(int)
    order = np.argsort(-steps)
    count = np.arange(1, len(order) + 1)
    errors, expected = np.cumsum(~right[order]) / count, np.cumsum(1 - confidence[order]) / count
    if not len(order) or errors[-1] == 0:
        return 0.0
    last_of_step = np.diff(steps[order], append=-1) < 0  # a threshold keeps or refuses equal answers together
    halved = (errors <= errors[-1] / 2) & (expected <= expected[-1] / 2) & (count >= LEAST_KEPT)
    kept = [k for k in np.flatnonzero(last_of_step & halved) if wilson(errors[k], int(count[k]), SURE)[1] < errors[-1]]
    return float(steps[order][kept[-1]] / 10_000) if kept else 0.0


def kept_at(confidence: Floats, right: NDArray[np.bool_], threshold: float | Floats) -> tuple[float, float | None]:
    """Coverage, the share of answers that are not "unsure" at a threshold, or each at its own, and their accuracy; None where
    there are none."""
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
