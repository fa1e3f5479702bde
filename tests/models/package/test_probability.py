"""models/package/probability.py: logits and temperature become probabilities, one image or many."""

import math

import numpy as np
import pytest

from models.package.probability import brier, calibration_error, calibration_floor, negative_log_likelihood, softmax


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_probabilities_are_the_softmax_of_logits_divided_by_the_temperature(temperature: float) -> None:
    logits = [1.5, -2.0, 0.25]
    powers = [math.exp(value / temperature) for value in logits]
    expected = [power / sum(powers) for power in powers]
    assert softmax(np.array(logits, np.float32), temperature) == pytest.approx(expected, rel=1e-6)


def test_rows_of_many_images_are_those_of_each_alone() -> None:
    logits = np.random.default_rng(0).normal(0, 20, (50, 10)).astype(np.float32)
    together = softmax(logits, 1.7)
    np.testing.assert_array_equal(together, [softmax(row, 1.7) for row in logits])
    np.testing.assert_allclose(together.sum(axis=1), 1)


def test_logits_beyond_the_range_of_exp_give_finite_probabilities() -> None:
    assert softmax(np.array([[1e4, 0.0], [-1e4, -1e4]])).tolist() == [[1, 0], [0.5, 0.5]]


@pytest.mark.parametrize(("n", "floor"), [(50, 0.08), (500, 0.035), (5000, 0.012)])
def test_the_floor_is_what_perfectly_calibrated_answers_show(n: int, floor: float) -> None:
    random = np.random.default_rng(1)
    confidence = random.beta(8, 2, n)
    mean, high = calibration_floor(confidence)
    shown = [calibration_error(confidence, random.random(n) < confidence) for _ in range(200)]
    assert mean == pytest.approx(np.mean(shown), rel=0.1) == pytest.approx(floor, rel=0.3)
    assert 0.9 <= np.mean(np.array(shown) <= high) <= 0.99
    assert calibration_floor(confidence) == (mean, high)


def test_of_answers_that_are_sure_a_perfect_model_has_no_error() -> None:
    assert calibration_floor(np.ones(40)) == (0, 0)


def test_likelihood_and_brier_score_are_the_textbook_ones() -> None:
    shares, targets = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3]]), np.array([0, 2])
    assert negative_log_likelihood(shares, targets) == pytest.approx(-(math.log(0.7) + math.log(0.3)) / 2)
    assert brier(shares, targets) == pytest.approx((0.3**2 + 0.2**2 + 0.1**2 + 0.1**2 + 0.6**2 + 0.7**2) / 2)
    assert negative_log_likelihood(np.array([[1.0, 0.0]]), np.array([1])) < 30
