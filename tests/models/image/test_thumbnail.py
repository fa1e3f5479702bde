"""models/image/thumbnail.py: all of a picture, small and upright."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from models.image.preprocess import decode
from models.image.thumbnail import SIDE, thumbnail
from tests.factories import encode, make_image, make_picture


def opened(data: bytes) -> Image.Image:
    made = thumbnail(decode(data))
    assert made.startswith(b"\xff\xd8\xff")
    return Image.open(BytesIO(made))


@pytest.mark.parametrize(
    ("size", "expected"),
    [((640, 480), (160, 120)), ((480, 640), (120, 160)), ((32, 20), (32, 20)), ((1, 1), (1, 1)), ((4000, 3), (160, 1))],
)
def test_it_has_the_proportions_of_the_image_and_is_never_larger(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert opened(make_image("PNG", *size)).size == expected


@pytest.mark.parametrize("orientation", range(1, 9))
def test_it_stands_upright(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = opened(make_image("JPEG", 320, 200, exif=exif))
    assert image.size == ((160, 100) if orientation < 5 else (100, 160))


def test_it_looks_like_the_picture() -> None:
    picture = make_picture(600, 400)
    expected = np.asarray(picture.resize((160, 107)), np.float64)
    assert np.abs(np.asarray(opened(encode(picture)), np.float64) - expected).mean() < 5


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "CMYK"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    data = encode(make_picture().convert("RGB").convert(mode), "JPEG" if mode in ("L", "CMYK") else "PNG")
    assert opened(data).mode == "RGB"


def test_noise_stays_small() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
    assert len(thumbnail(decode(encode(Image.fromarray(noise))))) < 30_000
