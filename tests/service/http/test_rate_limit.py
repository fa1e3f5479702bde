"""Limits: what a token bucket lets in over any time, how exactly it says when there is room, and what a request counts."""

import math
import sys
from itertools import pairwise
from random import Random

import pytest

from service.errors import RateLimited, TooManyImages
from service.http.rate_limit import Quota, RateLimit, TokenBucket

MILLISECOND = 0.001
NOW = 1_000_000.0
BUCKETS = [(50.0, 50), (13.0, 13), (10 / 60, 10), (1000 / 300, 1000), (3 / 86_400, 3), (0.1, 1), (1e15, 10**15)]


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def quota(clock: Clock, limit: RateLimit) -> Quota:
    return Quota("web", limit, f"{limit.amount}/{limit.unit}", limit.bucket(), clock)


def ten_a_minute(clock: Clock) -> Quota:
    return quota(clock, RateLimit(10, 1, "minute"))


def allowed(asked: Quota, images: int = 1) -> bool:
    try:
        asked.charge(images)
    except RateLimited:
        return False
    return True


# --- the bucket


def greedy(bucket: TokenBucket, random: Random, steps: int = 1000) -> list[tuple[float, int]]:
    """When how many tokens were taken by one who asks at odd times for odd numbers."""
    now, taken = NOW, list[tuple[float, int]]()
    for _ in range(steps):
        now += random.choice([0.0, 0.0, random.expovariate(bucket.rate), random.expovariate(bucket.rate / bucket.capacity)])
        n = random.choice([1, random.randint(1, min(bucket.capacity, 100))])
        if bucket.take(n, now) == 0.0:
            taken.append((now, n))
    return taken


@pytest.mark.parametrize(("rate", "capacity"), BUCKETS[:-1])
@pytest.mark.parametrize("seed", range(5))
def test_over_any_time_no_more_is_let_in_than_the_capacity_and_what_came_back(rate: float, capacity: int, seed: int) -> None:
    taken = greedy(TokenBucket(rate, capacity), Random(seed))
    assert len(taken) > 50
    for i, (began, _) in enumerate(taken):
        total = 0
        for now, n in taken[i:]:
            total += n
            assert total <= (capacity + rate * (now - began)) * (1 + 1e-9)


@pytest.mark.parametrize(("rate", "capacity"), BUCKETS)
@pytest.mark.parametrize("seed", range(5))
def test_at_the_time_that_is_told_there_is_room_and_sooner_there_is_none(rate: float, capacity: int, seed: int) -> None:
    bucket, random, now, waits = TokenBucket(rate, capacity), Random(seed), random_start(seed), 0
    for _ in range(200):
        n = random.randint(1, capacity)
        seconds = bucket.take(n, now)
        if seconds > 0.0:
            waits += 1
            assert bucket.wait(n, now + seconds * random.random() * 0.99) > 0.0
            assert seconds <= MILLISECOND or bucket.take(n, now + seconds - MILLISECOND) > 0.0
            now += seconds
            assert bucket.take(n, now) == 0.0
        now += random.choice([0.0, random.expovariate(rate)])
    assert waits > 20


def random_start(seed: int) -> float:
    """A machine that just started, and ones that have run for long."""
    return [0.0, 0.3, 17.7, 1e4 / 3, 1e7 / 3][seed]


def test_a_bucket_is_full_at_first_and_the_wait_for_one_token_is_that_of_the_rate() -> None:
    bucket = TokenBucket(4.0, 3)
    assert [bucket.take(1, NOW) for _ in range(4)] == [0.0, 0.0, 0.0, 0.25]
    assert [bucket.take(1, NOW + 0.25) for _ in range(2)] == [0.0, 0.25]
    assert bucket.take(3, NOW + 0.25) == 0.75
    assert bucket.take(3, NOW + 1.0) == 0.0


def test_after_the_burst_tokens_come_evenly() -> None:
    bucket = TokenBucket(8.0, 8)
    times = [tick / 64 for tick in range(64 * 4) if bucket.take(1, NOW + tick / 64) == 0.0]
    assert {round(later - earlier, 9) for earlier, later in pairwise(times[16:])} == {0.125}
    assert sum(time < 1 for time in times) == 8 + 7  # a burst, and what came back


def test_it_never_holds_more_than_its_capacity() -> None:
    bucket = TokenBucket(2.0, 3)
    bucket.take(3, NOW)
    assert [bucket.take(1, NOW + 1e6) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]


def test_more_than_it_holds_never_fit_and_take_nothing() -> None:
    bucket = TokenBucket(2.0, 3)
    assert [bucket.take(4, NOW + later) for later in (0.0, 1e6)] == [math.inf] * 2
    assert bucket.take(3, NOW + 1e6) == 0.0


@pytest.mark.parametrize(("rate", "capacity"), BUCKETS[:-1])
def test_while_the_clock_stands_still_the_capacity_is_let_in_and_the_wait_stays_the_same(rate: float, capacity: int) -> None:
    bucket = TokenBucket(rate, capacity)
    waits = [bucket.take(1, NOW) for _ in range(capacity + 100)]
    assert waits[:capacity] == [0.0] * capacity
    assert set(waits[capacity:]) == {bucket.wait(1, NOW)}
    assert bucket.wait(1, NOW) == pytest.approx(1 / rate, abs=1e-9)


def test_what_is_refused_does_not_put_off_what_comes_after_it() -> None:
    bucket = TokenBucket(1.0, 2)
    bucket.take(2, NOW)
    for tick in range(63):
        assert bucket.take(2, NOW + tick / 32) == 2 - tick / 32
    assert bucket.take(2, NOW + 2) == 0.0


def test_a_bucket_that_is_never_full_again_loses_nothing_and_stays_small() -> None:
    bucket, now, tokens = TokenBucket(10 / 60, 10), NOW, 20_000
    for _ in range(tokens):
        now += bucket.wait(1, now)
        assert bucket.take(1, now) == 0.0
    assert now - NOW == pytest.approx((tokens - 10) * 6.0, abs=1e-6)  # 33 hours
    assert set(vars(bucket)) == {"rate", "capacity", "full", "taken"}
    assert sum(map(sys.getsizeof, vars(bucket).values())) < 200


# --- what a request counts


def test_a_limit_is_kept_and_the_wait_that_is_told_is_enough() -> None:
    asked = ten_a_minute(clock := Clock())
    assert [allowed(asked) for _ in range(11)] == [True] * 10 + [False]
    with pytest.raises(RateLimited, match=r"^the limit of the key web is 10/minute; try again in 6 s, or ask") as caught:
        asked.charge(1)
    assert caught.value.headers() == {"retry-after": str(caught.value.retry_after_seconds)}
    clock.now += caught.value.retry_after_seconds
    assert [allowed(asked), allowed(asked)] == [True, False]


@pytest.mark.parametrize("images", [1, 3, 10])
@pytest.mark.parametrize("start", [0.0, 17.3, 59.9])
@pytest.mark.parametrize("pause", [0.0, 1.5, 31.0, 61.0])
def test_retry_after_is_the_first_whole_second_at_which_there_is_room(images: int, start: float, pause: float) -> None:
    asked = ten_a_minute(clock := Clock())
    clock.now = 60 * 20_000 + start
    assert allowed(asked, 7)
    clock.now += pause
    while allowed(asked):
        pass
    with pytest.raises(RateLimited) as caught:
        asked.charge(images)
    clock.now += caught.value.retry_after_seconds - 1 - MILLISECOND
    assert not allowed(asked, images)
    clock.now += 1 + MILLISECOND
    assert allowed(asked, images)


@pytest.mark.parametrize("amount", [7, 10, 13])
@pytest.mark.parametrize("unit", ["second", "minute", "day"])
def test_the_wait_is_for_the_whole_request_whose_first_image_counts_on_its_head(amount: int, unit: str) -> None:
    for images in range(2, amount + 1):
        asked = quota(clock := Clock(), RateLimit(amount, 1, unit))
        asked.charge(amount - images + 1)
        asked.charge(1)
        with pytest.raises(RateLimited) as caught:
            asked.charge(images, counted=1)
        clock.now += caught.value.retry_after_seconds
        asked.charge(1)
        asked.charge(images, counted=1)


def test_images_count_and_the_first_was_counted_on_the_head() -> None:
    asked = ten_a_minute(Clock())
    asked.charge(1)
    asked.charge(4, counted=1)
    asked.charge(1, counted=1)
    assert [allowed(asked, images) for images in (7, 6, 1)] == [False, True, False]


def test_more_images_than_the_limit_ever_allows_are_told_to_be_too_many_and_not_counted() -> None:
    asked = quota(Clock(), RateLimit(13, 1, "second"))
    with pytest.raises(TooManyImages) as caught:
        asked.charge(14, counted=1)
    ways = "send at most 13 in one request, or ask for a higher limit"
    assert str(caught.value) == f"the request holds 14 images, the limit of the key web is 13/second; {ways}"
    with pytest.raises(TooManyImages, match="the request holds 14 feedbacks, the limit"):
        asked.charge(14, counted=1, what="feedbacks")
    assert [allowed(asked, images) for images in (13, 1)] == [True, False]


@pytest.mark.parametrize(("amount", "workers", "share"), [(50, 4, 13), (1, 64, 1), (10**15 - 1, 2, 5 * 10**14)])
def test_a_share_is_rounded_up_and_says_its_time(amount: int, workers: int, share: int) -> None:
    assert str(RateLimit(amount, 5, "minute").share(workers)) == f"{share} per 5 minute"
