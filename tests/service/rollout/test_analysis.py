"""When a candidate is stopped, promoted, or watched longer."""

from datetime import UTC, datetime

import msgspec
import numpy as np
import pytest

from models.lifecycle.candidate import LATENCY_BOUNDS, Bounds, Candidate, Progress, Tally
from service.rollout.analysis import analyse, rise

STARTED = datetime(2026, 1, 2, tzinfo=UTC)
FAST, SLOW = 40, 50  # bins; 2.6 times as slow


def tally(requests: int, errors: int = 0, unsure: int = 0, bin: int = FAST) -> Tally:
    answered = requests - errors
    latency = [0] * (len(LATENCY_BOUNDS) + 1)
    latency[bin] = answered
    return Tally(requests, errors, answered, unsure, 0.9 * answered, latency)


def progress(new: Tally, old: Tally, compared: int = 100, agreed: int = 100, incomparable: int = 0) -> Progress:
    return Progress(2, STARTED, old, new, compared, agreed, incomparable)


def candidate(requests: int = 500) -> Candidate:
    return Candidate(2, "canary", requests, 10, started=STARTED)


def test_nothing_seen_is_no_verdict() -> None:
    assert analyse(Progress(2, STARTED), candidate()) is None


def test_all_requests_without_loss_promote() -> None:
    decision = analyse(progress(tally(500), tally(4500)), candidate())
    assert decision is not None
    assert decision.promoted
    assert decision.reason == "no loss in 500 requests, 100.0% of 100 images got the same class"


@pytest.mark.parametrize(
    ("seen", "why"),
    [
        (progress(tally(499), tally(4500)), "one request is missing"),
        (progress(tally(500), tally(4500), compared=49, agreed=49), "too few images were compared"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_not_complete_is_watched_longer(seen: Progress, why: str) -> None:
    assert analyse(seen, candidate()) is None


def test_a_candidate_that_agrees_always_does_not_pass_a_bound_of_0() -> None:
    strict = msgspec.structs.replace(candidate(), bounds=Bounds(disagreement=0))
    for compared in range(1, 100):
        assert analyse(progress(tally(100), tally(900), compared=compared, agreed=compared), strict) is None


def test_versions_without_a_class_in_common_are_judged_by_the_rest() -> None:
    decision = analyse(progress(tally(500), tally(4500), compared=0, agreed=0, incomparable=60), candidate())
    assert decision is not None
    assert decision.promoted


@pytest.mark.parametrize(
    ("seen", "cause"),
    [
        (progress(tally(3, errors=3), tally(30)), "errors: 3 of 3 requests failed, 0 of 30 by the live version"),
        (progress(tally(100, errors=15), tally(900)), "errors: 15 of 100"),
        (progress(tally(40), tally(400), compared=20, agreed=8), "disagreement: 12 of 20 images got another class"),
        (progress(tally(100, unsure=40), tally(900, unsure=45)), "unsure: 40.0% of the answers, 5.0% by"),
        (progress(tally(200, bin=SLOW), tally(900)), "latency: the 95th percentile is 58.7 ms, 22.6 ms by"),
    ],
    ids=["all fail", "some fail", "disagrees", "unsure", "slow"],
)
def test_a_bound_that_is_surely_passed_stops_it_long_before_its_requests_are_complete(seen: Progress, cause: str) -> None:
    decision = analyse(seen, candidate(requests=100_000))
    assert decision is not None
    assert not decision.promoted
    assert decision.reason.startswith(cause)


@pytest.mark.parametrize(
    "seen",
    [
        progress(tally(30, errors=1), tally(300)),
        progress(tally(40), tally(400), compared=20, agreed=15),
        progress(tally(20, unsure=3), tally(900, unsure=45)),
        progress(tally(15, bin=SLOW), tally(900)),
        progress(tally(2, errors=2), Tally()),
    ],
    ids=["one error", "few disagreements", "few unsure", "few slow", "nothing to compare with"],
)
def test_what_may_be_chance_is_watched_longer(seen: Progress) -> None:
    assert analyse(seen, candidate(requests=100_000)) is None


@pytest.mark.parametrize(
    ("seen", "cause"),
    [
        (progress(tally(500, errors=8), tally(4500)), "errors: "),
        (progress(tally(500), tally(4500), agreed=89), "disagreement: "),
        (progress(tally(500, unsure=60), tally(4500, unsure=225)), "unsure: "),
        (progress(tally(500, bin=FAST + 6), tally(4500)), "latency: "),
    ],
)
def test_at_the_end_a_bound_that_is_passed_at_all_stops_it(seen: Progress, cause: str) -> None:
    decision = analyse(seen, candidate())
    assert decision is not None
    assert not decision.promoted
    assert decision.reason.startswith(cause)


def test_a_few_milliseconds_are_no_loss() -> None:
    decision = analyse(progress(tally(500, bin=20), tally(4500, bin=5)), candidate())  # 3.4 ms instead of 0.8 ms
    assert decision is not None
    assert decision.promoted


def test_a_good_candidate_is_hardly_ever_stopped_by_chance_and_a_bad_one_soon() -> None:
    random = np.random.default_rng(0)
    stopped, seen_of_bad = 0, list[int]()
    for _ in range(40):
        good, bad = (walk(random, share) for share in (0.01, 0.10))
        stopped += good < 2000
        seen_of_bad.append(bad)
    assert stopped <= 1
    assert np.median(seen_of_bad) < 200


def walk(random: np.random.Generator, errors: float) -> int:
    """Requests after which a candidate that fails so often is stopped, looked at after every ten; 2,000: never."""
    failed = 0
    for seen in range(10, 2001, 10):
        failed += int(random.binomial(10, errors))
        if analyse(progress(tally(seen, errors=failed), tally(9 * seen, errors=seen // 11)), candidate(100_000)):
            return seen
    return 2000


def test_a_rise_without_certainty_is_the_difference() -> None:
    assert rise(5, 10, 1, 10, 0) == pytest.approx(0.4)
    assert 0 < rise(50, 100, 10, 100, 3) < 0.4
    assert rise(1, 1, 0, 0, 3) == 0
