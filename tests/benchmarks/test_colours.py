"""benchmarks/colours.py writes what other colour spaces would: greys stay as they are, colours become paler numbers."""

import numpy as np
import pytest

from benchmarks.colours import written_in

GREYS = np.repeat(np.arange(0, 256, 5, dtype=np.uint8), 3).reshape(1, -1, 3)
COLOURS = np.array([[[255, 0, 0], [0, 255, 0], [200, 40, 40], [30, 160, 60]]], np.uint8)


def test_srgb_is_written_as_it_is() -> None:
    assert written_in("sRGB", COLOURS) is COLOURS


@pytest.mark.parametrize(("space", "red"), [("Display P3", (234, 51, 35)), ("Adobe RGB", (219, 0, 0))])
def test_pure_red_becomes_the_known_numbers(space: str, red: tuple[int, int, int]) -> None:
    assert written_in(space, COLOURS)[0, 0] == pytest.approx(red, abs=1)


@pytest.mark.parametrize("space", ["Display P3", "Adobe RGB"])
def test_greys_keep_no_colour_and_colours_lose_some(space: str) -> None:
    greys, colours = written_in(space, GREYS), written_in(space, COLOURS)
    assert np.ptp(greys, axis=2).max() <= 1
    assert (np.ptp(colours, axis=2) < np.ptp(COLOURS, axis=2)).all()
