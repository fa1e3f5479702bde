"""What an image file says of itself before its pixels: format, size, orientation, and which of its bytes are needed.

Pillow's readers unpack profiles, texts and EXIF directories on opening, however large they say they are. So it is given
files without them: ``essence``. Every loop over a file has a limit, for files come from strangers. Neighbours:
preprocess.py decodes.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from models.errors import ImageError
from models.formats import Format, sniff

MAX_SEGMENTS = 2048  # of a JPEG before its pixels, of 64 KiB at most; a profile of 16 MB takes 255
MAX_SCANS = 100  # of a JPEG; each costs a pass over all of its pixels. Progressive ones have about 10
MAX_CHUNKS = 16_384  # of a PNG; libpng writes one for each 8 KiB
ORIENTATION_TAG = 0x0112  # EXIF 2.3, section 4.6.4 A
INTEGERS = {1: "B", 3: "H", 4: "I"}  # the types of TIFF that an orientation may have

# Of JPEG (ITU-T T.81, table B.1)
MARKER = re.compile(rb"\xff[^\x00\xff]")
AFTER_PIXELS = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # restart markers stand among pixels
ALONE = {0x01, *range(0xD0, 0xD9)}  # markers without a segment
START_OF_FRAME = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
PROGRESSIVE = {0xC2, 0xC6, 0xCA, 0xCE}
START_OF_SCAN, END_OF_IMAGE, APP1, COMMENT = 0xDA, 0xD9, 0xE1, 0xFE
JPEG_UNREAD = {*range(0xE1, 0xEE), 0xEF, COMMENT}  # not JFIF's and Adobe's segments: they say how colours are stored

# Of PNG: profile, texts, EXIF, and the further frames of an animation
PNG_UNREAD = {b"iCCP", b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"acTL", b"fcTL", b"fdAT"}


@dataclass(frozen=True)
class Header:
    """What the first bytes of an image file announce. Lengths in pixels, before EXIF rotation."""

    format: Format
    width: int
    height: int

    @property
    def pixels(self) -> int:
        return self.width * self.height


def read_header(data: bytes) -> Header:
    """Format and size from the header alone, without allocating pixels.

    Raises:
        UnsupportedFormat: not JPEG, PNG or WebP.
        ImageError: empty, or the header is damaged.
    """
    kind = sniff(data)
    try:
        width, height = {"jpeg": _jpeg_size, "png": _png_size, "webp": _webp_size}[kind](data)
    except ImageError:
        raise
    except (ValueError, struct.error) as err:
        raise ImageError(f"the {kind.upper()} header is damaged or cut off") from err
    if width < 1 or height < 1:
        raise ImageError(f"the {kind.upper()} header announces {width}x{height} pixels; both sides must be at least 1")
    return Header(kind, width, height)


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of each segment of a JPEG (ITU-T T.81, B.1.1.4); as libjpeg does, it passes over what is between."""
    at = 2
    for _ in range(MAX_SEGMENTS):
        found = MARKER.search(data, at)
        if found is None or data[found.end() - 1] == END_OF_IMAGE:
            raise ValueError("no further segment")
        at = found.end()
        if (marker := data[at - 1]) not in ALONE:
            (length,) = struct.unpack_from(">H", data, at)
            if length < 2:
                raise ValueError("not a segment")
            at += length
            yield marker, found.start(), at
    raise ImageError(f"the JPEG file has more than {MAX_SEGMENTS} segments before its pixels; send it without metadata")


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """From the frame header (B.2.2)."""
    start = next(start for marker, start, _ in _segments(data) if marker in START_OF_FRAME)
    height, width = struct.unpack_from(">HH", data, start + 5)
    return width, height


def _png_size(data: bytes) -> tuple[int, int]:
    if data[12:16] != b"IHDR":
        raise ValueError("no IHDR")
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def _webp_size(data: bytes) -> tuple[int, int]:
    """Canvas size (RFC 9649, sections 2.5 to 2.7)."""
    chunk = data[12:16]
    if chunk == b"VP8X":
        low_w, high_w, low_h, high_h = struct.unpack_from("<HBHB", data, 24)
        return 1 + low_w + (high_w << 16), 1 + low_h + (high_h << 16)
    if chunk == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if chunk == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    raise ValueError("unknown chunk")


def essence(data: bytes, kind: Format) -> tuple[bytes, bytes]:
    """The file without what its pixels do not depend on, and its EXIF data (empty where there are none). Of a WebP the
    whole file and nothing, for its reader unpacks no more than it is asked for.

    Raises:
        ImageError: it has more parts than an honest file.
        ValueError, struct.error: it is damaged.
    """
    if kind == "jpeg":
        return _jpeg_essence(data)
    return _png_essence(data) if kind == "png" else (data, b"")


def _jpeg_essence(data: bytes) -> tuple[bytes, bytes]:
    view = memoryview(data)
    kept, exif = [view[:2]], b""
    components, progressive = 0, False
    for marker, start, end in _segments(data):
        if marker == START_OF_SCAN:
            if progressive or struct.unpack_from("B", data, start + 4)[0] < components:
                _check_scans(data, end)
            kept.append(view[start:])
            break
        if marker in START_OF_FRAME:
            components, progressive = struct.unpack_from("B", data, start + 9)[0], marker in PROGRESSIVE
        elif marker == APP1 and not exif and data[start + 4 : start + 10] == b"Exif\0\0":
            exif = data[start + 10 : end]
        if marker not in JPEG_UNREAD:
            kept.append(view[start:end])
    return b"".join(kept), exif


def _check_scans(data: bytes, at: int) -> None:
    """Raises ImageError for a JPEG whose pixels come in more scans than an honest one's."""
    scans = 1
    for _ in range(MAX_SEGMENTS):
        found = AFTER_PIXELS.search(data, at)
        if found is None or data[found.end() - 1] == END_OF_IMAGE:
            return
        scans += data[found.end() - 1] == START_OF_SCAN
        if scans > MAX_SCANS:
            break
        at = found.end() + int.from_bytes(data[found.end() : found.end() + 2], "big")
    raise ImageError(f"the JPEG file has more than {MAX_SCANS} scans or too many segments among them; save it anew")


def _png_essence(data: bytes) -> tuple[bytes, bytes]:
    view = memoryview(data)
    kept, exif = list[memoryview](), b""
    start = at = 8
    for _ in range(MAX_CHUNKS):
        if at + 8 > len(data):  # the end, or cut off
            break
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if kind in PNG_UNREAD:
            if kind == b"eXIf":
                exif = exif or data[at + 8 : end - 4]
            kept.append(view[start:at])
            start = end
        at = end
        if kind == b"IEND":
            break
    else:
        raise ImageError(f"the PNG file has more than {MAX_CHUNKS} chunks; save it anew")
    return (b"".join([view[:8], *kept, view[start:]]), exif) if kept else (data, exif)


def orientation_in(exif: bytes) -> int | None:
    """What EXIF data say of the orientation, one of 1 to 8 where they are right; None where they say nothing."""
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return None
    try:
        (directory,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, directory)
        for at in range(directory + 2, directory + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(f"{order}HH", tiff, at)
            if tag == ORIENTATION_TAG and kind in INTEGERS:
                return struct.unpack_from(order + INTEGERS[kind], tiff, at + 8)[0]
    except struct.error:
        pass
    return None
