"""Damaged and lying image files: decode raises ImageError, and nothing else, ever."""

import random
import struct
from collections.abc import Iterator

import numpy as np
import pytest

from models.errors import ImageError, ImageTooLarge, UnsupportedFormat
from models.image.limits import Limits
from models.image.preprocess import decode, preprocess
from models.image.spec import InputSpec
from tests.factories import encode, make_image, make_picture
from tests.hostile.mutations import KINDS, damage

SPEC = InputSpec(height=32, width=32, resize=36)
MUTATIONS = 50  # of each kind


def mutations(data: bytes, seed: int) -> Iterator[bytes]:
    """Damaged copies, the same for the same seed."""
    chance = random.Random(seed)
    return (damage(data, chance) for _ in range(MUTATIONS))


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow warns of damaged EXIF data and goes on
@pytest.mark.parametrize(("seed", "kind"), list(enumerate(KINDS)), ids=list(KINDS))
def test_mutated_files_are_decoded_or_refused_but_nothing_else(seed: int, kind: str) -> None:
    orientation = b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">HHHIHHI", 1, 0x0112, 3, 1, 6, 0, 0)
    refused = 0
    for data in mutations(make_image(exif=orientation, **KINDS[kind]), seed):
        try:
            assert preprocess(data, SPEC, Limits(1_000_000)).shape == (32, 32, 3)
        except ImageError:
            refused += 1
    assert MUTATIONS // 5 < refused < MUTATIONS


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9], ids=str)
@pytest.mark.parametrize("kind", list(KINDS))
def test_a_file_cut_off_within_its_pixels_is_refused(kind: str, share: float) -> None:
    data = make_image(**KINDS[kind])
    with pytest.raises(ImageError, match="is cut off") as raised:
        decode(data[: int(len(data) * share)])
    assert not isinstance(raised.value, (UnsupportedFormat, ImageTooLarge))


@pytest.mark.parametrize("kind", ["jpeg", "progressive"])
@pytest.mark.parametrize("tail", [b"\0", b"\0" * 1000, b"junk after the end", b"\xff\xd8\xff\xe0 a thumbnail"], ids=len)
def test_bytes_after_the_end_of_a_jpeg_change_nothing(kind: str, tail: bytes) -> None:
    data = make_image(**KINDS[kind])
    assert np.array_equal(np.asarray(decode(data + tail).image), np.asarray(decode(data).image))


def test_a_jpeg_with_two_frame_headers_is_refused() -> None:
    data = make_image("JPEG")
    at = data.index(b"\xff\xc0\0\x11")
    other = data[at : at + 5] + struct.pack(">HH", 5, 5) + data[at + 9 : at + 19]
    with pytest.raises(ImageError, match="the JPEG file announces two different sizes"):
        decode(data[:at] + other + data[at:])


def test_a_webp_whose_canvas_is_not_its_frame_is_refused() -> None:
    data = make_image("WEBP", mode="RGBA")
    assert data[12:16] == b"VP8X"
    with pytest.raises(ImageError, match="WEBP file is damaged or cut off"):
        decode(data[:24] + b"\xff\0\0\xff\0\0" + data[30:])


def test_a_palette_png_without_its_palette_is_refused() -> None:
    data = encode(make_picture(mode="P"))
    start = data.index(b"PLTE") - 4
    end = start + 12 + struct.unpack_from(">I", data, start)[0]
    with pytest.raises(ImageError, match="PNG file is damaged or cut off"):
        decode(data[:start] + data[end:])
