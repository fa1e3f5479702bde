"""models/package/statistics.py: intervals and tests against their textbook values, SciPy's, and what chance does."""

import itertools

import numpy as np
import pytest
from scipy.stats import binomtest

from models.package import statistics


@pytest.mark.parametrize(("k", "n"), [(0, 0), (0, 5), (3, 17), (40, 100), (480, 999), (480, 1000), (24_700, 50_000)])
def test_the_binomial_tail_is_exact(k: int, n: int) -> None:
    expected = binomtest(k, n, 0.5, alternative="less").pvalue if n else 1.0
    assert statistics.binomial_tail(k, n) == pytest.approx(expected, rel=1e-6)


def test_a_binomial_tail_too_small_for_a_float_is_zero() -> None:
    assert statistics.binomial_tail(0, 5000) == 0


@pytest.mark.parametrize(("worse", "better"), [(0, 0), (9, 2), (2, 9), (30, 30), (600, 450)])
def test_mcnemars_test_is_the_two_sided_binomial_one(worse: int, better: int) -> None:
    expected = binomtest(worse, worse + better, 0.5).pvalue if worse + better else 1.0
    assert statistics.mcnemar(worse, better) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("count", "n", "interval"),  # the values of Newcombe 1998, Stat. Med. 17, 857, table I, method 3
    [(81, 263, (0.2553, 0.3662)), (15, 148, (0.0624, 0.1605)), (0, 20, (0.0, 0.1611)), (1, 29, (0.0061, 0.1718))],
)
def test_wilsons_interval_is_the_textbook_one(count: int, n: int, interval: tuple[float, float]) -> None:
    assert statistics.wilson(count / n, n) == pytest.approx(interval, abs=1e-4)


@pytest.mark.parametrize("z", [statistics.Z, 3])
def test_wilsons_interval_of_none_begins_at_0_and_of_all_ends_at_1(z: float) -> None:
    assert {statistics.wilson(0, n, z)[0] for n in range(1, 200)} == {0}
    assert {statistics.wilson(1, n, z)[1] for n in range(1, 200)} == {1}


@pytest.mark.parametrize(("count", "n"), [(0, 10), (3, 10), (10, 10), (50, 1000)])
def test_an_interval_holds_the_share_and_is_narrower_with_less_certainty(count: int, n: int) -> None:
    lower, upper = statistics.wilson(count / n, n, 3)
    narrow = statistics.wilson(count / n, n, 1)
    points = [0, lower, narrow[0], count / n, narrow[1], upper, 1]
    assert all(before <= after + 1e-9 for before, after in itertools.pairwise(points))


@pytest.mark.parametrize(("count", "n"), [(0, 7), (1, 3), (700, 999)])
def test_without_certainty_intervals_are_what_was_counted(count: int, n: int) -> None:
    assert statistics.wilson(count / n, n, 0) == (count / n, count / n)
    assert statistics.newcombe(0.25, 4, count / n, n, 0) == (count / n - 0.25, count / n - 0.25)


def test_newcombes_interval_is_the_textbook_one() -> None:
    found = statistics.newcombe(48 / 80, 80, 56 / 70, 70)  # Newcombe 1998, table II, the first example turned round
    assert found == pytest.approx((0.0524, 0.3339), abs=1e-4)


def test_newcombes_interval_turns_round_with_its_shares() -> None:
    low, high = statistics.newcombe(0.6, 80, 0.8, 70)
    assert statistics.newcombe(0.8, 70, 0.6, 80) == pytest.approx((-high, -low))


def test_agresti_and_mins_interval_is_walds_of_half_a_trial_more_in_each_cell() -> None:
    assert statistics.agresti_min(40, 20, 1000) == pytest.approx((-0.03519, -0.00473), abs=1e-5)
    assert statistics.agresti_min(1, 0, 1)[0] == -1


@pytest.mark.parametrize("n", [40, 400])
def test_agresti_and_mins_interval_holds_the_truth_as_often_as_it_says(n: int) -> None:
    random, held = np.random.default_rng(n), 0
    for _ in range(600):
        _, worse, better, _ = random.multinomial(n, [0.85, 0.06, 0.03, 0.06])
        low, high = statistics.agresti_min(int(worse), int(better), n)
        held += low <= -0.03 <= high
    assert 0.93 <= held / 600 <= 0.99


@pytest.mark.parametrize(("share", "n", "variance"), [(0.5, 96, 0.0025), (1.0, 6, 0.8 * 0.2 / 10), (0.0, 6, 0.8 * 0.2 / 10)])
def test_the_variance_of_a_share_is_that_with_two_successes_and_two_failures_more(share: float, n: int, variance: float) -> None:
    assert statistics.agresti_coull_variance(share, n) == pytest.approx(variance)
