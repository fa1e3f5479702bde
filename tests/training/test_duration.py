"""training/duration.py: lengths of time as people say them."""

import pytest

from training import duration


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0.4, "0 s"), (119, "119 s"), (150, "2 min"), (7000, "117 min"), (9000, "2.5 h")]
)
def test_durations_are_for_people(seconds: float, expected: str) -> None:
    assert duration.words(seconds) == expected


@pytest.mark.parametrize(
    ("done", "total", "expected"), [(1, 4, "about 60 s left"), (3, 4, "about 7 s left"), (4, 4, ""), (0, 4, ""), (5, 4, "")]
)
def test_what_remains_takes_as_long_as_what_was_done(done: int, total: int, expected: str) -> None:
    assert duration.left(20, done, total) == expected
