"""What is told of an image file from its first bytes, what of it reaches Pillow, and what is refused."""

import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models.errors import ImageError, ImageTooLarge
from models.image import header
from models.image.formats import FORMATS, Format
from models.image.header import (
    MAX_BETWEEN,
    MAX_CHUNKS,
    MAX_SCANS,
    MAX_SEGMENTS,
    Header,
    count_scans,
    essence,
    is_gathered,
    orientation_in,
    read_header,
)
from models.image.limits import Limits
from models.image.preprocess import decode
from tests.factories import encode, make_image, make_picture
from tests.hostile.mutations import chunk

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
def test_segments_before_the_frame_header_are_skipped(before: bytes) -> None:
    data = make_image("JPEG", 40, 30)
    at = frame_header(data)
    assert read_header(data[:at] + before + data[at:]) == Header("jpeg", 40, 30)


@pytest.mark.parametrize("format", FORMATS)
def test_a_huge_image_is_refused_before_its_pixels_are_looked_for(format: Format) -> None:
    assert read_header(HUGE[format]) == Header(format, 60000, 60000)
    with pytest.raises(ImageTooLarge, match=r"3600\.0 MP \(60000x60000 pixels\), the limit is 65 MP; make it smaller"):
        decode(HUGE[format])


def test_the_limit_itself_is_allowed() -> None:
    data = make_image("PNG", 64, 48)
    assert decode(data, Limits(64 * 48, 64)).image.size == (64, 48)
    for limits in (Limits(64 * 48 - 1), Limits(64 * 48, 63)):
        with pytest.raises(ImageTooLarge):
            decode(data, limits)


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


def pixels(data: bytes) -> Any:
    return np.asarray(decode(data).image)


def exif(orientation: int, order: str = ">", kind: int = 3, before: int = 0) -> bytes:
    """A TIFF with a directory that holds ``before`` other tags and the orientation."""
    entries = b"".join(struct.pack(order + "HHII", 1 + i, 4, 1, 0) for i in range(before))
    value = {1: "B3x", 3: "H2x", 4: "I"}.get(kind, "I")
    entries += struct.pack(order + "HHI" + value, 0x0112, kind, 1, orientation)
    head = {">": b"MM\0*", "<": b"II*\0"}[order] + struct.pack(order + "IH", 8, before + 1)
    return head + entries + bytes(4)


@pytest.mark.parametrize("order", ["<", ">"], ids=["little", "big"])
@pytest.mark.parametrize("kind", [1, 3, 4])
@pytest.mark.parametrize("before", [0, 1, 200])
def test_an_orientation_is_found_in_its_directory(order: str, kind: int, before: int) -> None:
    assert orientation_in(exif(6, order, kind, before)) == 6
    assert orientation_in(b"Exif\0\0" + exif(6, order, kind, before)) == 6


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"MM", id="cut off"),
        pytest.param(b"MM\0*", id="no directory"),
        pytest.param(b"MM\0*\xff\xff\xff\xff", id="a directory far away"),
        pytest.param(b"MM\0*\0\0\0\x08\xff\xff", id="a directory without entries"),
        pytest.param(exif(6)[:-10], id="no value"),
        pytest.param(exif(6, kind=2), id="a text"),
        pytest.param(b"XX\0*" + exif(6)[4:], id="no byte order"),
    ],
)
def test_damaged_exif_data_say_nothing(data: bytes) -> None:
    assert orientation_in(data) is None


def test_a_directory_of_as_many_tags_as_it_can_name_says_nothing_without_the_right_one() -> None:
    assert orientation_in(b"MM\0*\0\0\0\x08\xff\xff" + bytes(12 * 65_535)) is None


def test_of_a_jpeg_only_what_its_pixels_depend_on_is_kept_and_they_stay_the_same() -> None:
    kinds: list[dict[str, Any]] = [{}, {"progressive": True}, {"mode": "CMYK"}, {"mode": "L"}, {"subsampling": 0}]
    for options in kinds:
        plain = make_image("JPEG", **options)
        told = make_image(
            "JPEG", exif=b"Exif\0\0" + exif(6), icc_profile=bytes(200_000), comment=b"hello", xmp=b"<x/>", **options
        )
        kept, found = essence(told, "jpeg")
        assert kept == plain
        assert found == exif(6)
        assert np.array_equal(pixels(told), pixels(plain))


def test_the_first_exif_segment_of_a_jpeg_counts() -> None:
    data = make_image("JPEG", exif=b"Exif\0\0" + exif(6))
    second = b"\xff\xe1" + struct.pack(">H", 8 + len(exif(3))) + b"Exif\0\0" + exif(3)
    at = data.index(b"\xff\xdb")
    assert essence(data[:at] + second + data[at:], "jpeg")[1] == exif(6)


def test_of_a_png_only_what_its_pixels_depend_on_is_kept_and_they_stay_the_same() -> None:
    for mode in ("RGB", "P", "LA", "1", "I;16"):
        plain = make_image("PNG", mode=mode)
        at, end = plain.index(b"IDAT") - 4, plain.index(b"IEND") - 4
        texts = chunk(b"tEXt", b"k\0v") + chunk(b"iCCP", b"p\0\0") + chunk(b"eXIf", exif(6)) + chunk(b"eXIf", exif(3))
        told = plain[:at] + texts + plain[at:end] + chunk(b"zTXt", b"k\0\0") + plain[end:]
        assert essence(told, "png") == (plain, exif(6))
        assert essence(plain, "png") == (plain, b"")
        assert np.array_equal(pixels(told), pixels(plain))


def test_of_an_animated_png_the_first_frame_is_kept() -> None:
    first, second = make_picture(seed=1), make_picture(seed=2)
    data = encode(first, "PNG", save_all=True, append_images=[second])
    assert b"fdAT" in data
    assert b"fcTL" not in essence(data, "png")[0]
    assert np.array_equal(pixels(data), np.asarray(first))


def test_pixels_of_a_cut_off_png_are_left_to_its_reader() -> None:
    data = make_image("PNG")
    assert essence(data[:-20], "png") == (data[:-20], b"")


def with_segments(count: int) -> bytes:
    data = make_image("JPEG")
    return data[:2] + b"\xff\xfe\0\2" * count + data[2:]


def test_a_jpeg_may_have_many_segments_but_not_without_end() -> None:
    assert np.array_equal(pixels(with_segments(MAX_SEGMENTS - 20)), pixels(make_image("JPEG")))
    with pytest.raises(ImageError, match=f"more than {MAX_SEGMENTS} segments before its pixels"):
        read_header(with_segments(MAX_SEGMENTS))


def test_a_jpeg_may_have_some_bytes_between_its_segments_but_not_without_end() -> None:
    data = make_image("JPEG", 40, 30)
    at = frame_header(data)

    def between(first: int, second: int) -> bytes:
        return data[:2] + b"\xff" * first + data[2:at] + b"\xff\0" * (second // 2) + data[at:]

    half = MAX_BETWEEN // 2
    assert read_header(between(half, half)) == Header("jpeg", 40, 30)
    for first, second in ((half + 10, half), (half, half + 10), (4 * MAX_BETWEEN, 0)):
        with pytest.raises(ImageError, match=f"more than {MAX_BETWEEN} bytes between its segments"):
            read_header(between(first, second))


@pytest.mark.parametrize("part", [1, 2, 3, 7, 64])
def test_scans_are_found_wherever_a_search_ends(part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_image("JPEG", progressive=True)
    expected = essence(data, "jpeg")
    monkeypatch.setattr(header, "PART", part)
    assert essence(data, "jpeg") == expected
    with pytest.raises(ImageError, match=f"more than {MAX_SCANS} scans"):
        essence(with_scans(MAX_SCANS), "jpeg")


@pytest.mark.parametrize(
    ("data", "gathered"),
    [
        (make_image("JPEG"), False),
        (make_image("JPEG", mode="L"), False),
        (make_image("JPEG", mode="CMYK"), False),
        (make_image("JPEG", progressive=True), True),
    ],
)
def test_it_is_told_whether_coefficients_are_gathered(data: bytes, gathered: bool) -> None:
    assert is_gathered(data) == gathered
    assert (count_scans(data) > 2) == gathered
    scan = data.index(b"\xff\xda") + 4
    if data[scan] > 1:
        assert is_gathered(data[:scan] + b"\1" + data[scan + 1 :])
    with pytest.raises((ImageError, ValueError, struct.error)):
        is_gathered(data[:100])


def with_scans(count: int) -> bytes:
    """A progressive JPEG with so many empty scans behind its own."""
    scan = struct.pack(">BBHBBBBBB", 0xFF, 0xDA, 8, 1, 1, 0, 1, 63, 0)
    return make_image("JPEG", progressive=True)[:-2] + scan * count + b"\xff\xd9"


def test_a_jpeg_may_have_many_scans_but_not_without_end() -> None:
    own = make_image("JPEG", progressive=True).count(b"\xff\xda")
    assert 2 < own < MAX_SCANS // 2
    essence(with_scans(MAX_SCANS - own), "jpeg")
    with pytest.raises(ImageError, match=f"more than {MAX_SCANS} scans"):
        essence(with_scans(MAX_SCANS - own + 1), "jpeg")


def test_scans_are_counted_behind_a_segment_that_looks_like_the_end() -> None:
    data = with_scans(MAX_SCANS)
    at = data.index(b"\xff\xda", data.index(b"\xff\xda") + 2)
    with pytest.raises(ImageError, match=f"more than {MAX_SCANS} scans"):
        decode(data[:at] + b"\xff\xfe\0\4\xff\xd9" + data[at:])


def test_what_follows_the_end_of_a_progressive_jpeg_is_not_counted() -> None:
    data = make_image("JPEG", progressive=True)
    assert np.array_equal(pixels(data + b"\xff\xda\0\2" * 1000), pixels(data))


def test_a_png_may_have_many_chunks_but_not_without_end() -> None:
    data = make_image("PNG")
    at = data.index(b"IDAT") - 4
    many = data[:at] + chunk(b"teSt", b"") * (MAX_CHUNKS - 3) + data[at:]
    assert np.array_equal(pixels(many), pixels(data))
    with pytest.raises(ImageError, match=f"more than {MAX_CHUNKS} chunks"):
        decode(many[:at] + chunk(b"teSt", b"") + many[at:])


def test_a_warning_of_pillow_is_an_error() -> None:
    with pytest.raises(Image.DecompressionBombWarning):
        Image.new("1", (1, 1)).crop((0, 0, 10_000, 9_000))
