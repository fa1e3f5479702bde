"""Image bytes -> upright RGB -> (height, width, 3) uint8. The only decoder and resizer of the project.

Training's evaluation, the golden inputs of a package and the service all call it, so what was measured is what is served.
"""

import struct
import warnings
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, ImageChops, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from models.errors import CutOff, ImageError
from models.image.header import END, PALETTE, Header, endings, essence, is_arithmetic, is_cut_off, orientation_in, read_header
from models.image.limits import LIMITS, Limits
from models.image.spec import InputSpec
from models.image.webp import decode_first

Pixels = NDArray[np.uint8]  # (height, width, 3), RGB

PLUGINS = (JpegImagePlugin, PngImagePlugin, WebPImagePlugin)  # imported here, or Pillow would load all it has to find them
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)  # for all threads, as only this can be
# libjpeg can decode at 1/8, 1/4 or 1/2 of the size for much less work. It does so where that leaves MARGIN times the
# pixels that the resize asks for. Networks resized to fewer than SCALED_FROM pixels see whole images: their answers
# depend on every pixel. The margin is the boldest that kept 99.9 % of the labels: benchmarks/DECODE.md.
MARGIN = 3
SCALED_FROM = 128
UNCOPIED_FROM = 1_000_000  # pixels; below, to copy them costs less than what is done to spare that
STRIP = 256  # rows that are compared at a time
BACKGROUND = (255, 255, 255)  # transparent pixels are shown on white, as most pages show them
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
# What libjpeg says where it has no pixels to show, and shows grey; and where it shows what the file has.
MISSING = ("premature end of data segment", "instead of RST")
SHOWN = (
    *("Corrupt JPEG data", "Premature end", "Invalid SOS parameters", "Inconsistent progression"),
    *("unknown JFIF revision", "Unknown Adobe color transform", "two SOI markers"),
)
# What Pillow raises for damaged files; AssertionError for a PNG that lacks its palette.
DAMAGED = (
    *(OSError, ValueError, SyntaxError, EOFError, AssertionError, struct.error),
    *(Image.DecompressionBombError, Image.DecompressionBombWarning),
)
RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True)
class Box:
    """A part of an upright image, in its pixels."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Placed:
    """What a network sees, (height, width, 3) uint8, and which part that is of the upright image of ``width`` x ``height``
    pixels."""

    pixels: Pixels
    width: int
    height: int
    seen: Box


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


def decode(data: bytes, limits: Limits = LIMITS, spec: InputSpec | None = None, header: Header | None = None) -> Stored:
    """8-bit RGB pixels from the bytes of a JPEG, PNG or WebP file; of an animation, its first frame.

    Transparency is composited on white, 16-bit grey is scaled to 8 bits, CMYK and palettes are converted; ICC profiles
    are ignored. Given a spec, a JPEG that is much larger than it needs is decoded at a fraction of its size. Harmless
    damage is skipped: a JPEG or PNG that has all of its pixels may lack its end. header: what ``read_header`` said of
    the file, where that was asked before.

    Raises:
        UnsupportedFormat, ImageTooLarge, CutOff, ImageError: see those.
    """
    header = header or read_header(data)
    limits.check(header.width, header.height)
    try:
        data, exif = essence(data, header.format)
        if header.format == "jpeg":
            n = denominator(header, spec)
            rgb = _decode_jpeg(data, header, n)
            return Stored(rgb, orientation_in(exif) or 1, (rgb.width - header.width / n, rgb.height - header.height / n))
        with Image.open(BytesIO(data), formats=[header.format]) as image:
            if image.size != (header.width, header.height):
                raise ImageError(f"the {header.format.upper()} file announces two different sizes")
            orientation = orientation_in(exif or image.info.get("exif", b"")) or 1
            if header.format == "png" and data[25] != PALETTE and "transparency" in image.info:
                return Stored(_keyed_to_rgb(image, data), orientation)
            if header.format == "webp" and header.pixels > UNCOPIED_FROM and (first := decode_first(data, image)):
                return Stored(_on_white(first, first) if first.mode == "RGBA" else first, orientation)
            return Stored(_to_rgb(image), orientation)
    except ImageError:
        raise
    except DAMAGED as err:
        if is_cut_off(data, header.format):
            raise CutOff(header.format) from err
        name = header.format.upper()
        raise ImageError(
            f"the {name} file is damaged or cut off and cannot be decoded; send all of it, or save it again"
        ) from err


def denominator(header: Header, spec: InputSpec | None) -> int:
    """A JPEG is decoded at one over this of its size: 1, 2, 4 or 8. "nearest" takes pixels as they are, so the whole."""
    if spec is None or spec.resize < SCALED_FROM or spec.interpolation == "nearest":
        return 1
    side = min(header.width, header.height)
    return next((n for n in (8, 4, 2) if side >= n * MARGIN * spec.resize), 1)


def _decode_jpeg(data: bytes, header: Header, n: int) -> Image.Image:
    """1/n of the size, sides rounded up, by libjpeg-turbo. A missing end of the file is put there.

    It writes the four bytes a pixel that Pillow works with. Pillow takes a buffer over if it is to resize all four, and
    copies it if only three.
    """
    width, height = -(-header.width // n), -(-header.height // n)
    pixels = np.empty((height, width, 4), np.uint8)
    mode = "CMYK" if header.channels == 4 else "RGBX"
    said = _turbo(data if data.endswith(END) else data + END, mode, n, pixels)
    if any(text in said for text in MISSING):
        raise CutOff("jpeg")
    if said or is_arithmetic(data):
        plain, noisy = endings(data)
        if said and not any(text in said for text in SHOWN):  # such as a subsampling that TurboJPEG has no name for
            return _decode_oddly(plain, noisy, n)
        others = ~pixels  # so what is not written differs
        _turbo(noisy, mode, n, others)
        if not np.array_equal(pixels.view(np.uint32), others.view(np.uint32)):
            raise CutOff("jpeg")
    if mode == "CMYK":
        return Image.frombuffer(mode, (width, height), pixels, "raw", "CMYK;I", 0, 1).convert("RGB")
    if width * height < UNCOPIED_FROM:
        return Image.frombytes("RGB", (width, height), pixels, "raw", "RGBX")
    return Image.frombuffer("RGBX", (width, height), pixels, "raw", "RGBX", 0, 1)


def _turbo(data: bytes, mode: str, n: int, into: Pixels) -> str:
    """The first thing that libjpeg warns of, or why it fails; "" if all is well."""
    height, width = into.shape[:2] if n > 1 else (0, 0)  # what is decoded is the smallest that is at least so large
    try:
        made = simplejpeg.decode_jpeg(data, mode, min_height=height, min_width=width, buffer=into)
    except ValueError as err:
        return str(err)
    return "" if made.shape == into.shape else "another size"


def _decode_oddly(plain: bytes, noisy: bytes, n: int) -> Image.Image:
    """By Pillow, which says nothing of warnings, so twice: what stands after the last pixel must make no difference."""
    decoded = list[Image.Image]()
    for data in (plain, noisy):
        with Image.open(BytesIO(data), formats=["jpeg"]) as image:
            if n > 1:
                image.draft(None, (image.width // n, image.height // n))
            decoded.append(_to_rgb(image))
    first, second = decoded
    for top in range(0, first.height, STRIP):  # at a time, as no other thread has its turn meanwhile
        strip = (0, top, first.width, min(top + STRIP, first.height))
        if ImageChops.difference(first.crop(strip), second.crop(strip)).getbbox():
            raise CutOff("jpeg")
    return first


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
        return _on_white(rgba, rgba)
    return image if image.mode == "RGB" else image.convert("RGB")


def _on_white(image: Image.Image, opacity: Image.Image) -> Image.Image:
    canvas = Image.new("RGB", image.size, BACKGROUND)
    canvas.paste(image, mask=opacity)
    return canvas


def _keyed_to_rgb(image: Image.Image, data: bytes) -> Image.Image:
    """A PNG that marks one colour as transparent. That is told in the file's own depth, and Pillow compares 8-bit samples."""
    key, depth = image.info.pop("transparency"), data[24]
    image.load()
    if isinstance(key, tuple):
        opacity = _unlike(image, [value >> max(depth - 8, 0) & 255 for value in key])
        if depth == 16:
            opacity = ImageChops.lighter(opacity, _unlike(_low_bytes(data), [value & 255 for value in key]))
    else:
        highest = (1 << depth) - 1
        level = (key & highest) * (1 if depth == 16 else 255 // highest)
        grey = np.asarray(image.convert("L") if depth == 1 else image)
        opacity = Image.fromarray((grey != level).astype(np.uint8) * 255)
    return _on_white(_to_rgb(image), opacity)


def _unlike(image: Image.Image, colour: list[int]) -> Image.Image:
    """255 where an RGB image has another colour, 0 where it has this one."""
    image.info["transparency"] = tuple(colour)
    opacity = image.convert("RGBA").getchannel("A")
    del image.info["transparency"]
    return opacity


def _low_bytes(data: bytes) -> Image.Image:
    """The lower 8 bits of a PNG of 16-bit colours, of which Pillow keeps the upper: read as if they came first."""
    with Image.open(BytesIO(data), formats=["png"]) as image:
        image.tile = [tile._replace(args="RGB;16L") for tile in image.tile]
        image.load()
        return image


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """RGB without a fourth byte, turned and mirrored as it is meant to be seen."""
    rgb = image if image.mode == "RGB" else image.convert("RGB")
    return rgb.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else rgb


def fit(stored: Stored, spec: InputSpec) -> Pixels:
    """Resize the shorter side to ``spec.resize`` and cut out the centre: (spec.height, spec.width, 3) uint8, upright.

    Both steps are one resampling of the matching box of the source, antialiased when it shrinks. The result is turned
    upright, not the source: it is smaller.
    """
    image = stored.image
    size = (spec.height, spec.width) if stored.orientation in TURNED else (spec.width, spec.height)
    width, height = image.width - stored.overhang[0], image.height - stored.overhang[1]
    part = central(width, height, *size, spec.resize)
    box = (part.x, part.y, part.x + part.width, part.y + part.height)
    if box != (0.0, 0.0, *map(float, size)) or image.size != size:
        image = image.resize(size, RESAMPLING[spec.interpolation], box=box)
    return np.asarray(upright(image, stored.orientation))


def central(width: float, height: float, across: int, down: int, resize: int) -> Box:
    """What is cut out of an image of ``width`` x ``height``, where that leaves ``across`` x ``down`` pixels of a shorter side of
    ``resize``."""
    side = min(width, height)
    # Multiplied before divided: a crop as large as the resized side is then exactly the side, never a hair more.
    box_width, box_height = across * side / resize, down * side / resize
    return Box((width - box_width) / 2, (height - box_height) / 2, box_width, box_height)


def place(data: bytes, spec: InputSpec, limits: Limits = LIMITS, header: Header | None = None) -> Placed:
    """As ``preprocess``, with where in the image that is."""
    header = header or read_header(data)
    stored = decode(data, limits, spec, header)
    size = (header.height, header.width) if stored.orientation in TURNED else (header.width, header.height)
    return Placed(fit(stored, spec), *size, central(*size, spec.width, spec.height, spec.resize))


def preprocess(data: bytes, spec: InputSpec, limits: Limits = LIMITS, header: Header | None = None) -> Pixels:
    """Bytes of an image file -> (spec.height, spec.width, 3) uint8 RGB, ready to be stacked into a batch.

    Raises:
        ImageError: and its kinds, as ``decode``.
    """
    return fit(decode(data, limits, spec, header), spec)
