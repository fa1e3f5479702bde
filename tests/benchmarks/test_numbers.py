"""Percentiles, spreads and rates."""

import math

import pytest

from benchmarks.numbers import Spread, percentile, rate_of, spread_of


def test_a_percentile_is_a_value_that_was_seen() -> None:
    values = [float(i) for i in range(1, 101)]
    assert percentile(values, 50) == 50
    assert percentile(values, 99) == 99
    assert percentile([7.0], 99) == 7
    assert math.isnan(percentile([], 50))


def test_a_spread_is_the_median_with_the_least_and_the_most() -> None:
    assert spread_of([3, 1, 2, 10]) == Spread(2.5, 1, 10, 4)
    assert spread_of([]) is None


@pytest.mark.parametrize("offset", [0, 3, 9])
def test_a_rate_does_not_depend_on_where_in_a_burst_the_clock_started(offset: int) -> None:
    bursts = [second / 2 for second in range(12) for _ in range(10)]  # ten answers at once, twice a second
    assert rate_of(bursts[offset : len(bursts) - 4]) == pytest.approx(20, rel=0.06)


def test_the_rate_of_even_answers_is_exact() -> None:
    assert rate_of([i / 50 for i in range(100)]) == pytest.approx(50)


def test_too_few_answers_have_no_rate() -> None:
    assert rate_of([]) == rate_of([1.0, 2.0]) == rate_of([1.0, 1.0, 1.0]) == 0
