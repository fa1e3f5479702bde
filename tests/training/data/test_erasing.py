"""training/data/erasing.py: what is hidden of an image, and how often."""

import numpy as np
import pytest
import torch

from tests.training.factories import make_images
from training.data import erasing


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_cutout_paints_one_grey_square_that_may_reach_over_the_edge() -> None:
    images = make_images([100, 100], height=8, width=8)
    images.pixels[:][images.pixels[:] == 127] = 126

    painted = erasing.cutout(images.pixels[:], 3, generator())

    grey = (painted == 127).all(axis=3)
    np.testing.assert_array_equal(painted[~grey], images.pixels[~grey])
    spans: tuple[set[tuple[int, int]], ...] = (set(), set())
    for square in grey:
        rows, columns = square.any(axis=1).nonzero()[0], square.any(axis=0).nonzero()[0]
        assert square.sum() == len(rows) * len(columns)
        for span, line in zip(spans, (rows, columns), strict=True):
            span.add((int(line[0]), int(line[-1])))
    inside = {(first, first + 2) for first in range(6)}
    assert spans[0] == spans[1] == inside | {(0, 0), (0, 1), (6, 7), (7, 7)}


def test_cutout_reaches_every_pixel() -> None:
    painted = erasing.cutout(make_images([400, 400], height=8, width=8).pixels[:], 3, generator())

    assert (painted == 127).all(axis=3).any(axis=0).all()


def test_erasing_fills_one_box_of_an_image_with_noise() -> None:
    plain = np.full((300, 30, 40, 3), 255, np.uint8)
    plain[::2] = 0

    erased = erasing.erase(plain, 1, generator())

    areas: list[float] = []
    for before, after in zip(plain, erased, strict=True):
        changed = (before != after).any(axis=2)
        rows, columns = changed.any(axis=1).nonzero()[0], changed.any(axis=0).nonzero()[0]
        box = after[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        areas.append(box.shape[0] * box.shape[1] / 1200)
        assert changed.sum() >= 0.95 * box.shape[0] * box.shape[1]  # noise may show the colour that was there
        if box.size > 600:
            assert box.mean() == pytest.approx(127.5, abs=20)
    assert 0.01 < min(areas) < 0.04
    assert 0.36 < max(areas) < 0.42
    assert np.mean(areas) == pytest.approx(0.21, abs=0.03)


@pytest.mark.parametrize("share", [0, 0.3, 1])
def test_erasing_changes_the_share_of_the_images(share: float) -> None:
    images = make_images([500, 500])

    changed = (erasing.erase(images.pixels[:], share, generator()) != images.pixels[:]).any(axis=(1, 2, 3)).mean()

    assert changed == pytest.approx(share, abs=0.05)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 6), (6, 1)])
def test_images_of_one_pixel_can_be_hidden(height: int, width: int) -> None:
    pixels = make_images([4], height=height, width=width).pixels[:]

    assert erasing.erase(pixels, 1, generator()).shape == pixels.shape
    assert (erasing.cutout(pixels, 20, generator()) == 127).any()


def test_the_images_given_stay_as_they_are() -> None:
    images = make_images([20])

    erasing.cutout(images.pixels[:], 3, generator())
    erasing.erase(images.pixels[:], 1, generator())

    np.testing.assert_array_equal(images.pixels, make_images([20]).pixels)
