"""What read_header tells of an image file from its first bytes, and what it refuses."""

import struct
from typing import Any

import pytest

from models.header import FORMATS, Format, Header, ImageError, UnsupportedFormat, read_header
from models.preprocess import ImageTooLarge, decode
from tests.factories import make_image

HUGE = {  # headers alone, no pixels behind them
    "png": b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR" + struct.pack(">II", 60000, 60000) + b"\x08\x02\0\0\0" + bytes(4),
    "jpeg": b"\xff\xd8\xff\xc0\0\x11\x08" + struct.pack(">HH", 60000, 60000) + b"\x03\x01\x11\0\x02\x11\0\x03\x11\0",
    "webp": b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0" + bytes(4) + 2 * (59999).to_bytes(3, "little"),
}


def frame_header(data: bytes) -> int:
    """Where the frame header of a baseline JPEG starts."""
    return data.index(b"\xff\xc0\0\x11")


@pytest.mark.parametrize("size", [(1, 1), (64, 48), (3, 1000), (1000, 3)], ids=str)
@pytest.mark.parametrize(
    ("format", "options"),
    [("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {}), ("PNG", {"mode": "1"}), ("WEBP", {})],
    ids=["jpeg", "progressive", "png", "png-1-bit", "webp"],
)
def test_the_header_gives_format_and_size(format: str, options: dict[str, Any], size: tuple[int, int]) -> None:
    header = read_header(make_image(format, *size, **options))
    assert (header.format, header.width, header.height) == (format.lower(), *size)
    assert header.pixels == size[0] * size[1]


@pytest.mark.parametrize("size", [(1, 1), (64, 48), (300, 7), (16383, 2), (2, 16383)], ids=str)
@pytest.mark.parametrize(
    ("chunk", "options"),
    [(b"VP8 ", {}), (b"VP8L", {"lossless": True}), (b"VP8X", {"exif": b"Exif\0\0MM\0*\0\0\0\x08" + bytes(6)})],
    ids=["lossy", "lossless", "extended"],
)
def test_every_kind_of_webp_header_is_read(chunk: bytes, options: dict[str, Any], size: tuple[int, int]) -> None:
    data = make_image("WEBP", *size, **options)
    assert data[12:16] == chunk
    assert read_header(data) == Header("webp", *size)


def test_large_webp_canvas_is_read_with_all_its_24_bits() -> None:
    data = HUGE["webp"][:24] + (70_000 - 1).to_bytes(3, "little") + (1_000_000 - 1).to_bytes(3, "little")
    assert read_header(data) == Header("webp", 70_000, 1_000_000)


@pytest.mark.parametrize(
    "before", [b"\xff\xff\xff", b"\xff\xfe\0\x06test", b"\xff\xe1\xff\xff" + bytes(65533), b"\xff\xc4\0\x02"],
    ids=["fill bytes", "comment", "longest segment", "huffman table"],
)  # fmt: skip
def test_segments_before_the_frame_header_are_passed_over(before: bytes) -> None:
    data = make_image("JPEG", 40, 30)
    at = frame_header(data)
    assert read_header(data[:at] + before + data[at:]) == Header("jpeg", 40, 30)


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"GIF89a" + bytes(20), "GIF"),
        (b"BM" + bytes(20), "BMP"),
        (b"II*\0" + bytes(20), "TIFF"),
        (b"MM\0*" + bytes(20), "TIFF"),
        (b"%PDF-1.7\n", "PDF"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"\n  <?xml version='1.0'?><svg/>", "XML or SVG"),
        (b"just some text", "no image format known here"),
        (b"RIFF\x10\0\0\0WAVEfmt ", "no image format known here"),
        (b"\x89PN", "no image format known here"),
    ],
    ids=["gif", "bmp", "tiff-little", "tiff-big", "pdf", "svg", "xml", "text", "wave", "cut magic"],
)
def test_another_format_is_refused_by_name(data: bytes, named: str) -> None:
    with pytest.raises(UnsupportedFormat, match=f"{named}; accepted are JPEG, PNG and WebP"):
        decode(data)


def test_no_bytes_are_called_empty_rather_than_a_wrong_format() -> None:
    with pytest.raises(ImageError, match="0 bytes") as raised:
        decode(b"")
    assert not isinstance(raised.value, UnsupportedFormat)


@pytest.mark.parametrize("format", FORMATS)
def test_a_huge_image_is_refused_before_its_pixels_are_looked_for(format: Format) -> None:
    assert read_header(HUGE[format]) == Header(format, 60000, 60000)
    with pytest.raises(ImageTooLarge, match=r"3600000000 pixels \(60000x60000\), the limit is 89478485"):
        decode(HUGE[format])


def test_the_limit_itself_is_allowed() -> None:
    data = make_image("PNG", 64, 48)
    assert decode(data, max_pixels=64 * 48).image.size == (64, 48)
    with pytest.raises(ImageTooLarge, match=r"3072 pixels \(64x48\), the limit is 3071"):
        decode(data, max_pixels=64 * 48 - 1)


@pytest.mark.parametrize("format", FORMATS)
def test_a_header_that_ends_early_is_refused_wherever_it_ends(format: Format) -> None:
    data = make_image(format)
    sizes_end = frame_header(data) + 9 if format == "jpeg" else {"png": 24, "webp": 30}[format]
    assert read_header(data[:sizes_end]) == Header(format, 64, 48)
    for length in range(1, sizes_end):
        with pytest.raises(ImageError):
            read_header(data[:length])


@pytest.mark.parametrize(
    "data",
    [
        b"\x89PNG\r\n\x1a\n\0\0\0\x0dIDAT" + bytes(17),
        b"\xff\xd8\xff\xe0\0\x01" + bytes(40),
        b"\xff\xd8\xff\x01\0\x02" + bytes(40),
        b"\xff\xd8\xff\xe0\0\x04\0\0\0\0" + bytes(40),
        b"RIFF\x20\0\0\0WEBPALPH" + bytes(40),
    ],
    ids=["png without IHDR", "jpeg segment of length 1", "jpeg marker without segment", "jpeg without marker", "webp chunk"],
)
def test_a_header_that_makes_no_sense_is_called_damaged(data: bytes) -> None:
    with pytest.raises(ImageError, match="header is damaged or cut off"):
        read_header(data)


def test_a_jpeg_that_leaves_its_height_for_later_is_refused() -> None:
    data = make_image("JPEG", 40, 30)
    at = frame_header(data)
    with pytest.raises(ImageError, match="announces 40x0 pixels; both sides must be at least 1"):
        read_header(data[: at + 5] + b"\0\0" + data[at + 7 :])


def test_a_png_without_width_is_refused() -> None:
    with pytest.raises(ImageError, match="announces 0x60000 pixels"):
        read_header(HUGE["png"][:16] + bytes(4) + HUGE["png"][20:])
