"""training/evaluation/calibration.py: temperature, calibration error and the "unsure" threshold."""

import numpy as np
import pytest

from models.package.probability import softmax
from training.evaluation import calibration
from training.evaluation.calibration import Bin, calibration_error, choose_threshold, fit_temperature, kept_at, reliability


def drawn(n: int, classes: int, random: np.random.Generator, spread: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits and targets of a perfectly calibrated model: each label comes with the probability that it was given."""
    logits = random.normal(0, spread, (n, classes))
    return logits, (softmax(logits).cumsum(axis=1) < random.random((n, 1))).sum(axis=1).clip(max=classes - 1)


def loss(logits: np.ndarray, targets: np.ndarray, temperature: float) -> float:
    return -float(np.log(softmax(logits, temperature)[np.arange(len(targets)), targets]).mean())


@pytest.mark.parametrize("true", [0.5, 1.0, 2.5])
def test_fitting_finds_the_temperature_that_the_targets_were_drawn_with(true: float) -> None:
    random = np.random.default_rng(2)
    logits = random.normal(0, 3, (4000, 5))
    cumulated = softmax(logits, true).cumsum(axis=1)
    targets = (random.uniform(size=(4000, 1)) > cumulated).sum(axis=1)

    assert fit_temperature(logits, targets) == pytest.approx(true, rel=0.08)


def test_of_no_image_and_of_saturated_right_answers_the_temperature_is_1() -> None:
    assert fit_temperature(np.zeros((0, 3)), np.zeros(0, np.int64)) == 1
    assert fit_temperature(50 * np.eye(3), np.arange(3)) == 1


def test_a_small_set_that_is_answered_right_throughout_does_not_make_the_network_surer_than_it_is() -> None:
    random = np.random.default_rng(3)
    logits, targets = drawn(2000, 3, random, spread=5)
    right = np.flatnonzero(logits.argmax(1) == targets)

    fitted = [fit_temperature(logits[chosen], targets[chosen]) for chosen in right[: 20 * 30].reshape(30, 20)]

    assert min(fitted) > 0.6
    assert np.mean([loss(logits, targets, t) for t in fitted]) < loss(logits, targets, 1) + 0.02  # 1.7 more at 0.05


@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize(
    ("sure", "change"),
    [pytest.param(1, (-0.01, 0.02), id="calibrated: as it was"), pytest.param(2, (-1, -0.02), id="twice too sure: better")],
)
def test_a_temperature_fitted_on_20_images_does_no_harm_to_others(sure: float, change: tuple[float, float], classes: int) -> None:
    random = np.random.default_rng(0)
    others, labels = drawn(4000, classes, random)
    before = loss(sure * others, labels, 1)

    after = []
    for _ in range(40):
        logits, targets = drawn(20, classes, random)
        after.append(loss(sure * others, labels, fit_temperature(sure * logits, targets)))

    assert change[0] < np.mean(after) - before < change[1]


@pytest.mark.parametrize("sure", [0.6, 1, 1.05, 2])
def test_thousands_of_images_are_fitted_as_if_there_were_no_prior(sure: float, monkeypatch: pytest.MonkeyPatch) -> None:
    logits, targets = drawn(5000, 10, np.random.default_rng(1))
    fitted = fit_temperature(sure * logits, targets)

    monkeypatch.setattr(calibration, "PRIOR", 0)

    assert fitted == pytest.approx(fit_temperature(sure * logits, targets), rel=0.005)


def test_a_temperature_at_the_end_of_what_is_tried_is_told() -> None:
    random = np.random.default_rng(0)
    logits, targets = drawn(300, 10, random)

    assert calibration.choose(logits, targets).temperature_reason == ""
    noise = calibration.choose(10 * logits, random.integers(0, 10, 300))
    unsure = calibration.choose(logits / 100, targets)

    assert noise.temperature_reason.startswith(f"{noise.temperature:g} is the highest temperature that is tried: ")
    assert unsure.temperature_reason.startswith(f"{unsure.temperature:g} is the lowest temperature that is tried: ")


def test_what_is_chosen_out_of_folds_for_an_image_does_not_hang_on_that_image() -> None:
    logits, targets = drawn(60, 3, np.random.default_rng(0))
    logits = 3 * logits
    temperatures, thresholds = calibration.choose_out_of_folds(logits, targets)
    changed = targets.copy()
    changed[7] = (targets[7] + 1) % 3

    again, _ = calibration.choose_out_of_folds(logits, changed)

    fold = temperatures == temperatures[7]
    assert fold.sum() == 12
    assert len(np.unique(temperatures)) == 5
    np.testing.assert_array_equal(again[fold], temperatures[fold])
    assert (again[~fold] != temperatures[~fold]).all()
    assert thresholds.shape == (60,)


@pytest.mark.parametrize("n", [1, 3, 6])
def test_fewer_images_than_folds_are_enough(n: int) -> None:
    logits, targets = drawn(n, 3, np.random.default_rng(0))

    temperatures, thresholds = calibration.choose_out_of_folds(logits, targets)

    assert (temperatures > 0).all()
    assert thresholds.tolist() == [0] * n


@pytest.mark.parametrize(
    ("confidence", "right", "bins", "expected"),
    [
        pytest.param([0.95, 0.95, 0.55, 0.55], [1, 0, 1, 1], 10, (0.9 + 0.9) / 4, id="two bins, each 0.45 off"),
        pytest.param([0.95, 0.95, 0.55, 0.55], [1, 0, 1, 1], 1, 0, id="one bin, its gaps cancel out"),
        pytest.param([0.5, 0.5], [1, 0], 15, 0, id="right half the time at 0.5"),
        pytest.param([1.0, 1.0], [0, 0], 15, 1, id="always sure and always wrong"),
        pytest.param([0.25, 0.25, 0.25, 0.75], [0, 0, 0, 1], 2, (0.75 + 0.25) / 4, id="bins weigh by their size"),
    ],
)
def test_calibration_error_matches_the_sum_done_by_hand(
    confidence: list[float], right: list[int], bins: int, expected: float
) -> None:
    assert calibration_error(np.array(confidence), np.array(right, bool), bins) == pytest.approx(expected)


@pytest.mark.parametrize(("n", "bins"), [(4, 2), (49, 5), (150, 7), (500, 10), (1700, 15), (50_000, 15)])
def test_fewer_answers_are_sorted_into_fewer_bins(n: int, bins: int) -> None:
    confidence = np.random.default_rng(n).uniform(0.1, 1, n)
    right = np.arange(n) % 3 > 0

    assert calibration_error(confidence, right) == calibration_error(confidence, right, bins)
    assert reliability(confidence, right) == reliability(confidence, right, bins)


def test_bins_hold_the_answers_that_fall_between_their_bounds_and_empty_ones_are_left_out() -> None:
    confidence, right = np.array([0.95, 1.0, 0.5, 0.59, 0.1]), np.array([1, 0, 1, 1, 0], bool)

    bins = reliability(confidence, right, 10)

    assert [tuple(b) for b in bins] == [
        pytest.approx(Bin(0.1, 0.2, 1, 0.1, 0.0)),
        pytest.approx(Bin(0.5, 0.6, 2, 0.545, 1.0)),
        pytest.approx(Bin(0.9, 1.0, 2, 0.975, 0.5)),
    ]


@pytest.mark.parametrize(("threshold", "expected"), [(0, (1, 0.75)), (0.7, (0.75, 2 / 3)), (0.8, (0.5, 0.5)), (0.95, (0, None))])
def test_coverage_and_accuracy_are_of_the_answers_at_or_above_the_threshold(
    threshold: float, expected: tuple[float, float | None]
) -> None:
    confidence, right = np.array([0.9, 0.8, 0.7, 0.6]), np.array([1, 0, 1, 1], bool)

    coverage, accuracy = kept_at(confidence, right, threshold)

    assert (coverage, accuracy) == (expected[0], None if expected[1] is None else pytest.approx(expected[1]))


@pytest.mark.parametrize(
    ("confidence", "right", "expected"),
    [
        pytest.param([0.95, 0.9, 0.6, 0.5], [1, 1, 0, 0], 0.9, id="errors start below 0.9"),
        pytest.param([0.6, 0.95, 0.5, 0.9], [0, 1, 0, 1], 0.9, id="whatever the order"),
        pytest.param([0.98, 0.95, 0.9, 0.6, 0.5, 0.4], [1, 0, 1, 0, 0, 0], 0.9, id="the lowest of several, past early errors"),
        pytest.param([0.95, 0.9, 0.8, 0.75], [1, 1, 0, 0], 0.95, id="not below what the probabilities promise"),
        pytest.param([0.9, 0.6], [1, 1], 0, id="no error to halve"),
        pytest.param([0.9, 0.6], [0, 0], 0, id="nothing but errors"),
        pytest.param([0.9, 0.9, 0.9, 0.9], [1, 1, 0, 0], 0, id="equal answers cannot be told apart"),
        pytest.param([0.95, 0.6, 0.6, 0.5], [1, 1, 0, 0], 0.95, id="equal answers are kept or refused together"),
        pytest.param([0.99999, 0.99998, 0.5, 0.4], [1, 1, 0, 0], 0.9999, id="never rounded up past the answers it keeps"),
    ],
)
def test_threshold_is_the_one_found_by_hand(confidence: list[float], right: list[int], expected: float) -> None:
    """Each answer stands for forty."""
    assert choose_threshold(np.repeat(confidence, 40), np.repeat(right, 40).astype(bool)) == expected


def test_no_threshold_is_chosen_where_few_answers_give_one_by_chance_and_the_reason_is_told() -> None:
    random = np.random.default_rng(0)
    found = [choose_threshold(random.uniform(0.3, 1, n), random.random(n) < 0.6) for n in (20, 50, 150, 500) for _ in range(50)]

    assert np.mean(np.array(found) > 0) < 0.04  # four in five, were the half that errs less often taken as it comes
    logits, targets = drawn(20, 3, random)
    errors = int((logits.argmax(1) != targets).sum())
    assert calibration.choose(logits, targets).threshold_reason.startswith(f"{errors} errors in 20 held-out images do not show")
    assert calibration.choose(logits, logits.argmax(1)).threshold_reason.startswith("all 20 held-out images were answered right")


def test_a_threshold_that_is_chosen_halves_the_errors_among_others_too() -> None:
    random = np.random.default_rng(0)
    others, labels = drawn(20_000, 10, random)
    confidence, right = softmax(others).max(1), others.argmax(1) == labels

    left = []
    for _ in range(60):
        logits, targets = drawn(150, 10, random)
        if chosen := calibration.choose_threshold(softmax(logits).max(1), logits.argmax(1) == targets):
            left.append((~right[confidence >= chosen]).mean() / (~right).mean())

    assert len(left) > 50
    assert np.quantile(left, 0.95) < 0.57  # 0.65, were it chosen by the images alone


@pytest.mark.parametrize("decimals", [1, 2, 6])
@pytest.mark.parametrize("seed", range(5))
def test_answers_at_or_above_the_threshold_err_at_most_half_as_often(seed: int, decimals: int) -> None:
    random = np.random.default_rng(seed)
    confidence = random.uniform(0.3, 1, 400).round(decimals)
    right = random.uniform(size=400) < confidence

    kept = confidence >= choose_threshold(confidence, right)

    assert 0 < kept.sum() < 400
    assert (~right[kept]).mean() <= (~right).mean() / 2
