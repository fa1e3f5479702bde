"""Stage decode: each limit, with the value, the limit and the setting in its message."""

import subprocess
import sys

import numpy as np
import pytest

from models.image.limits import LIMITS, Limits
from models.image.preprocess import preprocess
from models.image.spec import InputSpec
from service.errors import ImageTooLarge, OutOfMemory, UndecodableImage, UnsupportedFormat
from service.inference.decode import decode
from tests.factories import make_image, png_header
from tests.server import ROOT

SPEC = InputSpec(height=32, width=32, resize=36)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_an_image_within_the_limits_becomes_what_was_measured_in_training(format: str) -> None:
    image = make_image(format, 100, 80, seed=3)
    pixels = decode(image, SPEC, LIMITS)
    assert (pixels.shape, pixels.dtype) == ((32, 32, 3), np.uint8)
    assert np.array_equal(pixels, preprocess(image, SPEC))


def test_limits_are_inclusive() -> None:
    assert decode(make_image("PNG", 40, 50), SPEC, Limits(2000, 50)).shape == (32, 32, 3)


def test_too_many_pixels_are_refused_with_the_value_the_limit_and_the_setting() -> None:
    with pytest.raises(ImageTooLarge) as caught:
        decode(png_header(9000, 8000), SPEC, LIMITS)
    assert str(caught.value) == (
        "image has 72.0 MP (9000x8000 pixels), the limit is 65 MP (HUBEL_MAX_PIXELS); send a smaller one"
    )


def test_one_pixel_too_many_is_refused() -> None:
    with pytest.raises(ImageTooLarge, match=r"HUBEL_MAX_PIXELS"):
        decode(make_image("PNG", 40, 50), SPEC, Limits(1999, 50))


@pytest.mark.parametrize(("width", "height"), [(65_501, 10), (10, 65_501), (70_000, 70_000)])
def test_a_side_too_long_is_refused_with_the_value_the_limit_and_the_setting(width: int, height: int) -> None:
    with pytest.raises(ImageTooLarge) as caught:
        decode(png_header(width, height), SPEC, LIMITS)
    assert str(caught.value) == (
        f"image is {width}x{height} pixels, the limit is 65500 a side (HUBEL_MAX_SIDE_PIXELS); send a smaller one"
    )


@pytest.mark.parametrize(
    ("data", "what"),
    [
        pytest.param(b"hello, this is a text file\n", "looks like text", id="text"),
        pytest.param(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "looks like SVG", id="SVG"),
        pytest.param(b"<?xml version='1.0'?><svg/>", "looks like SVG", id="SVG with a declaration"),
        pytest.param(make_image("GIF"), "looks like GIF", id="GIF"),
        pytest.param(make_image("BMP"), "looks like BMP", id="BMP"),
        pytest.param(make_image("TIFF"), "looks like TIFF", id="TIFF"),
    ],
)
def test_another_format_is_refused_with_what_it_looks_like_and_what_is_accepted(data: bytes, what: str) -> None:
    with pytest.raises(UnsupportedFormat) as caught:
        decode(data, SPEC, LIMITS)
    assert what in str(caught.value)
    assert "accepted are JPEG, PNG and WebP" in str(caught.value)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        pytest.param(b"", "the image is empty (0 bytes)", id="no bytes"),
        pytest.param(b"\xff\xd8\xff", "the JPEG header is damaged or cut off", id="three bytes"),
        pytest.param(make_image("JPEG")[:-200], "the JPEG file is cut off", id="cut off JPEG"),
        pytest.param(make_image("PNG")[:-200], "the PNG file is cut off", id="cut off PNG"),
        pytest.param(make_image("WEBP")[:-50], "the WEBP file is cut off", id="cut off WebP"),
        pytest.param(png_header(10, 10), "the PNG file is cut off", id="a header alone"),
        pytest.param(png_header(0, 10), "the PNG header announces 0x10 pixels", id="no width"),
    ],
)
def test_a_damaged_image_is_refused_with_its_fault(data: bytes, what: str) -> None:
    with pytest.raises(UndecodableImage) as caught:
        decode(data, SPEC, LIMITS)
    assert what in str(caught.value)


MEMORY = """
import resource, sys
from models.image.spec import InputSpec
from models.image.limits import LIMITS
from service.inference.decode import decode
from service.errors import OutOfMemory
from tests.factories import make_image
from tests.hostile.mutations import lie, png
large = png(7000, 7000, 8, 6)
decode(make_image("PNG"), InputSpec(height=32, width=32, resize=36), LIMITS)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 64 * 2**20,) * 2)
try:
    decode(large, InputSpec(height=32, width=32, resize=36), LIMITS)
except OutOfMemory as err:
    print(err)
decode(make_image("PNG"), InputSpec(height=32, width=32, resize=36), LIMITS)
"""


def test_memory_that_runs_out_is_told_and_not_the_image_s_fault() -> None:
    result = subprocess.run([sys.executable, "-c", MEMORY], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert result.stdout == "there is no memory left for the pixels of this image; try again, or send a smaller one\n", (
        result.stderr
    )
    assert (OutOfMemory.status, result.returncode) == (503, 0)


BOMB = """
import struct, sys, warnings
from models.image.spec import InputSpec
from models.image.limits import LIMITS
from service.inference.decode import decode
from service.errors import UndecodableImage
from tests.factories import make_image
data = make_image("JPEG")
at = data.index(b"\\xff\\xc0\\0\\x11")
other = data[at : at + 5] + struct.pack(">HH", 9000, 10000) + data[at + 9 : at + 19]
try:
    decode(data[: at + 19] + other + data[at + 19 :], InputSpec(height=32, width=32, resize=36), LIMITS)
except UndecodableImage as err:
    print(err)
"""


def test_a_file_that_lies_of_its_size_is_refused_without_a_warning() -> None:
    result = subprocess.run([sys.executable, "-c", BOMB], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert result.stdout == "the JPEG file announces two different sizes\n", result.stderr
    assert result.stderr == ""
