"""training/loop/schedule.py: the rate and the momentum of every step, by schedule."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from tests.training.factories import make_recipe
from training.loop.schedule import momentum_at, rate_at

SCHEDULES = ("linear", "steps", "cosine", "onecycle", "constant")


@pytest.mark.parametrize("warmup_share", [0, 0.15, 0.5, 0.9])
def test_the_rate_rises_to_its_peak_and_falls_to_almost_nothing(warmup_share: float) -> None:
    recipe = make_recipe(learning_rate=0.3, warmup_share=warmup_share)

    rates = [rate_at(step, 200, recipe) for step in range(200)]

    peak = int(np.argmax(rates))
    assert peak == max(0, 200 * warmup_share - 1)
    assert rates[peak] == pytest.approx(0.3)
    assert (np.diff(rates[: peak + 1]) > 0).all()
    assert (np.diff(rates[peak + 1 :]) < 0).all()
    assert 0 < rates[-1] <= 0.3 / 20


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("warmup_share", [0, 0.15, 0.99])
@pytest.mark.parametrize("steps", [1, 2, 3, 7])
def test_the_rate_of_a_short_run_stays_above_nothing_and_comes_near_its_peak(
    steps: int, warmup_share: float, schedule: str
) -> None:
    recipe = make_recipe(learning_rate=0.3, warmup_share=warmup_share, schedule=schedule, steps=[0.9])

    rates = [rate_at(step, steps, recipe) for step in range(steps)]

    assert min(rates) > 0
    assert max(rates) == pytest.approx(0.3, rel=0.1 if schedule == "onecycle" else 1e-6)


@pytest.mark.parametrize("schedule", sorted(set(SCHEDULES) - {"onecycle"}))
def test_the_rate_rises_along_the_same_line_whatever_comes_after(schedule: str) -> None:
    recipe = make_recipe(learning_rate=0.3, warmup_share=0.2, schedule=schedule)

    assert [rate_at(step, 50, recipe) for step in range(10)] == pytest.approx(np.linspace(0.03, 0.3, 10).tolist())


def test_a_constant_rate_stays_at_its_peak_to_the_end() -> None:
    recipe = make_recipe(learning_rate=0.3, warmup_share=0.0, schedule="constant")

    assert {rate_at(step, 50, recipe) for step in range(50)} == {0.3}


def test_the_rate_drops_at_the_shares_of_the_run_that_the_recipe_names() -> None:
    """He et al. 2015, section 4.2: 0.1, divided by 10 at 32 and 48 of 64 thousand steps."""
    recipe = make_recipe(learning_rate=0.1, warmup_share=0.0, schedule="steps")

    rates = [rate_at(step, 64, recipe) for step in range(64)]

    assert rates == pytest.approx([0.1] * 32 + [0.01] * 16 + [0.001] * 16)


def test_the_drops_are_as_many_and_as_deep_as_the_recipe_says() -> None:
    recipe = make_recipe(learning_rate=0.8, warmup_share=0.0, schedule="steps", steps=[0.25, 0.5, 0.75], step_factor=0.5)

    assert [rate_at(step, 4, recipe) for step in range(4)] == pytest.approx([0.8, 0.4, 0.2, 0.1])


def test_a_cosine_is_slow_at_both_ends_and_half_way_in_the_middle() -> None:
    recipe = make_recipe(learning_rate=0.3, warmup_share=0.2, schedule="cosine")

    rates = [rate_at(step, 100, recipe) for step in range(20, 100)]

    assert rates == pytest.approx([0.15 * (1 + math.cos(math.pi * step / 80)) for step in range(80)])
    assert rates[40] == pytest.approx(0.15)


@pytest.mark.parametrize(("steps", "warmup_share"), [(100, 0.3), (37, 0.15), (8, 0.5)])
@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
def test_one_cycle_is_that_of_torch(steps: int, warmup_share: float) -> None:
    recipe = make_recipe(learning_rate=0.4, momentum=0.95, warmup_share=warmup_share, schedule="onecycle")
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), 0.1, 0.9)
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 0.4, total_steps=steps, pct_start=warmup_share, base_momentum=0.85, max_momentum=0.95
    )

    for step in range(steps):
        expected = optimizer.param_groups[0]
        assert rate_at(step, steps, recipe) == pytest.approx(expected["lr"])
        assert momentum_at(step, steps, recipe) == pytest.approx(expected["momentum"])
        if step < steps - 1:
            optimizer.step()
            cycle.step()


@pytest.mark.parametrize("schedule", sorted(set(SCHEDULES) - {"onecycle"}))
def test_momentum_stays_as_it_is_but_in_one_cycle(schedule: str) -> None:
    recipe = make_recipe(momentum=0.8, schedule=schedule)

    assert {momentum_at(step, 20, recipe) for step in range(20)} == {0.8}


def test_the_schedules_differ() -> None:
    recipes = [make_recipe(schedule=schedule) for schedule in SCHEDULES]

    curves = [[rate_at(step, 40, recipe) for step in range(40)] for recipe in recipes]

    for one, other in itertools.combinations(curves, 2):
        assert one != pytest.approx(other)
