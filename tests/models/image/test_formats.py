"""What a file that is no JPEG, PNG or WebP is called, and what its sender is told to do."""

import base64
import gzip
import struct
from collections.abc import Callable

import numpy as np
import pytest

from models.errors import ImageError, UnsupportedFormat
from models.image.formats import LOOKED_AT, sniff
from tests.factories import make_image

JPEG, PNG, WEBP = (make_image(format) for format in ("JPEG", "PNG", "WEBP"))
IMAGES = pytest.mark.parametrize(("name", "image"), [("JPEG", JPEG), ("PNG", PNG), ("WebP", WEBP)], ids=["jpeg", "png", "webp"])
ACCEPTED = "accepted are JPEG, PNG and WebP"


def said_of(data: bytes) -> str:
    with pytest.raises(UnsupportedFormat) as caught:
        sniff(data)
    said = str(caught.value)
    assert said.startswith("the file ")
    assert f"; {ACCEPTED}, recognised by their first bytes; " in said
    assert said.isprintable()
    assert ": " not in said
    return said


def box(brand: bytes, *compatible: bytes) -> bytes:
    """How a file in boxes begins: its brand, and those it is compatible with."""
    content = brand + bytes(4) + b"".join(compatible)
    return struct.pack(">I", 8 + len(content)) + b"ftyp" + content + struct.pack(">I", 16) + b"free" + bytes(8)


def tiff(order: str, *tags: int) -> bytes:
    """A TIFF whose first directory has these tags."""
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(tags))
    return start + b"".join(struct.pack(f"{order}HHII", tag, 4, 1, 1) for tag in tags) + bytes(4)


def zipped(name: bytes) -> bytes:
    """How a ZIP begins whose first file has this name."""
    return b"PK\x03\x04" + bytes(22) + struct.pack("<HH", len(name), 0) + name


def brands(*names: str) -> list[bytes]:
    return [name.encode() for name in names]


@pytest.mark.parametrize(
    ("what", "data"),
    [
        *(("HEIC", box(brand)) for brand in brands("heic", "heix", "hevc", "hevx", "heim", "heis")),
        ("HEIC", box(*brands("mif1", "mif1", "heic", "hevc"))),
        ("HEIC", box(*brands("msf1", "miaf", "hevc"))),
        ("HEIF", box(*brands("mif1", "miaf"))),
        ("HEIF", box(b"msf1")),
        *(("AVIF", box(brand)) for brand in brands("avif", "avis")),
        ("AVIF", box(*brands("mif1", "miaf", "avif"))),
        *(("MP4, a film", box(brand)) for brand in brands("isom", "iso5", "mp41", "mp42", "M4V ", "avc1", "dash")),
        ("MP4, a film", box(*brands("none", "isom"))),
        ("MP4, a film", box(*brands("isom", "heic"))),
        ("QuickTime, a film", box(b"qt  ")),
        ("QuickTime, a film", struct.pack(">I", 108) + b"moov" + bytes(100)),
        *(("3GP, a film", box(brand)) for brand in brands("3gp4", "3g2a")),
        ("M4A, sound", box(b"M4A ")),
        ("CR3, a camera's raw file", box(*brands("crx ", "crx ", "isom"))),
        ("JPEG XL", b"\0\0\0\x0cJXL \r\n\x87\n" + box(b"jxl ")),
        ("JPEG XL", box(b"jxl ")),
        ("MP4 or HEIF of an unknown brand", box(b"none")),
    ],
)
def test_files_in_boxes_are_told_apart_by_their_brands(what: str, data: bytes) -> None:
    assert f"looks like {what}; {ACCEPTED}" in said_of(data)


def test_a_box_that_says_it_is_long_is_read_to_the_end_of_what_is_looked_at() -> None:
    endless = b"\xff\xff\xff\xff" + b"ftypmif1" + bytes(4) + b"none" * LOOKED_AT
    assert "looks like HEIF" in said_of(endless)
    assert "looks like HEIF" in said_of(b"\0\0\0\0ftypmif1")


def test_the_photographs_of_an_iphone_come_with_the_setting_that_makes_them_jpeg() -> None:
    assert said_of(box(*brands("heic", "mif1"))).endswith(
        "save it as JPEG; an iPhone takes JPEG with Settings > Camera > Formats > Most Compatible"
    )


@pytest.mark.parametrize(
    ("what", "data"),
    [
        ("JPEG XL", b"\xff\x0a\xfa\x7f\x01"),
        ("JPEG 2000", make_image("JPEG2000")),
        ("JPEG 2000", make_image("JPEG2000", no_jp2=True)),
        ("JPEG XR", b"II\xbc\x01" + bytes(20)),
        ("ICO, an icon", make_image("ICO")),
        ("CUR, a cursor", b"\0\0\2\0\1\0\x10\x10\0\0\1\0\1\0" + struct.pack("<II", 100, 22) + bytes(100)),
        ("PSD, of Photoshop", b"8BPS\0\x01" + bytes(20)),
        ("DDS", make_image("DDS")),
        ("PNM", make_image("PPM")),
        ("PNM", b"P2\n# drawn by hand\n2 2\n255\n0 1 2 3\n"),
        ("PNM", b"P7\nWIDTH 2\nHEIGHT 2\nDEPTH 1\nMAXVAL 255\nENDHDR\n1234"),
        ("TGA", make_image("TGA")),
        ("TGA", make_image("TGA", mode="L")),
        ("TGA", make_image("TGA", mode="P", compression="tga_rle")),
        ("QOI", b"qoif" + struct.pack(">IIBB", 2, 2, 3, 0) + bytes(20)),
        ("PCX", make_image("PCX")),
        ("GIF", make_image("GIF")),
        ("BMP", make_image("BMP")),
        ("BMP", b"BM" + struct.pack("<IHHI", 38, 0, 0, 26) + struct.pack("<IHHHH", 12, 2, 2, 1, 24) + bytes(16)),
        ("TIFF", make_image("TIFF")),
        ("TIFF", tiff(">", 0x0100, 0x0101)),
        ("BigTIFF", make_image("TIFF", big_tiff=True)),
        ("CR2, a camera's raw file", b"II*\0\x10\0\0\0CR\x02\0" + bytes(30)),
        ("DNG, a camera's raw file", tiff("<", 0x00FE, 0x010F, 0xC612)),
        ("a camera's raw file, such as NEF or ARW", tiff(">", 0x00FE, 0x010F, 0x014A)),
        ("PDF", make_image("PDF")),
        ("PostScript", make_image("EPS")),
        ("EPS", b"\xc5\xd0\xd3\xc6" + bytes(30)),
        ("gzip", gzip.compress(b"<svg/>", mtime=0)),
        ("ZIP", zipped(b"photos/1.jpg")),
        ("an office document", zipped(b"[Content_Types].xml")),
        ("an office document", zipped(b"mimetype") + b"application/vnd.oasis.opendocument.text"),
        ("RAR", b"Rar!\x1a\x07\x01\0"),
        ("7z", b"7z\xbc\xaf\x27\x1c\0\4"),
        ("TAR", b"photo.jpg" + bytes(248) + b"ustar\x0000"),
        ("MP3, sound", b"ID3\x04\0\0\0\0\0\0"),
        ("MP3, sound", b"\xff\xfb\x90\x64" + bytes(20)),
        ("WAV, sound", b"RIFF\x10\0\0\0WAVEfmt "),
        ("AVI, a film", b"RIFF\x10\0\0\0AVI LIST"),
        ("OGG", b"OggS\0\x02" + bytes(20)),
        ("MKV or WebM, a film", b"\x1aE\xdf\xa3\x9fB\x86\x81\x01"),
        ("DICOM", bytes(128) + b"DICM\x02\0"),
        ("AppleDouble", b"\0\5\x16\7\0\2\0\0Mac OS X"),
    ],
    ids=lambda value: value if isinstance(value, str) else "file",  # some of which hold the time
)  # fmt: skip
def test_other_files_are_called_by_name(what: str, data: bytes) -> None:
    assert f"looks like {what}" in said_of(data)


DECLARED = '<?xml version="1.0" encoding="utf-8"?>\n<!-- made by hand -->\n'
DOCTYPE = '<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "svg11.dtd" [ <!ENTITY a "b"> ]>\n'


ROOTS = ('<svg xmlns="http://www.w3.org/2000/svg"/>', "<svg:svg>")


@pytest.mark.parametrize("before", ["", "\n  ", DECLARED, "<!-- a --><!-- <b> -->", DOCTYPE, DECLARED + DOCTYPE])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_drawing_is_known_whatever_stands_before_its_root(encoding: str, before: str) -> None:
    for root in ROOTS:
        assert "looks like SVG" in said_of((before + root).encode(encoding))


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_a_drawing_in_wide_characters_needs_no_byte_order_mark(encoding: str) -> None:
    assert "looks like SVG" in said_of((DECLARED + ROOTS[0]).encode(encoding))


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("looks like HTML", "<!DOCTYPE html>\n<html><head>"),
        ("looks like HTML", "\ufeff<!-- error --><HTML>"),
        ("looks like HTML", "<h1>502 Bad Gateway</h1>"),
        ("looks like XML", '<?xml version="1.0"?>\n<Error><Code>AccessDenied</Code></Error>'),
        ("looks like XML, SVG or HTML", "<!-- a comment without an end" + 2 * LOOKED_AT * " "),
        ("looks like JSON", '{"error": "not found"}'),
        ("looks like JSON", "[255, 216, 255, 224]"),
        ("is an address", "https://a.example/cat.jpg?x=1\n"),
        ("is an address", "file:///home/me/cat.jpg"),
        ("is the name of a file", "/home/me/my photographs/cat.JPG"),
        ("is the name of a file", "@cat.png"),
        ("is a data URL", "data:image/jpeg;base64," + base64.b64encode(JPEG).decode()),
        ("is a data URL", "data:image/svg+xml,%3Csvg/%3E"),
        ("looks like fields of a form", "image=iVBORw0KGgo&size=3"),
        ("is a pointer of Git LFS", "version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 3\n"),
        ("looks like text", "BM is how this text begins, and it is no bitmap"),
        ("looks like text", "hello"),
        ("looks like text", "P1 of 3 things"),
        ("looks like text", "the free world"),
        ("looks like text", "\u00e4\u00f6\u00fc"),
    ],
)
def test_text_in_place_of_an_image_is_called_what_it_is(what: str, text: str) -> None:
    assert f"the file {what}; {ACCEPTED}" in said_of(text.encode())


def test_text_that_is_no_utf8_is_text_all_the_same() -> None:
    assert "looks like HTML" in said_of("<p>Größe nicht gefunden</p>".encode("latin-1"))


def test_a_text_that_is_cut_within_a_character_is_text() -> None:
    assert "looks like text" in said_of(b"x" + "ä".encode() * LOOKED_AT)


@IMAGES
def test_an_image_written_as_text_is_known_with_its_format(name: str, image: bytes) -> None:
    encoded = base64.b64encode(image).decode()
    for text in (encoded, base64.encodebytes(image).decode(), f'"{encoded}"', base64.urlsafe_b64encode(image).decode()):
        assert f"the file is a {name} file in base64; {ACCEPTED}" in said_of(text.encode())
    assert f"the file is a {name} file in hexadecimal digits" in said_of(image.hex().encode())
    assert "the file is bytes as Python prints them" in said_of(repr(image).encode())


def test_base64_of_another_format_is_called_that() -> None:
    assert "is a HEIC file in base64" in said_of(base64.b64encode(box(b"heic", b"mif1") + bytes(100)))


@IMAGES
@pytest.mark.parametrize("before", [b"\n", b"\r\n", b"\xef\xbb\xbf", bytes(128), b"\x80" * (LOOKED_AT - 12)], ids=len)
def test_an_image_with_something_before_it_is_found_and_the_bytes_counted(before: bytes, name: str, image: bytes) -> None:
    count = "1 other byte" if len(before) == 1 else f"{len(before)} other bytes"
    assert f"a {name} file begins after {count}; {ACCEPTED}" in said_of(before + image)


@IMAGES
def test_an_image_in_a_form_or_an_answer_is_told_from_it(name: str, image: bytes) -> None:
    form = b'--x\r\nContent-Disposition: form-data; name="images"; filename="a"\r\n\r\n' + image + b"\r\n--x--\r\n"
    assert f"is a form, in which a {name} file begins after" in said_of(form)
    assert f"is an answer of HTTP with its head; a {name} file" in said_of(b"HTTP/1.1 200 OK\r\n\r\n" + image)


@IMAGES
@pytest.mark.parametrize(
    "changed",
    [lambda image: image.decode("utf-8", "replace").encode(), lambda image: image.decode("latin-1").encode()],
    ids=["as UTF-8", "as Latin-1"],
)
def test_an_image_that_went_through_a_text_is_known(changed: Callable[[bytes], bytes], name: str, image: bytes) -> None:
    assert f"is a {name} file that was read or sent as text" in said_of(changed(image))


def test_a_png_whose_line_ends_were_changed_is_known() -> None:
    assert "is a PNG file that was read or sent as text" in said_of(PNG.replace(b"\r\n", b"\n"))


def test_zeros_and_noise_are_called_no_format() -> None:
    assert "begins with nothing but zeros" in said_of(bytes(5000))
    noise = np.random.default_rng(0)
    for length in (1, 3, 17, 100, 5000):
        assert "is no image format known here; accepted" in said_of(b"\xfe" + noise.bytes(length))


def test_nothing_of_a_file_is_repeated() -> None:
    """Whatever comes after what gave a file its name."""
    secret = b"s3cr3t\x1b[31m\r\n<script>"
    for start in (
        b"<svg>",
        b'{"',
        b"https://",
        b"data:image/png;base64,",
        b"a=",
        b"\n" + JPEG,
        box(b"none") + secret[:4],
        b"RIFF",
    ):
        said = said_of(start + secret + b".jpg")
        assert "s3cr3t" not in said
        assert "script" not in said


def test_no_bytes_are_called_empty() -> None:
    with pytest.raises(ImageError, match=r"the image is empty \(0 bytes\)") as caught:
        sniff(b"")
    assert not isinstance(caught.value, UnsupportedFormat)


@IMAGES
def test_what_is_accepted_is_sniffed_as_before(name: str, image: bytes) -> None:
    assert sniff(image) == name.lower()
