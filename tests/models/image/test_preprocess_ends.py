"""JPEG files without their end: whole ones are decoded, those that lack pixels are refused, whatever stands at the end."""

import struct
from base64 import b64decode
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from models.errors import CutOff, ImageError
from models.image.preprocess import Pixels, decode, denominator, preprocess, read_header
from models.image.spec import InputSpec
from tests.factories import encode, make_image, make_picture

END = b"\xff\xd9"
THUMBNAIL = b"Exif\0\0" + make_image("JPEG", 16, 12)  # has an end of its own
ARITHMETIC = b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAA0JCgsKCA0LCgsODg0PEyAVExISEyccHhcgLikxMC4pLSwzOko+MzZGNywtQFdBRkxOUlNSMj5aYV"
    "pQYEpRUk//yQALCAAoACgBAREA/8wABgAQEAX/2gAIAQEAAD8A0fWPXH2me1I3p4Cw5y3HDkBvzymgz+faNWgBTL2r/TdEggrEdZ8qYB1xUTDN"
    "A94z5dZED5QbDTaNvwMpa00uDvCVfM7hFDuyqFFcEbm/Xt6TLgxfmiCN2+DtCgz0nF5CwM1m2lGFHN6+8RKg3srQJurdoveU2vdmR3pN05MTvm"
    "eJ7Og+199wdClxF4M8+y2Emtb6hfGTX/uzSk4PFH6ABYbiLqTzNA6QSCHPZQ1lnOtrt6n623BxiL/Tg5wr7A+aX9C2Tt2r6MCS54bbJf3g/9k="
)  # grey of 40x40 pixels with grain, arithmetic-coded, which no library here writes
TAILS: dict[str, bytes] = {
    "nothing": b"",
    "an end": END,
    "half an end": b"\xff",
    "one byte more": b"\0" + END,
    "zeros": bytes(512),
    "text": b"<html>sorry</html>",
    "another JPEG": make_image("JPEG", seed=5),
    "an end and another JPEG": END + make_image("JPEG", seed=5),
    "fill bytes": b"\xff\xff\xff" + END,
}


def grainy(width: int = 64, height: int = 48) -> Image.Image:
    """A picture that takes bits in every block."""
    grain = np.random.default_rng(0).normal(0, 12, (height, width, 3))
    return Image.fromarray((np.asarray(make_picture(width, height)) + grain).clip(0, 255).astype(np.uint8))


def jpeg(mode: str = "RGB", **options: Any) -> bytes:
    return encode(grainy().convert(mode), "JPEG", **options)


def ycck() -> bytes:
    """The four channels of a CMYK file, said to be YCCK by the last byte of Adobe's segment."""
    data = jpeg("CMYK")
    at = data.index(b"Adobe") + 11
    return data[:at] + b"\2" + data[at + 1 :]


def odd_subsampling() -> bytes:
    """Channels of 2x2, 2x1 and 1x2 blocks, which TurboJPEG has no name for. It has the blocks of 96x96 pixels at 1x1."""
    data = encode(grainy(96, 96), "JPEG", keep_rgb=True, subsampling=0)
    at = data.index(b"\xff\xc0\0\x11")
    frame = bytearray(data[at : at + 19])
    frame[5:9] = struct.pack(">HH", 96, 144)  # 54 units of 8 blocks
    frame[11], frame[14], frame[17] = 0x22, 0x21, 0x12
    return data[:at] + frame + data[at + 19 :]


KINDS: dict[str, Callable[[], bytes]] = {
    "colour": jpeg,
    "thumbnail": lambda: jpeg(exif=THUMBNAIL),
    "progressive": lambda: jpeg(progressive=True),
    "grey": lambda: jpeg("L"),
    "CMYK": lambda: jpeg("CMYK"),
    "YCCK": ycck,
    "restarts": lambda: jpeg(restart_marker_blocks=1),
    "odd subsampling": odd_subsampling,
}


def pixels(data: bytes) -> Pixels:
    return np.asarray(decode(data).image)


@pytest.mark.parametrize("tail", list(TAILS))
@pytest.mark.parametrize("kind", list(KINDS))
def test_a_jpeg_that_is_whole_but_for_its_end_is_whole(kind: str, tail: str) -> None:
    data = KINDS[kind]()
    assert data.endswith(END)
    assert np.array_equal(pixels(data[:-2] + TAILS[tail]), pixels(data))


@pytest.mark.parametrize("tail", ["nothing", "an end", "half an end", "another JPEG", "an end and another JPEG"])
@pytest.mark.parametrize("kind", list(KINDS))
def test_a_jpeg_that_lacks_pixels_is_refused_whatever_stands_at_its_end(kind: str, tail: str) -> None:
    data = KINDS[kind]()
    first = data.rindex(b"\xff\xda") + 20  # within the last scan
    body = data[:-2]
    for share in (0, 0.3, 0.5, 0.9, 0.98):
        with pytest.raises(CutOff, match=r"the JPEG file is cut off, .* pixels are missing; send all of it"):
            decode(body[: first + int(share * (len(body) - first))].rstrip(b"\xff") + TAILS[tail])


def test_an_end_in_the_middle_ends_a_jpeg() -> None:
    data = jpeg()
    middle = (data.index(b"\xff\xda") + len(data)) // 2
    with pytest.raises(CutOff):
        decode(data[:middle] + END + data[middle:])


def test_no_cut_gives_another_picture_than_the_whole() -> None:
    data = jpeg()
    first, expected = data.index(b"\xff\xda") + 14, pixels(data)
    for end in (*range(first, len(data), 53), *range(len(data) - 20, len(data))):
        for tail in (b"", END):
            with suppress(CutOff):
                assert np.array_equal(pixels(data[:end] + tail), expected)


@pytest.mark.parametrize("n", [2, 8])
def test_the_end_is_judged_alike_at_every_fraction(n: int) -> None:
    spec = InputSpec(128, 128, 128)
    data = encode(Image.fromarray(np.tile(np.asarray(grainy(384, 384)), (n, n, 1))), "JPEG", quality=30)
    assert denominator(read_header(data), spec) == n
    assert np.array_equal(preprocess(data[:-2], spec), preprocess(data, spec))
    for tail in (b"", END):
        with pytest.raises(CutOff):
            preprocess(data[:-200] + tail, spec)


def test_a_warning_before_the_cut_does_not_hide_it() -> None:
    """libjpeg tells the first thing alone: here bytes that belong to no restart interval."""
    data = jpeg(restart_marker_blocks=1)
    at = data.index(b"\xff\xd0")
    odd = data[:at] + b"12345678" + data[at:]
    with pytest.raises(ValueError, match="extraneous bytes"):
        simplejpeg.decode_jpeg(odd)
    assert np.array_equal(pixels(odd), pixels(data))
    for cut in (30, *(odd.rindex(bytes((0xFF, 0xD0 + i))) - len(odd) for i in range(8))):  # within and between intervals
        for tail in (b"", END):
            with pytest.raises(CutOff):
                decode(odd[: -abs(cut)] + tail)


def test_missing_pixels_of_an_arithmetic_jpeg_are_noticed_though_libjpeg_says_nothing() -> None:
    body = ARITHMETIC[:-2]
    assert np.array_equal(pixels(body), pixels(ARITHMETIC))
    assert np.array_equal(pixels(body + b"\xff"), pixels(ARITHMETIC))
    for missing in (10, 50, 200):
        simplejpeg.decode_jpeg(body[:-missing] + END)
        for tail in (b"", END):
            with pytest.raises(CutOff):
                decode(body[:-missing] + tail)


def test_a_progressive_jpeg_may_lack_its_last_scans_but_no_channel() -> None:
    data = jpeg(progressive=True)
    tables = [at for at in range(len(data) - 1) if data[at : at + 2] == b"\xff\xc4" and at > data.index(b"\xff\xda")]
    for at in tables:
        for tail in (b"", END):
            assert decode(data[:at] + tail).image.size == (64, 48)
    first = data.index(b"\xff\xda")
    one = data[first : first + 4] + b"\1" + data[first + 5 : first + 7] + data[first + 11 :]  # its first scan has red alone
    with pytest.raises(CutOff):
        decode(data[:first] + one[:2] + b"\0\x08" + one[4:9] + data[first + 14 : tables[0]] + END)


@pytest.mark.parametrize("marker", [b"\xff\xc4\0\x1f\0\0", b"\xff\xda\0\x0c\3"], ids=["tables", "scan"])
def test_a_progressive_jpeg_that_is_about_to_go_on_is_cut_off(marker: bytes) -> None:
    data = jpeg(progressive=True)
    at = data.index(b"\xff\xc4", data.index(b"\xff\xda"))
    with pytest.raises(CutOff):
        decode(data[:at] + marker)


def test_a_jpeg_damaged_behind_its_pixels_by_an_unknown_marker_is_refused() -> None:
    with pytest.raises(ImageError, match="the JPEG file is damaged or cut off"):
        decode(jpeg()[:-2] + b"\xff\xcd\0\2" + END)
