"""What is harmless passes as in browsers, and what is whole but not read is named as what it is."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from models.errors import ImageError
from models.image.preprocess import Pixels, decode
from tests.factories import encode, make_image, make_picture
from tests.hostile.mutations import chunk, png

FRAME = b"\xff\xc0\0\x11\x08"  # of a baseline JPEG in colour, with its precision


def pixels(data: bytes) -> Pixels:
    return np.asarray(decode(data).image)


def with_wrong_checksum(kind: bytes, body: bytes = b"anything") -> bytes:
    right = chunk(kind, body)
    return right[:-1] + bytes([right[-1] ^ 1])


@pytest.mark.parametrize(
    "kind", [b"pHYs", b"gAMA", b"cHRM", b"cLLI", b"sRGB", b"bKGD", b"tIME", b"tEXt", b"iCCP", b"eXIf", b"prVt"]
)
@pytest.mark.parametrize("before", [b"IDAT", b"IEND"])
def test_a_wrong_checksum_of_any_ancillary_chunk_is_skipped(kind: bytes, before: bytes) -> None:
    data = make_image("PNG")
    at = data.index(before) - 4
    assert np.array_equal(pixels(data[:at] + with_wrong_checksum(kind) + data[at:]), pixels(data))


def test_transparency_with_a_wrong_checksum_or_length_or_place_counts_for_nothing() -> None:
    plain = encode(Image.new("L", (8, 8)))
    at, end = plain.index(b"IDAT") - 4, plain.index(b"IEND") - 4
    black, white, wrong = chunk(b"tRNS", bytes(2)), chunk(b"tRNS", b"\0\xff"), with_wrong_checksum(b"tRNS", bytes(2))
    for odd in (wrong, chunk(b"tRNS", b"\0"), chunk(b"tRNS", b""), white + black):
        assert not pixels(plain[:at] + odd + plain[at:]).any()
    assert not pixels(plain[:end] + black + plain[end:]).any()
    for good in (black, black + white, wrong + black, chunk(b"tRNS", bytes(3))):
        assert (pixels(plain[:at] + good + plain[at:]) == 255).all()


@pytest.mark.parametrize("kind", [b"IHDR", b"PLTE"])
def test_a_wrong_checksum_of_what_pixels_depend_on_is_refused(kind: bytes) -> None:
    data = bytearray(encode(make_picture(mode="P")))
    at = data.index(kind)
    data[at + 4 + struct.unpack_from(">I", data, at - 4)[0]] ^= 1
    with pytest.raises(ImageError, match="the PNG file is damaged"):
        decode(bytes(data))


def test_damaged_pixels_of_a_png_are_refused() -> None:
    rows = bytearray(zlib.compress((b"\0" + bytes(range(24))) * 8, 0))
    assert decode(png(pixels=bytes(rows))).image.size == (8, 8)
    for pixels_of in (bytes(rows[:40]), bytes(rows[:2]) + b"\xff" * 40):
        with pytest.raises(ImageError, match="the PNG file is damaged"):
            decode(png(pixels=pixels_of))


SEGMENTS = {
    "JFIF of 7 bytes": b"\xff\xe0\0\x07JFIF\0",
    "empty JFIF": b"\xff\xe0\0\2",
    "JFIF of length 0": b"\xff\xe0\0\0",
    "JFIF of length 15": b"\xff\xe0\0\x0fJFIF\0\1\1\0\0\1\0\1\0",
    "Adobe of 7 bytes": b"\xff\xee\0\x07Adobe",
    "Adobe of 13 bytes, with inverted colours": b"\xff\xee\0\x0dAdobe\0\x64\0\0\0\0",
    "Adobe of length 1": b"\xff\xee\0\1",
    "comment of length 0": b"\xff\xfe\0\0",
    "comment of length 1": b"\xff\xfe\0\1",
    "EXIF of length 0": b"\xff\xe1\0\0",
    "profile of length 1": b"\xff\xe2\0\1",
}


@pytest.mark.parametrize("segment", list(SEGMENTS))
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_segment_too_short_is_skipped(segment: str, mode: str) -> None:
    data = make_image("JPEG", mode=mode)
    at = data.index(b"\xff\xdb")
    assert np.array_equal(pixels(data[:at] + SEGMENTS[segment] + data[at:]), pixels(data))
    if mode == "RGB":  # in place of JFIF's own
        assert np.array_equal(pixels(data[:2] + SEGMENTS[segment] + data[at:]), pixels(data))


@pytest.mark.parametrize("marker", [0xC0, 0xC4, 0xDA, 0xDB])
def test_a_segment_that_pixels_depend_on_is_not_skipped(marker: int) -> None:
    data = make_image("JPEG")
    at = data.index(bytes((0xFF, marker))) + 2
    with pytest.raises(ImageError, match="damaged or cut off"):
        decode(data[:at] + b"\0\0" + data[at + 2 :])


@pytest.mark.parametrize("bits", [2, 10, 12, 16])
@pytest.mark.parametrize("process", [0xC0, 0xC1, 0xC2, 0xC3])
def test_a_jpeg_of_other_than_8_bits_is_named(process: int, bits: int) -> None:
    data = make_image("JPEG").replace(FRAME, bytes((0xFF, process, 0, 0x11, bits)))
    with pytest.raises(
        ImageError, match=rf"the JPEG file has {bits} bits a sample, only 8 are read; save it again as 8-bit JPEG"
    ):
        decode(data)


@pytest.mark.parametrize(
    ("process", "name"),
    [
        (0xC5, "hierarchical"),
        (0xCB, "lossless and arithmetic-coded"),
        (0xCF, "hierarchical"),
        (0xDE, "hierarchical"),
        (0xF7, "JPEG-LS"),
    ],
)
def test_a_jpeg_coded_otherwise_is_named(process: int, name: str) -> None:
    data = make_image("JPEG").replace(FRAME, bytes((0xFF, process, 0, 0x11, 8)))
    with pytest.raises(ImageError, match=f"the JPEG file is {name}, which is not read; save it again as baseline JPEG or PNG"):
        decode(data)


@pytest.mark.parametrize("count", [0, 2, 5])
def test_a_jpeg_of_other_channels_than_one_three_or_four_is_named(count: int) -> None:
    data = make_image("JPEG")
    at, end = data.index(FRAME), data.index(FRAME) + 19
    frame = FRAME[:2] + struct.pack(">H", 8 + 3 * count) + data[at + 4 : at + 9] + bytes([count]) + b"\1\x11\0" * count
    with pytest.raises(ImageError, match=f"has {count} colour channels, only 1, 3 and 4 are read; save it again as RGB"):
        decode(data[:at] + frame + data[end:])


def test_a_png_of_xcode_is_named_with_the_way_back() -> None:
    data = make_image("PNG")
    with pytest.raises(ImageError, match=r"rewritten by Xcode .* \(CgBI\).*pngcrush -revert-iphone-optimizations"):
        decode(data[:8] + chunk(b"CgBI", b"\x50\0\x20\2") + data[8:])


def test_every_refusal_of_a_file_names_a_way_out() -> None:
    for format, cut in (("JPEG", 4), ("PNG", 20), ("WEBP", 16)):
        with pytest.raises(ImageError, match="header is damaged or cut off; send all of the file, or save it again"):
            decode(make_image(format)[:cut])
    for format in ("JPEG", "PNG", "WEBP"):
        with pytest.raises(
            ImageError, match="is cut off, or damaged so that pixels are missing; send all of it, or save it again"
        ):
            decode(make_image(format)[:-100])
    with pytest.raises(ImageError, match="damaged or cut off and cannot be decoded; send all of it, or save it again"):
        decode(png(depth=3))
