"""training/data/geometry.py: pixels are moved, never invented; boxes lie inside and are as large as asked."""

import numpy as np
import pytest
import torch

from tests.training.factories import make_images
from training.data import geometry


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("length", [1, 2, 3, 7])
def test_the_mirror_beyond_an_edge_does_not_repeat_it(length: int) -> None:
    folded = geometry.mirror(np.arange(-3 * length, 4 * length), length)

    np.testing.assert_array_equal(folded, np.pad(np.arange(length), 3 * length, mode="reflect"))


def test_flip_mirrors_about_half_of_the_images_left_to_right() -> None:
    images = make_images([100, 100])

    flipped = geometry.shift(images.pixels[:], 0, True, generator())

    mirrored = (flipped == images.pixels[:, :, ::-1]).all(axis=(1, 2, 3))
    same = (flipped == images.pixels).all(axis=(1, 2, 3))
    assert (mirrored ^ same).all()
    assert 70 < mirrored.sum() < 130


def test_shift_cuts_a_window_out_of_the_image_with_mirrored_edges() -> None:
    images = make_images([100, 100], height=6, width=9)

    shifted = geometry.shift(images.pixels[:], 3, False, generator())

    places: set[tuple[int, int]] = set()
    for before, after in zip(images.pixels, shifted, strict=True):
        padded = np.pad(before, ((3, 3), (3, 3), (0, 0)), mode="reflect")
        windows = np.lib.stride_tricks.sliding_window_view(padded, (6, 9), axis=(0, 1))  # (7, 7, 3, 6, 9)
        found = np.argwhere((windows == after.transpose(2, 0, 1)).all(axis=(2, 3, 4)))
        assert len(found) == 1
        places.add((int(found[0, 0]), int(found[0, 1])))
    assert {row for row, _ in places} == {column for _, column in places} == set(range(7))


def test_the_identity_moves_nothing() -> None:
    (image,) = make_images([1], height=5, width=8).pixels

    np.testing.assert_array_equal(geometry.warp(image, (1, 0, 0), (0, 1, 0)), image)


def test_a_warp_shows_what_lies_at_the_place_named() -> None:
    (image,) = make_images([1], height=6, width=8).pixels

    np.testing.assert_array_equal(geometry.warp(image, (1, 0, 2), (0, 1, -1))[1:, :-2], image[:-1, 2:])
    np.testing.assert_array_equal(geometry.warp(image, (-1, 0, 8), (0, 1, 0)), image[:, ::-1])
    np.testing.assert_array_equal(geometry.warp(image, (2, 0, 0), (0, 1, 0))[:, :4], image[:, 1::2])
    np.testing.assert_array_equal(geometry.warp(image[:, :6], (0, -1, 6), (1, 0, 0)), np.rot90(image[:, :6]))


@pytest.mark.parametrize(("height", "width"), [(6, 9), (1, 1), (1, 5), (4, 1)])
def test_beyond_the_edges_lies_the_image_mirrored(height: int, width: int) -> None:
    (image,) = make_images([1], height=height, width=width).pixels
    padding = 40
    padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)), mode="reflect")

    moved = geometry.warp(image, (1, 0, 31), (0, 1, -23))

    np.testing.assert_array_equal(moved, padded[padding - 23 :, padding + 31 :][:height, :width])


def test_no_colour_is_invented() -> None:
    image = np.zeros((9, 9, 3), np.uint8)
    image[..., 0], image[4, 4] = 50, (60, 70, 80)

    for angle in np.linspace(0, 6, 30):
        warped = geometry.warp(image, (np.cos(angle), -np.sin(angle), 3), (np.sin(angle), np.cos(angle), -7))
        assert {tuple(pixel) for pixel in warped.reshape(-1, 3)} <= {(50, 0, 0), (60, 70, 80)}


@pytest.mark.parametrize(("height", "width"), [(40, 40), (30, 60), (1, 1), (1, 9)])
@pytest.mark.parametrize("least", [0.02, 0.5, 1.0])
def test_boxes_lie_inside_and_have_a_side(height: int, width: int, least: float) -> None:
    areas = least + (1 - least) * torch.rand(500, generator=generator())

    top, left, bottom, right = geometry.boxes(areas, 3, height, width, generator(1)).T

    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (bottom > top).all()
    assert (right > left).all()
    assert (bottom <= height).all()
    assert (right <= width).all()


def test_boxes_have_the_area_and_the_ratios_asked_for() -> None:
    areas = torch.full((4000,), 0.2)

    top, left, bottom, right = geometry.boxes(areas, 4, 1000, 500, generator()).T

    heights, widths = (bottom - top) / 1000, (right - left) / 500
    np.testing.assert_allclose(heights * widths, 0.2, rtol=0.02)
    stretch = np.log(widths / heights) / np.log(4)  # evenly between -1 and 1
    assert abs(stretch).max() < 1.01
    np.testing.assert_allclose(np.quantile(stretch, [0.01, 0.25, 0.5, 0.75, 0.99]), [-0.98, -0.5, 0, 0.5, 0.98], atol=0.04)


def test_a_box_that_would_not_fit_is_made_squarer_not_smaller() -> None:
    areas = torch.full((1000,), 0.8)

    top, left, bottom, right = geometry.boxes(areas, 4, 1000, 1000, generator()).T

    np.testing.assert_allclose((bottom - top) * (right - left) / 1e6, 0.8, rtol=0.01)
    assert (bottom - top).max() == (right - left).max() == 1000


def test_boxes_lie_everywhere() -> None:
    areas = torch.full((2000,), 0.25)

    top, left, _, _ = geometry.boxes(areas, 1, 4, 6, generator()).T

    assert np.bincount(top).min() > 2000 / 3 * 0.8
    assert np.bincount(left).min() > 2000 / 4 * 0.8
    assert (top.max(), left.max()) == (2, 3)
