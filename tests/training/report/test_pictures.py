"""training/report/pictures.py: what goes into a picture comes out of it, in its place and size."""

import numpy as np
import pytest

from tests.training.report.uri import decoded
from training.report import pictures

NOISE = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)


def test_a_small_image_is_kept_pixel_by_pixel() -> None:
    kind, pixels = decoded(pictures.thumbnail(NOISE, 100))

    assert kind == "data:image/png;base64"
    np.testing.assert_array_equal(pixels, NOISE)


def test_a_large_image_becomes_a_jpeg_of_the_size_asked_for() -> None:
    kind, pixels = decoded(pictures.thumbnail(np.full((300, 200, 3), (200, 30, 90), np.uint8), 90))

    assert kind == "data:image/jpeg;base64"
    assert pixels.shape == (90, 60, 3)
    assert np.abs(pixels.astype(int) - (200, 30, 90)).max() <= 3


def test_what_grows_keeps_its_edges_and_what_shrinks_is_averaged() -> None:
    black_white = np.array([[[0, 0, 0], [255, 255, 255]]], np.uint8)

    np.testing.assert_array_equal(pictures.resized(black_white, 2, 4)[..., 0], [[0, 0, 255, 255]] * 2)
    assert pictures.resized(black_white, 1, 1)[0, 0, 0] in (127, 128)


def test_a_patch_of_any_shape_stands_in_the_middle_of_its_square() -> None:
    square = pictures.fitted(np.full((1, 2, 3), 255, np.uint8), 8)

    assert square[..., 0].tolist() == [[128] * 8] * 2 + [[255] * 8] * 4 + [[128] * 8] * 2
    assert (pictures.fitted(np.empty((0, 4, 3), np.uint8), 8) == pictures.GROUND).all()


def test_tiles_stand_row_after_row() -> None:
    tiles = np.stack([np.full((2, 3, 3), shade, np.uint8) for shade in (10, 20, 30)])

    canvas = pictures.grid(tiles, 2, gap=1)

    assert canvas.shape == (5, 7, 3)
    assert canvas[[0, 0, 3], [0, 4, 0], 0].tolist() == [10, 20, 30]
    assert (canvas[2] == pictures.GROUND).all()
    assert (canvas[3:, 4:] == pictures.GROUND).all()


def test_gaps_of_transparent_tiles_are_transparent() -> None:
    canvas = pictures.grid(np.full((2, 1, 1, 4), 255, np.uint8), 2, gap=1)

    assert canvas[0, :, 3].tolist() == [255, 0, 255]


@pytest.mark.parametrize(("shape", "side", "expected"), [((4, 6), 20, (12, 18)), ((3, 3), 3, (3, 3)), ((40, 20), 10, (10, 5))])
def test_maps_fill_their_side_in_whole_multiples(shape: tuple[int, int], side: int, expected: tuple[int, int]) -> None:
    maps = np.random.default_rng(0).normal(size=(2, *shape))

    shades = pictures.greys(maps, side)

    assert shades.shape == (2, *expected, 3)


def test_each_map_goes_from_black_to_white() -> None:
    shades = pictures.greys(np.array([[[-3.0, -1.0]], [[5.0, 5.0]]]), 2)

    assert shades[..., 0].tolist() == [[[0, 255]], [[0, 0]]]


def test_heat_is_blue_without_evidence_and_red_with_it() -> None:
    grey = np.full((10, 20, 3), 128, np.uint8)
    values = np.array([[0.02, 1.0]])

    picture = pictures.heat(values, grey, 40)

    assert picture.shape == (20, 40, 3)
    assert picture[10, 2, 2] > picture[10, 2, 0]
    assert picture[10, 38, 0] > picture[10, 38, 2]
