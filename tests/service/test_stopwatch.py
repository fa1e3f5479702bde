"""Time in which this process stood still is nobody's hang."""

import pytest

from service.stopwatch import Awake, Patience, step_of


class Clock:
    def __init__(self) -> None:
        self.now = 5.0

    def __call__(self) -> float:
        return self.now


def wait(patience: Patience, clock: Clock, steps: int, seconds: float) -> float:
    for _ in range(steps):
        clock.now += seconds
        patience.seconds()
    return patience.seconds()


def test_silence_adds_up_until_there_is_a_sign_of_life() -> None:
    clock = Clock()
    patience = Patience(1.0, clock)
    assert wait(patience, clock, 12, 1.0) == 12
    patience.restart()
    assert wait(patience, clock, 3, 1.5) == 4.5


@pytest.mark.parametrize("stood", [2.5, 30.0, 1e6])
def test_a_standstill_gives_all_its_time_once_more_but_once_alone(stood: float) -> None:
    clock = Clock()
    patience = Patience(1.0, clock)
    assert wait(patience, clock, 9, 1.0) == 9
    assert wait(patience, clock, 1, stood) == 0
    assert wait(patience, clock, 9, 1.0) == 9
    assert wait(patience, clock, 1, stood) == 11  # a step of two seconds at most
    patience.restart()
    assert wait(patience, clock, 1, stood) == 0


def test_a_process_that_hardly_runs_still_finds_what_hangs() -> None:
    clock = Clock()
    patience = Patience(1.0, clock)
    assert wait(patience, clock, 12, 7.0) >= 20


def test_the_clock_of_a_process_goes_on_only_while_that_runs() -> None:
    clock = Clock()
    awake = Awake(5.0, clock)
    clock.now += 4
    assert awake.now() == 4
    clock.now += 3600
    assert awake.now() == 9


@pytest.mark.parametrize(("limit", "step"), [(20.0, 1.0), (1.0, 0.25), (0.5, 0.125)])
def test_one_looks_often_enough(limit: float, step: float) -> None:
    assert step_of(limit) == step
