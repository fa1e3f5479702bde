"""What an image file says of itself before its pixels: format, size, orientation, and which of its bytes are needed.

Pillow's readers unpack profiles, texts and EXIF directories on opening, however large they say they are. So it is given files
without them: ``essence``. Every loop over a file has a limit, for files come from strangers.
"""

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from models.errors import CutOff, ImageError
from models.image.formats import Format, sniff

MAX_SEGMENTS = 1024  # of a JPEG before its pixels, of 64 KiB at most; a profile of 16 MB takes 255
MAX_BETWEEN = 1024 * 1024  # bytes between these segments that belong to none; honest files have few or none
MAX_SCANS = 100  # of a JPEG; each costs a pass over all of its pixels. Progressive ones have about 10
PART = 256 * 1024  # bytes that are searched at a time, as no other thread has its turn meanwhile
MAX_CHUNKS = 16_384  # of a PNG; libpng writes one for each 8 KiB
ORIENTATION_TAG = 0x0112  # EXIF 2.3, section 4.6.4 A
INTEGERS = {1: "B", 3: "H", 4: "I"}  # the types of TIFF that an orientation may have

# Of JPEG (ITU-T T.81, table B.1)
MARKER = re.compile(rb"\xff[^\x00\xff]")
AFTER_PIXELS = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # restart markers stand among pixels
ALONE = {0x01, *range(0xD0, 0xD9)}  # markers without a segment
UNREAD_PROCESSES = dict.fromkeys((0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF, 0xDE), "hierarchical") | {
    0xCB: "lossless and arithmetic-coded",
    0xF7: "JPEG-LS",
}
START_OF_FRAME = {0xC0, 0xC1, 0xC2, 0xC3, 0xC9, 0xCA, *UNREAD_PROCESSES}
PROGRESSIVE = {0xC2, 0xCA}
FRAME = re.compile(rb"\xff([\xc0-\xc3\xc9\xca])\x00[\x0b\x11\x14]\x08")  # of 1, 3 or 4 channels of 8 bits, which are read
ARITHMETIC = (b"\xc9", b"\xca")
RESTART, START_OF_IMAGE, END_OF_IMAGE, START_OF_SCAN = 0xD0, 0xD8, 0xD9, 0xDA
JFIF, EXIF, ADOBE, COMMENT = 0xE0, 0xE1, 0xEE, 0xFE
SKIPPED = {*range(0xE0, 0xF0), COMMENT}  # what libjpeg passes over or only looks into
BEFORE_SCAN = {0xC4, 0xCC, 0xDB, 0xDC, 0xDD, START_OF_SCAN}
JPEG_UNREAD = SKIPPED - {JFIF, ADOBE}  # those say how colours are stored
SHORTEST = {JFIF: 18, ADOBE: 16}  # bytes, marker and length too; libjpeg passes over a shorter one
END = bytes((0xFF, END_OF_IMAGE))
SCAN = bytes((0xFF, START_OF_SCAN))
LEFT_OUT = 2
NOISE = bytes(range(0xFE, 0x80, -3))  # pixels like no others

# Of PNG (ISO 15948)
PALETTE = 3  # a colour type
TRANSPARENCY = {0: 2, 2: 6, PALETTE: 1}  # the bytes that tRNS has at least, by colour type


@dataclass(frozen=True)
class Header:
    """What the first bytes of an image file announce. Lengths in pixels, before EXIF rotation. channels: of a JPEG."""

    format: Format
    width: int
    height: int
    channels: int = field(default=0, compare=False)

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
        width, height, *channels = {"jpeg": _jpeg_size, "png": _png_size, "webp": _webp_size}[kind](data)
    except ImageError:
        raise
    except (ValueError, struct.error) as err:
        raise ImageError(f"the {kind.upper()} header is damaged or cut off; send all of the file, or save it again") from err
    if width < 1 or height < 1:
        raise ImageError(
            f"the {kind.upper()} header announces {width}x{height} pixels; both sides must be at least 1: save it again"
        )
    return Header(kind, width, height, *channels)


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of each segment of a JPEG (ITU-T T.81, B.1.1.4); as libjpeg does, it passes over what is between."""
    at, between = 2, MAX_BETWEEN
    for _ in range(MAX_SEGMENTS):
        found = MARKER.search(data, at, at + between + 2)
        if found is None and at + between + 2 < len(data):
            raise ImageError(f"the JPEG file has more than {MAX_BETWEEN} bytes between its segments; save it again")
        if found is None or data[found.end() - 1] == END_OF_IMAGE:
            raise ValueError("no further segment")
        between -= found.start() - at
        at = found.end()
        if (marker := data[at - 1]) not in ALONE:
            (length,) = struct.unpack_from(">H", data, at)
            if length < 2 and marker not in SKIPPED:
                raise ValueError("not a segment")
            at += max(length, 2)  # libjpeg takes 0 and 1 for an empty segment
            yield marker, found.start(), at
    raise ImageError(f"the JPEG file has more than {MAX_SEGMENTS} segments before its pixels; send it without metadata")


def _jpeg_size(data: bytes) -> tuple[int, int, int]:
    """Width, height and channels, from the frame header (B.2.2)."""
    marker, start = next((marker, start) for marker, start, _ in _segments(data) if marker in START_OF_FRAME)
    bits, height, width = struct.unpack_from(">BHH", data, start + 4)
    if marker in UNREAD_PROCESSES:
        raise ImageError(f"the JPEG file is {UNREAD_PROCESSES[marker]}, which is not read; save it again as baseline JPEG or PNG")
    if bits != 8:
        raise ImageError(f"the JPEG file has {bits} bits a sample, only 8 are read; save it again as 8-bit JPEG or PNG")
    return width, height, data[start + 9] if len(data) > start + 9 else 0


def is_gathered(data: bytes) -> bool:
    """Whether libjpeg holds a whole JPEG's coefficients: it is progressive, or its channels come one after the other.

    Raises:
        ImageError, ValueError, struct.error: it is damaged.
    """
    components = 0
    for marker, start, _ in _segments(data):
        if marker in PROGRESSIVE:
            return True
        if marker in START_OF_FRAME:
            (components,) = struct.unpack_from("B", data, start + 9)
        elif marker == START_OF_SCAN:
            return struct.unpack_from("B", data, start + 4)[0] < components
    raise ValueError("no scan")


def count_scans(data: bytes) -> int:
    """Of a JPEG's first mebibyte, about: what looks like a scan in its metadata counts too."""
    return data.count(SCAN, 0, 4 * PART)


def _png_size(data: bytes) -> tuple[int, int]:
    if data[12:16] == b"CgBI":
        raise ImageError(
            "the PNG file was rewritten by Xcode for Apple's devices (CgBI), which is not read; "
            "send the original, or restore it with pngcrush -revert-iphone-optimizations"
        )
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
        CutOff, ImageError: it has fewer parts than its pixels need, or more than an honest file.
        ValueError, struct.error: it is damaged.
    """
    if kind == "jpeg":
        return _jpeg_essence(data)
    return _png_essence(data) if kind == "png" else (data, b"")


def _jpeg_essence(data: bytes) -> tuple[bytes, bytes]:
    view = memoryview(data)
    kept, exif = [view[:2]], b""
    components, progressive, size = b"", False, b""
    for marker, start, end in _segments(data):
        if marker == START_OF_SCAN:
            several = progressive or struct.unpack_from("B", data, start + 4)[0] < len(components)
            kept.append(view[start : _check_scans(data, start, components, progressive) if several else None])
            break
        if marker in START_OF_FRAME:
            components, progressive = _components(data, start), marker in PROGRESSIVE
            if size and data[start + 5 : start + 9] != size:
                raise ImageError("the JPEG file announces two different sizes")
            size = data[start + 5 : start + 9]
        elif marker == EXIF and not exif and data[start + 4 : start + 10] == b"Exif\0\0":
            exif = data[start + 10 : end]
        if marker not in JPEG_UNREAD and end - start >= SHORTEST.get(marker, 0):
            kept.append(view[start:end])
    return b"".join(kept), exif


def _components(data: bytes, start: int) -> bytes:
    """The names of the colour channels in the frame header at ``start``, each a byte (B.2.2)."""
    (count,) = struct.unpack_from("B", data, start + 9)
    if count not in (1, 3, 4):
        raise ImageError(f"the JPEG file has {count} colour channels, only 1, 3 and 4 are read; save it again as RGB JPEG or PNG")
    return data[start + 10 : start + 10 + 3 * count : 3]


def _check_scans(data: bytes, start: int, components: bytes, progressive: bool) -> int:
    """Where the scans end whose first begins at ``start``, with the marker of the end if it is there.

    Raises ImageError for a JPEG whose pixels come in more scans than an honest one's, lack a channel, or end where another
    scan is about to begin.
    """
    scans, end = _scans(data, start)
    missing = set(components)
    for at in scans:
        (count,) = struct.unpack_from("B", data, at + 4)
        (first_coefficient,) = struct.unpack_from("B", data, at + 5 + 2 * count)
        if not progressive or first_coefficient == 0:  # others are the details of a channel (G.1.1.1.1)
            missing -= set(data[at + 5 : at + 5 + 2 * count : 2])
    if missing or (data[end + 1 : end + 2] and data[end + 1] in BEFORE_SCAN):
        raise CutOff("jpeg")
    return end + len(END) if data.startswith(END, end) else end


def _scans(data: bytes, at: int) -> tuple[list[int], int]:
    """Where each scan of a JPEG begins, the first one at ``at``, and where the last one ends."""
    scans = list[int]()
    for _ in range(MAX_SEGMENTS):
        found = _after_pixels(data, at)
        if found is None:
            return scans, len(data)
        start, marker = found.start(), data[found.end() - 1]
        at = found.end() + max(int.from_bytes(data[found.end() : found.end() + 2], "big"), 2)
        cut_off = at > len(data) and marker in BEFORE_SCAN | SKIPPED
        if marker in (END_OF_IMAGE, START_OF_IMAGE) or cut_off:
            return scans, start
        if marker == START_OF_SCAN:
            scans.append(start)
        if len(scans) > MAX_SCANS:
            break
    raise ImageError(f"the JPEG file has more than {MAX_SCANS} scans or too many segments among them; save it again")


def _after_pixels(data: bytes, at: int) -> re.Match[bytes] | None:
    """The first marker from ``at`` on that does not stand among pixels."""
    parts = (AFTER_PIXELS.search(data, begin, begin + PART + 1) for begin in range(at, len(data), PART))
    return next(filter(None, parts), None)


def is_arithmetic(data: bytes) -> bool:
    """Whether a JPEG is of a kind for whose missing pixels libjpeg takes zeros without a warning."""
    frame = FRAME.search(data)
    return frame is not None and frame[1] in ARITHMETIC


def endings(data: bytes) -> tuple[bytes, bytes]:
    """A JPEG that ends after its scans, and one that goes on with noise. If no pixel is missing, both show the same.

    Zeros come first, for an arithmetic coder leaves out those at the end (D.1.8).
    """
    start = next(start for marker, start, _ in _segments(data) if marker == START_OF_SCAN)
    body = data[: _scans(data, start)[1]].rstrip(b"\xff")
    last = max(body.rfind(bytes((0xFF, RESTART + i)), start) for i in range(8))
    following = body[last + 1] + 1 if last > 0 else 0
    noise = (NOISE + bytes((0xFF, RESTART + (following + i) % 8)) for i in range(8))  # so that restarts meet noise too
    return body + END, body + (bytes(LEFT_OUT) if is_arithmetic(data) else b"") + b"".join(noise) + END


def _png_essence(data: bytes) -> tuple[bytes, bytes]:
    view = memoryview(data)
    kept, exif = list[memoryview](), b""
    read = set[bytes]()
    start = at = 8
    for _ in range(MAX_CHUNKS):
        if at + 8 > len(data):  # the end, or cut off
            break
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if kind == b"eXIf":
            exif = exif or data[at + 8 : end - 4]
        if _is_unread(data, at, end, kind, read):
            kept.append(view[start:at])
            start = end
        else:
            read.add(kind)
        at = end
        if kind == b"IEND":
            break
    else:
        raise ImageError(f"the PNG file has more than {MAX_CHUNKS} chunks; save it again")
    return (b"".join([view[:8], *kept, view[start:]]), exif) if kept else (data, exif)


def _is_unread(data: bytes, at: int, end: int, kind: bytes, before: set[bytes]) -> bool:
    """Whether the pixels do not depend on a chunk of a PNG: as in browsers, on none that is ancillary but a sound tRNS."""
    if kind != b"tRNS":
        return kind.isalpha() and kind[:1].islower()  # ancillary
    if before & {b"tRNS", b"IDAT"} or end - at - 12 < TRANSPARENCY.get(data[25], len(data)):
        return True
    return zlib.crc32(data[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big")


def is_cut_off(data: bytes, kind: Format) -> bool:
    """Whether a file that cannot be decoded ends before it should by its own word."""
    if kind == "webp":
        return 8 + int.from_bytes(data[4:8], "little") > len(data)
    return (END if kind == "jpeg" else b"IEND") not in data


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
