"""Image bytes -> upright RGB -> (height, width, 3) uint8. The only decoder and resizer of the project.

Training's evaluation, the golden inputs of a package and the service all call it, so what was measured is what
is served. Neighbours: input.py says the geometry, service/decode.py puts the limits of the service around it,
fingerprint.py notices changes, benchmarks/decode.py compares other ways.
"""

import struct
from dataclasses import dataclass
from io import BytesIO
from typing import Literal

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from models.input import InputSpec

Pixels = NDArray[np.uint8]  # (height, width, 3), RGB
Format = Literal["jpeg", "png", "webp"]

FORMATS: tuple[Format, ...] = ("jpeg", "png", "webp")
MAX_PIXELS = 178_956_970  # Pillow's own error threshold; callers that serve strangers pass a lower one
# libjpeg can decode at 1/8, 1/4 or 1/2 of the size for much less work. It does so where that leaves MARGIN times the
# pixels that the resize asks for. Networks resized to fewer than SCALED_FROM pixels see whole images: their answers
# depend on every pixel. The margin is the boldest that kept 99.9 % of the labels: benchmarks/DECODE.md.
MARGIN = 3
SCALED_FROM = 128
UNCOPIED_FROM = 1_000_000  # pixels; below, to copy them costs less than to resize a fourth channel
BACKGROUND = (255, 255, 255)  # transparent pixels are shown on white, as most pages show them
ORIENTATION_TAG = 0x0112  # EXIF 2.3, section 4.6.4 A
UPRIGHT = {  # what undoes each orientation; 1 is upright already
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
TURNED = (5, 6, 7, 8)  # the orientations that exchange width and height
# What Pillow raises for damaged files; AssertionError for a PNG that lacks its palette.
DAMAGED = (OSError, ValueError, SyntaxError, EOFError, AssertionError, struct.error, Image.DecompressionBombError)
RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
OTHER_FORMATS = (
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"%PDF", "PDF"),
    (b"<svg", "SVG"),
    (b"<?xml", "XML or SVG"),
)


class ImageError(ValueError):
    """An image that cannot be used; ``str()`` says why and what would do."""


class UnsupportedFormat(ImageError):
    """The bytes are not a JPEG, PNG or WebP file."""


class ImageTooLarge(ImageError):
    """The header announces more pixels than the caller allows; nothing was decoded."""


@dataclass(frozen=True)
class Header:
    """What the first bytes of an image file announce. Lengths in pixels, before EXIF rotation."""

    format: Format
    width: int
    height: int

    @property
    def pixels(self) -> int:
        return self.width * self.height


@dataclass(frozen=True)
class Stored:
    """Pixels as a file stores them, not turned upright yet.

    image: RGB, or RGBX, whose fourth byte means nothing.
    orientation: 1 to 8, as EXIF counts them.
    overhang: how much of the last column and of the last row is no part of the picture, in pixels below 1. A side of
    375 pixels that is decoded at 1/2 is 187.5 pixels long and fills 188.
    """

    image: Image.Image
    orientation: int = 1
    overhang: tuple[float, float] = (0.0, 0.0)


def sniff(data: bytes) -> Format:
    """Format by magic bytes; raises UnsupportedFormat, naming the format where it is a known one."""
    if data[:3] == b"\xff\xd8\xff":
        return "jpeg"
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return "png"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    if not data:
        raise ImageError("the image is empty (0 bytes); send the bytes of a JPEG, PNG or WebP file")
    start = data[:64].lstrip()
    name = next((name for magic, name in OTHER_FORMATS if start.startswith(magic)), None)
    if data[4:8] == b"ftyp":
        name = "HEIC, AVIF or a film"
    what = f"looks like {name}" if name else "is no image format known here"
    raise UnsupportedFormat(f"the file {what}; accepted are JPEG, PNG and WebP, recognised by their first bytes")


def read_header(data: bytes) -> Header:
    """Format and size from the header alone, without allocating pixels.

    Raises:
        UnsupportedFormat: not JPEG, PNG or WebP.
        ImageError: empty, or the header is damaged.
    """
    kind = sniff(data)
    try:
        width, height = {"jpeg": _jpeg_size, "png": _png_size, "webp": _webp_size}[kind](data)
    except (ValueError, struct.error) as err:
        raise ImageError(f"the {kind.upper()} header is damaged or cut off") from err
    if width < 1 or height < 1:
        raise ImageError(f"the {kind.upper()} header announces {width}x{height} pixels; both sides must be at least 1")
    return Header(kind, width, height)


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Walk the segments to the frame header (ITU-T T.81, B.2.2)."""
    at = 2
    while True:
        marker, length = struct.unpack_from(">HH", data, at)
        if marker == 0xFFFF:  # fill byte
            at += 1
        elif 0xFFC0 <= marker <= 0xFFCF and marker not in (0xFFC4, 0xFFC8, 0xFFCC):
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        elif marker < 0xFFC0 or length < 2:
            raise ValueError("not a segment")
        else:
            at += 2 + length


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


def decode(data: bytes, max_pixels: int = MAX_PIXELS, spec: InputSpec | None = None) -> Stored:
    """8-bit RGB pixels from the bytes of a JPEG, PNG or WebP file; of an animation, its first frame.

    Transparency is composited on white, 16-bit grey is scaled to 8 bits, CMYK and palettes are converted; ICC profiles
    are ignored. Given a spec, a JPEG that is much larger than it needs is decoded at a fraction of its size.

    Raises:
        UnsupportedFormat, ImageTooLarge, ImageError: see those.
    """
    header = read_header(data)
    if header.pixels > max_pixels:
        raise ImageTooLarge(f"image has {header.pixels} pixels ({header.width}x{header.height}), the limit is {max_pixels}")
    try:
        with Image.open(BytesIO(data), formats=FORMATS) as image:
            if image.size != (header.width, header.height):
                raise ImageError(f"the {header.format.upper()} file announces two different sizes")
            if header.format != "jpeg":
                return Stored(_to_rgb(image), _orientation(image))
            n = denominator(header, spec)
            rgb = _decode_jpeg(data, image, n)
            overhang = (rgb.width - header.width / n, rgb.height - header.height / n)
            return Stored(rgb, _orientation(image), overhang)
    except ImageError:
        raise
    except DAMAGED as err:
        raise ImageError(f"the {header.format.upper()} file is damaged or cut off and cannot be decoded") from err


def denominator(header: Header, spec: InputSpec | None) -> int:
    """A JPEG is decoded at one over this of its size: 1, 2, 4 or 8. "nearest" takes pixels as they are, so the whole."""
    if spec is None or spec.resize < SCALED_FROM or spec.interpolation == "nearest":
        return 1
    side = min(header.width, header.height)
    return next((n for n in (8, 4, 2) if side >= n * MARGIN * spec.resize), 1)


def _decode_jpeg(data: bytes, image: Image.Image, n: int) -> Image.Image:
    """1/n of the size, sides rounded up. libjpeg-turbo for grey and YCbCr; Pillow for the rest (CMYK, odd files).

    It writes the four bytes a pixel that Pillow works with. Pillow takes a buffer over if it is to resize all four, and
    copies it if only three.
    """
    width, height = -(-image.width // n), -(-image.height // n)
    least = (width, height) if n > 1 else (0, 0)  # what is decoded is the smallest that is at least so large
    if image.mode in ("L", "RGB"):
        try:
            array = simplejpeg.decode_jpeg(data, colorspace="RGBX", min_width=least[0], min_height=least[1])
            if width * height < UNCOPIED_FROM:
                return Image.frombytes("RGB", (width, height), array, "raw", "RGBX")
            return Image.frombuffer("RGBX", (width, height), array, "raw", "RGBX", 0, 1)
        except ValueError:
            pass  # a warning of libjpeg is an error there; Pillow tells harmless ones from cut-off files
    if n > 1:
        image.draft(None, (image.width // n, image.height // n))
    return _to_rgb(image)


def _to_rgb(image: Image.Image) -> Image.Image:
    image.load()
    if image.mode.startswith("I;16") or image.mode == "I":  # 16-bit grey: Pillow would clip at 255
        grey = np.asarray(image).astype(np.uint32)
        grey *= 255
        grey += 32767
        grey //= 65535
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        rgba = image if image.mode == "RGBA" else image.convert("RGBA")
        canvas = Image.new("RGB", rgba.size, BACKGROUND)
        canvas.paste(rgba, mask=rgba)
        return canvas
    return image if image.mode == "RGB" else image.convert("RGB")


def _orientation(image: Image.Image) -> int:
    """EXIF orientation; 1 where there is none or one that does not exist, or where the EXIF data are damaged."""
    try:
        orientation = image.getexif().get(ORIENTATION_TAG)
    except DAMAGED:
        return 1
    return orientation if orientation in UPRIGHT else 1


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """RGB without a fourth byte, turned and mirrored as it is meant to be seen."""
    rgb = image if image.mode == "RGB" else image.convert("RGB")
    return rgb if orientation == 1 else rgb.transpose(UPRIGHT[orientation])


def fit(stored: Stored, spec: InputSpec) -> Pixels:
    """Resize the shorter side to ``spec.resize`` and cut out the centre: (spec.height, spec.width, 3) uint8, upright.

    Both steps are one resampling of the matching box of the source, antialiased when it shrinks. The result is turned
    upright, not the source: it is smaller.
    """
    image = stored.image
    size = (spec.height, spec.width) if stored.orientation in TURNED else (spec.width, spec.height)
    width, height = image.width - stored.overhang[0], image.height - stored.overhang[1]
    side = min(width, height)
    # Multiplied before divided: a crop as large as the resized side is then exactly the side, never a hair more.
    box_width, box_height = size[0] * side / spec.resize, size[1] * side / spec.resize
    left, top = (width - box_width) / 2, (height - box_height) / 2
    box = (left, top, left + box_width, top + box_height)
    if box != (0.0, 0.0, *map(float, size)) or image.size != size:
        image = image.resize(size, RESAMPLING[spec.interpolation], box=box)
    return np.asarray(upright(image, stored.orientation))


def preprocess(data: bytes, spec: InputSpec, max_pixels: int = MAX_PIXELS) -> Pixels:
    """Bytes of an image file -> (spec.height, spec.width, 3) uint8 RGB, ready to be stacked into a batch.

    Raises:
        ImageError: and its kinds, as ``decode``.
    """
    return fit(decode(data, max_pixels, spec), spec)
