"""service/inference/heat.py: a PNG of the picture's size, coloured where the map says so and dark where nothing was seen."""

from io import BytesIO

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from models.image.preprocess import Box
from service.inference import heat

GREY = np.full((60, 90, 3), 200, np.uint8)


def drawn(values: NDArray[np.float32], seen: Box, picture: NDArray[np.uint8] = GREY) -> NDArray[np.int64]:
    data = heat.png(picture, values, seen)
    with Image.open(BytesIO(data), formats=["PNG"]) as image:
        assert image.mode == "RGB"
        return np.asarray(image).astype(np.int64)


def test_a_map_of_zeros_leaves_the_part_that_was_seen_as_it_is_in_grey() -> None:
    shown = drawn(np.zeros((7, 7), np.float32), Box(15, 0, 60, 60))
    assert (shown[:, 15:75] == 200).all()
    assert (shown[:, :15] == 90).all()
    assert (shown[:, 75:] == 90).all()


def test_the_colour_lies_where_the_map_speaks() -> None:
    values = np.zeros((6, 6), np.float32)
    values[1, 4] = 1
    shown = drawn(values, Box(15, 0, 60, 60))
    colour = shown.max(2) - shown.min(2)
    y, x = np.unravel_index(colour.argmax(), colour.shape)
    assert abs(y - 15) <= 5
    assert abs(x - 15 - 45) <= 5
    assert (colour[30:, :40] == 0).all()
    assert abs(shown[15, 60] - (0.25 * 200 + 0.75 * heat.COLOURS[-1])).max() < 8


@pytest.mark.parametrize("size", [(1, 1), (1, 1024), (1024, 1), (3, 5), (257, 1)])
@pytest.mark.parametrize("shape", [(1, 2), (7, 7), (30, 30)])
def test_odd_sizes_are_drawn(size: tuple[int, int], shape: tuple[int, int]) -> None:
    side = min(size)
    seen = Box((size[1] - side) / 2, (size[0] - side) / 2, side, side)
    shown = drawn(np.ones(shape, np.float32), seen, np.full((*size, 3), 7, np.uint8))
    assert shown.shape == (*size, 3)
