"""training/evaluation/infill.py: what is taken out is filled as its equations say, and nothing else changes."""

import numpy as np
import pytest

from training.evaluation import infill
from training.evaluation.infill import Infill

RANDOM = np.random.default_rng(0)


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(infill, "NOISE", 0.0)


def test_each_pixel_is_the_weighted_mean_of_its_neighbours(quiet: None) -> None:
    image = np.random.default_rng(1).integers(0, 256, (12, 9, 3)).astype(np.uint8)
    taken = np.random.default_rng(2).random((12, 9)) < 0.5
    filled = Infill(taken).fill(image, RANDOM)
    assert (filled[~taken] == image[~taken]).all()
    for y, x in np.argwhere(taken):
        around = [
            (2 if 0 in (dy, dx) else 1, filled[y + dy, x + dx].astype(float))
            for dy in (-1, 0, 1)
            for dx in (-1, 0, 1)
            if (dy, dx) != (0, 0) and 0 <= y + dy < 12 and 0 <= x + dx < 9
        ]
        mean = sum(weight * value for weight, value in around) / sum(weight for weight, _ in around)
        np.testing.assert_allclose(filled[y, x], mean, atol=1.1)  # all are rounded


def test_an_even_image_stays_as_it_is(quiet: None) -> None:
    taken = np.zeros((20, 30), np.bool_)
    taken[:, 3:] = True
    image = np.full((20, 30, 3), (10, 200, 77), np.uint8)
    assert (Infill(taken).fill(image, RANDOM) == image).all()


def test_a_ramp_is_bridged(quiet: None) -> None:
    ramp = np.broadcast_to(np.arange(0, 200, 5).astype(np.uint8)[:, None], (40, 40))
    image = np.repeat(ramp[..., None], 3, axis=2)
    taken = np.zeros((40, 40), np.bool_)
    taken[10:30, 10:30] = True
    holes = image.copy()
    holes[taken] = 0
    assert np.abs(Infill(taken).fill(holes, RANDOM).astype(int) - image).max() <= 1


def test_the_noise_is_small_and_no_hole_is_smooth() -> None:
    taken = np.zeros((40, 40), np.bool_)
    taken[5:35, 5:35] = True
    filled = Infill(taken).fill(np.full((40, 40, 3), 128, np.uint8), RANDOM)
    assert filled[taken].std() == pytest.approx(infill.NOISE, rel=0.1)
