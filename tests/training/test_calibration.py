"""training/calibration.py: temperature, calibration error and the "unsure" threshold."""

import numpy as np
import pytest

from models.probability import softmax
from training.calibration import Bin, calibration_error, choose_threshold, fit_temperature, kept_at, reliability


@pytest.mark.parametrize("true", [0.5, 1.0, 2.5])
def test_fitting_finds_the_temperature_that_the_targets_were_drawn_with(true: float) -> None:
    random = np.random.default_rng(2)
    logits = random.normal(0, 3, (4000, 5))
    cumulated = softmax(logits, true).cumsum(axis=1)
    targets = (random.uniform(size=(4000, 1)) > cumulated).sum(axis=1)

    assert fit_temperature(logits, targets) == pytest.approx(true, rel=0.08)


def test_fitting_stays_finite_when_every_answer_is_right() -> None:
    logits = 50 * np.eye(3)

    assert 0 < fit_temperature(logits, np.arange(3)) < 50


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


def test_calibration_error_has_15_bins_unless_told_otherwise() -> None:
    confidence, right = np.array([0.64, 0.68]), np.array([True, False])  # two of 15 bins, one of 10 or 16

    assert calibration_error(confidence, right) == pytest.approx((0.36 + 0.68) / 2)


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
        pytest.param([0.9, 0.8, 0.7, 0.6], [1, 1, 0, 0], 0.8, id="errors start below 0.8"),
        pytest.param([0.7, 0.9, 0.6, 0.8], [0, 1, 0, 1], 0.8, id="whatever the order"),
        pytest.param([0.9, 0.8, 0.7, 0.6, 0.5, 0.4], [0, 1, 1, 1, 0, 0], 0.6, id="the lowest of several, past an early error"),
        pytest.param([0.9, 0.8], [1, 1], 0, id="no error to halve"),
        pytest.param([0.9, 0.8], [0, 0], 0, id="nothing but errors"),
        pytest.param([0.9, 0.9, 0.9, 0.9], [1, 1, 0, 0], 0, id="equal answers cannot be told apart"),
        pytest.param([0.9, 0.8, 0.8, 0.7], [1, 1, 0, 0], 0.9, id="equal answers are kept or refused together"),
        pytest.param([0.99999, 0.99998, 0.5, 0.4], [1, 1, 0, 0], 0.9999, id="never rounded up past the answers it keeps"),
    ],
)
def test_threshold_is_the_one_found_by_hand(confidence: list[float], right: list[int], expected: float) -> None:
    assert choose_threshold(np.array(confidence), np.array(right, bool)) == expected


@pytest.mark.parametrize("decimals", [1, 2, 6])
@pytest.mark.parametrize("seed", range(5))
def test_answers_at_or_above_the_threshold_err_at_most_half_as_often(seed: int, decimals: int) -> None:
    random = np.random.default_rng(seed)
    confidence = random.uniform(0.3, 1, 400).round(decimals)
    right = random.uniform(size=400) < confidence

    kept = confidence >= choose_threshold(confidence, right)

    assert 0 < kept.sum() < 400
    assert (~right[kept]).mean() <= (~right).mean() / 2
