"""What a file is by its first bytes: JPEG, PNG or WebP, or what else it looks like and what to do with it.

Nothing of a file's content ever stands in a message, and no more than ``LOOKED_AT`` of its bytes are looked at. Messages
hold no ": ", for lists of files that were left out are cut there.
"""

import re
import struct
from typing import Literal

from models.errors import ImageError, UnsupportedFormat
from models.image.texts import Looks, look_at_text, text_of

Format = Literal["jpeg", "png", "webp"]

FORMATS: tuple[Format, ...] = ("jpeg", "png", "webp")
LOOKED_AT = 4096  # bytes

PICTURE = "save it as JPEG or PNG"
HEIC = "save it as JPEG; an iPhone takes JPEG with Settings > Camera > Formats > Most Compatible"
DRAWING = "save it as PNG"
RAW = "develop it and save it as JPEG"
FILM = "save a frame of it as JPEG"
SOUND = "use an image"
DOCUMENT = "save its page or picture as PNG"
ARCHIVE = "unpack it and use the images in it"
NO_IMAGE = "leave it out"

# How files begin, by the way out and by what they are called
MAGIC: dict[str, dict[str, tuple[bytes, ...]]] = {
    PICTURE: {
        "GIF": (b"GIF87a", b"GIF89a"),
        "JPEG XL": (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"),
        "JPEG 2000": (b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  \r\n\x87\n"),
        "JPEG XR": (b"II\xbc\0", b"II\xbc\1"),
        "BigTIFF": (b"II+\0", b"MM\0+"),
        "PSD, of Photoshop": (b"8BPS\0",),
        "XCF, of GIMP": (b"gimp xcf",),
        "DDS": (b"DDS \x7c\0\0\0",),
        "QOI": (b"qoif",),
        "BPG": (b"BPG\xfb",),
        "ICNS, icons of a Mac": (b"icns\0",),
        "JNG": (b"\x8bJNG\r\n\x1a\n",),
        "MNG": (b"\x8aMNG\r\n\x1a\n",),
        "OpenEXR": (b"v/1\x01",),
        "Radiance HDR": (b"#?RADIANCE", b"#?RGBE"),
        "SGI": (b"\x01\xda\0", b"\x01\xda\1"),
        "Sun raster": (b"\x59\xa6\x6a\x95",),
        "FITS": (b"SIMPLE  =",),
        "DjVu": (b"AT&TFORM",),
        "NPY, an array of NumPy": (b"\x93NUMPY",),
    },
    RAW: {
        "ORF, a camera's raw file": (b"IIRO", b"IIRS", b"MMOR"),
        "RW2, a camera's raw file": (b"IIU\0",),
        "RAF, a camera's raw file": (b"FUJIFILMCCD-RAW",),
        "X3F, a camera's raw file": (b"FOVb",),
        "MRW, a camera's raw file": (b"\0MRM",),
    },
    DRAWING: {"PostScript": (b"%!PS",), "EPS": (b"\xc5\xd0\xd3\xc6",), "WMF": (b"\xd7\xcd\xc6\x9a",)},
    DOCUMENT: {"PDF": (b"%PDF",), "an office document or Thumbs.db": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",)},
    FILM: {
        "MKV or WebM, a film": (b"\x1aE\xdf\xa3",),
        "FLV, a film": (b"FLV\x01",),
        "WMV, a film": (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",),
        "MPEG, a film": (b"\0\0\1\xba", b"\0\0\1\xb3"),
    },
    SOUND: {
        "MP3, sound": (b"ID3\x02", b"ID3\x03", b"ID3\x04", b"\xff\xfb", b"\xff\xf3", b"\xff\xf2"),
        "FLAC, sound": (b"fLaC",),
        "OGG, sound or a film": (b"OggS\0",),
    },
    ARCHIVE: {
        "gzip (SVGZ is such a file)": (b"\x1f\x8b",),
        "bzip2": (b"BZh91AY&SY",),
        "xz": (b"\xfd7zXZ\0",),
        "Zstandard": (b"\x28\xb5\x2f\xfd",),
        "RAR": (b"Rar!\x1a\x07",),
        "7z": (b"7z\xbc\xaf\x27\x1c",),
        "HDF5": (b"\x89HDF\r\n\x1a\n",),
    },
    NO_IMAGE: {
        "a program": (b"\x7fELF",),
        "AppleDouble, a Mac's notes on another file": (b"\0\5\x16\7",),
        ".DS_Store, a Mac's notes on a folder": (b"\0\0\0\1Bud1",),
    },
}
LATER_MAGIC = (  # and what stands further on: offset, bytes, name, way out
    (6, b"HEAPCCDR", "CRW, a camera's raw file", RAW),
    (40, b" EMF", "EMF", DRAWING),
    (128, b"DICM", "DICOM", PICTURE),
    (257, b"ustar", "TAR", ARCHIVE),
)
RIFF = {b"AVI ": ("AVI, a film", FILM), b"WAVE": ("WAV, sound", SOUND), b"ACON": ("ANI, an animated cursor", PICTURE)}
FORM = {b"AIFF": ("AIFF, sound", SOUND), b"AIFC": ("AIFF, sound", SOUND), b"ILBM": ("ILBM", PICTURE)}

# By the brand of a box "ftyp" (ISO/IEC 14496-12, section 4.3; mp4ra.org). Generic ones say only that it is a still image
GENERIC = {b"mif1", b"mif2", b"msf1", b"miaf"}
BRANDS: dict[bytes, tuple[str, str]] = {
    **dict.fromkeys((b"avif", b"avis", b"MA1A", b"MA1B"), ("AVIF", PICTURE)),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"), ("HEIC", HEIC)),
    b"crx ": ("CR3, a camera's raw file", RAW),
    b"jxl ": ("JPEG XL", PICTURE),
    **dict.fromkeys((b"jp2 ", b"jpx ", b"jpm ", b"jph ", b"mjp2"), ("JPEG 2000", PICTURE)),
    b"qt  ": ("QuickTime, a film", FILM),
    **dict.fromkeys((b"M4A ", b"M4B ", b"M4P "), ("M4A, sound", SOUND)),
    **dict.fromkeys((b"isom", b"mp41", b"mp42", b"avc1", b"M4V ", b"M4VH", b"M4VP", b"f4v ", b"dash"), ("MP4, a film", FILM)),
}
FILM_BRANDS = re.compile(rb"iso.|3g[a-z0-9]{2}|mmp4|MSNV|XAVC")
OLD_QUICKTIME = (b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")  # boxes that a film without a brand begins with

BITMAP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)  # bytes, of BMP's versions
PORTABLE = re.compile(rb"P[1-6](?:\s|#[^\n]*\n)+\d+(?:\s|#[^\n]*\n)+\d+\s|P7\s+(?:#|WIDTH|HEIGHT|\d)|P[Ff]\s+\d+\s+\d+\s")
OFFICE = (b"[Content_Types].xml", b"_rels/", b"docProps/", b"word/", b"xl/", b"ppt/", b"mimetype")
SUB_DIRECTORIES, DNG_VERSION, MAKE = 0x014A, 0xC612, 0x010F  # tags of TIFF
MAX_TAGS = 256
AS_TEXT = {  # how the first bytes of an image come out of a program that takes them for text
    b"\xef\xbf\xbdPNG": "PNG",
    b"\xc2\x89PNG": "PNG",
    b"\xe2\x80\xb0PNG": "PNG",
    b"\x89PNG": "PNG",
    b"\xc3\xbf\xc3\x98\xc3\xbf": "JPEG",
    b"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd": "JPEG",
}
BEGINNING = re.compile(rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|RIFF....WEBP", re.DOTALL)


def sniff(data: bytes) -> Format:
    """Format by magic bytes; raises UnsupportedFormat, naming the format where it is a known one."""
    if (format := _accepted(data)) is not None:
        return format
    if not data:
        raise ImageError("the image is empty (0 bytes); send the bytes of a JPEG, PNG or WebP file")
    what, way_out = _look_at(data[:LOOKED_AT])
    raise UnsupportedFormat(f"the file {what}; accepted are JPEG, PNG and WebP, recognised by their first bytes; {way_out}")


def _accepted(data: bytes) -> Format | None:
    if data[:3] == b"\xff\xd8\xff":
        return "jpeg"
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return "png"
    return "webp" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else None


def _look_at(data: bytes) -> Looks:
    if (found := _named(data)) is not None:
        return Looks(f"looks like {found[0]}", found[1])
    if (text := text_of(data)) is not None:
        return look_at_text(text, name_of)
    if (later := _begins_later(data)) is not None:
        return later
    if (found := _guessed(data)) is not None:
        return Looks(f"looks like {found[0]}", found[1])
    if not any(data):
        return Looks("begins with nothing but zeros", "fetch or copy it again")
    return Looks("is no image format known here", PICTURE)


def name_of(data: bytes) -> str | None:
    """What the format is called, where the first bytes tell it for sure."""
    if (format := _accepted(data)) is not None:
        return "WebP" if format == "webp" else format.upper()
    found = _named(data)
    return found[0] if found else None


def _named(data: bytes) -> tuple[str, str] | None:
    """Name and way out of a file whose first bytes leave no doubt."""
    for way_out, formats in MAGIC.items():
        for name, magic in formats.items():
            if data.startswith(magic):
                return name, way_out
    for at, later, name, way_out in LATER_MAGIC:
        if data.startswith(later, at):
            return name, way_out
    if data[:4] == b"RIFF":
        return RIFF.get(data[8:12])
    if data[:4] == b"FORM":
        return FORM.get(data[8:12])
    if data[4:8] == b"ftyp":
        return _of_brands(data)
    if data[:4] in (b"II*\0", b"MM\0*"):
        return _of_tags(data)
    if data[:4] in (b"PK\3\4", b"PK\5\6"):
        return ("an office document", DOCUMENT) if data.startswith(OFFICE, 30) else ("ZIP", ARCHIVE)
    if PORTABLE.match(data):
        return "PNM (PBM, PGM, PPM, PAM or PFM)", PICTURE
    if data[:2] == b"BM" and int.from_bytes(data[14:18], "little") in BITMAP_HEADERS:
        return "BMP", PICTURE
    return _of_icons(data)


def _of_brands(data: bytes) -> tuple[str, str]:
    """The first brand that says what it is; the ones after the main brand count where that is generic or unknown."""
    size = min(int.from_bytes(data[:4], "big"), len(data))
    brands = [data[8:12], *(data[at : at + 4] for at in range(16, size - 3, 4))]
    for brand in brands:
        if brand in BRANDS:
            return BRANDS[brand]
        if FILM_BRANDS.match(brand):
            return ("3GP, a film", FILM) if brand[:2] == b"3g" else ("MP4, a film", FILM)
    return ("HEIF", HEIC) if GENERIC.intersection(brands) else ("MP4 or HEIF of an unknown brand", PICTURE)


def _of_tags(data: bytes) -> tuple[str, str]:
    """TIFF, or one of the raw files of cameras that are TIFF: with a version of DNG, or a maker and directories below."""
    if data[8:10] == b"CR":
        return "CR2, a camera's raw file", RAW
    order = "<" if data[:2] == b"II" else ">"
    try:
        (at,) = struct.unpack_from(f"{order}I", data, 4)
        (count,) = struct.unpack_from(f"{order}H", data, at)
        places = range(at + 2, at + 2 + 12 * min(count, MAX_TAGS), 12)
        tags = {struct.unpack_from(f"{order}H", data, place)[0] for place in places if place + 2 <= len(data)}
    except struct.error:
        tags = set[int]()
    if DNG_VERSION in tags:
        return "DNG, a camera's raw file", RAW
    return ("a camera's raw file, such as NEF or ARW", RAW) if {SUB_DIRECTORIES, MAKE} <= tags else ("TIFF", PICTURE)


def _of_icons(data: bytes) -> tuple[str, str] | None:
    """ICO or CUR: a count of pictures, and of the first one a byte that is 0 and a place after the list."""
    if data[:4] not in (b"\0\0\1\0", b"\0\0\2\0") or len(data) < 22:
        return None
    count, unused, place = struct.unpack_from("<H3xB8xI", data, 4)
    if not count or unused or place < 6 + 16 * count:
        return None
    return ("ICO, an icon" if data[2] == 1 else "CUR, a cursor"), PICTURE


def _guessed(data: bytes) -> tuple[str, str] | None:
    """Of a file without magic bytes, the format whose header it would be."""
    if data[4:8] in OLD_QUICKTIME and (data[0] == 0 or data[4:8] == b"mdat"):
        return "QuickTime, a film", FILM
    if data[0] == 0x47 and data[188:189] == data[376:377] == b"G":
        return "MPEG, a film", FILM
    if data[:1] == b"\x0a" and data[1:2] in b"\0\2\3\4\5" and data[2:3] == b"\1" and data[3:4] in b"\1\2\4\x08":
        return "PCX", PICTURE
    return ("TGA", PICTURE) if _is_targa(data) else None


def _is_targa(data: bytes) -> bool:
    """Truevision's specification 2.0, "TGA file header"."""
    if len(data) < 18:
        return False
    mapped, kind, map_depth, width, height, depth, flags = struct.unpack_from("<xBB4xB4xHHBB", data)
    map_fits = map_depth in (15, 16, 24, 32) if mapped == 1 else mapped == map_depth == 0
    of_map = kind in (1, 9)
    depths = (8, 16) if of_map or kind in (3, 11) else (15, 16, 24, 32)
    return (
        kind in (1, 2, 3, 9, 10, 11)
        and map_fits
        and of_map <= mapped
        and depth in depths
        and min(width, height) > 0
        and flags < 64
    )


def _begins_later(data: bytes) -> Looks | None:
    """An image that was read as text, or one with something before it."""
    for start, name in AS_TEXT.items():
        if data.startswith(start):
            return Looks(f"is a {name} file that was read or sent as text, which changes it", "read and send it as bytes")
    if data[:4] == b"RIFF" and b"WEBP" in data[:24]:
        return Looks("is a WebP file that was read or sent as text, which changes it", "read and send it as bytes")
    found = BEGINNING.search(data)
    if found is None:
        return None
    before = data[: found.start()]
    others = "1 other byte" if len(before) == 1 else f"{len(before)} other bytes"
    begins = f"a {name_of(data[found.start() :])} file begins after {others}"
    if b"content-disposition" in before.lower():
        return Looks(f"is a form, in which {begins}", "send a form as multipart/form-data with its boundary, or the file alone")
    if before.startswith(b"HTTP/"):
        return Looks(f"is an answer of HTTP with its head; {begins}", "leave the head out")
    return Looks(f"is no image from its first byte on; {begins}", "leave out what stands before it")
