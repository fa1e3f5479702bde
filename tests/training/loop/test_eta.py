"""training/loop/eta.py: the time that is left, in words."""

import time

import pytest

from training.loop.eta import Pace, spoken


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (119, "119 s"),
        (120, "2 min"),
        (3599, "60 min"),
        (7140, "119 min"),
        (7200, "2 h 0 min"),
        (9000, "2 h 30 min"),
    ],
)
def test_a_duration_is_told_in_words_that_fit_its_length(seconds: float, words: str) -> None:
    assert spoken(seconds) == words


@pytest.mark.parametrize(
    ("first", "done", "passed", "words"),
    [
        pytest.param(0, 2, 20, "about 80 s left", id="whole epochs"),
        pytest.param(0, 0.5, 10, "about 3 min left", id="half of the first epoch"),
        pytest.param(4, 6.5, 25, "about 35 s left", id="a run that was resumed after four of ten epochs"),
        pytest.param(0, 10, 100, "about 0 s left", id="the end"),
        pytest.param(3, 3, 5, "", id="nothing done yet"),
    ],
)
def test_the_time_left_is_that_of_an_epoch_so_far_times_the_epochs_left(
    first: int, done: float, passed: float, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    pace = Pace(first, 10)
    now += passed

    assert pace.left(done) == words
