"""models/probability.py: logits and temperature become probabilities, one image or many."""

import math

import numpy as np
import pytest

from models.probability import softmax


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
