"""models/image/picture.py and where a network looks: sizes, orientations, and that both tell of the same upright image."""

import numpy as np
import pytest
from PIL import Image

from models.image.picture import LEAST_SIDE, SIDE, picture, size_of
from models.image.preprocess import Box, place, preprocess
from models.image.spec import InputSpec
from tests.factories import encode, make_picture

SPEC = InputSpec(height=32, width=32, resize=36)
ORIENTATION = 0x0112


def file(width: int, height: int, format: str = "PNG", orientation: int = 1) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return encode(make_picture(width, height), format, exif=exif)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((1, 1), (256, 256)),
        ((100, 60), (200, 120)),
        ((129, 7), (129, 7)),
        ((1024, 768), (1024, 768)),
        ((1025, 1), (1024, 1)),
        ((65_500, 3), (1024, 1)),
        ((3000, 4000), (768, 1024)),
    ],
)
def test_a_picture_is_bounded_and_a_small_one_enlarged_evenly(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert size_of(*size) == expected
    assert max(expected) <= SIDE
    assert expected[0] % size[0] == 0 or max(size) > LEAST_SIDE


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_picture_and_place_are_of_the_upright_image(format: str, orientation: int) -> None:
    data = file(300, 140, format, orientation)
    turned = orientation > 4
    width, height = (140, 300) if turned else (300, 140)
    assert picture(data).shape == (height, width, 3)
    placed = place(data, SPEC)
    assert (placed.width, placed.height) == (width, height)
    side = 140 * 32 / 36
    assert placed.seen == Box((width - side) / 2, (height - side) / 2, side, side)
    assert (placed.pixels == preprocess(data, SPEC)).all()


def test_a_picture_shows_what_the_file_does() -> None:
    shown = picture(file(300, 140))
    assert (shown == np.asarray(make_picture(300, 140))).all()


def test_where_the_network_looks_lies_what_it_sees() -> None:
    made = np.zeros((90, 180, 3), np.uint8)
    made[:, 50:130] = 255  # 80 pixels in the middle, as are seen of each side of 90
    placed = place(encode(Image.fromarray(made)), SPEC)
    assert placed.pixels[:, 1:-1].min() == 255
    assert (placed.seen.x, placed.seen.width, placed.seen.y) == (50, 80, 5)


@pytest.mark.parametrize("size", [(6200, 40), (2500, 1999)])
def test_a_large_jpeg_is_decoded_at_a_fraction_and_fills_the_picture(size: tuple[int, int]) -> None:
    shown = picture(encode(Image.new("RGB", size, "red"), "JPEG"))
    assert shown.shape[:2] == size_of(*size)[::-1]
    assert (abs(shown.astype(int) - (254, 0, 0)) < 3).all()
