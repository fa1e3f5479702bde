"""Image bytes -> upright RGB -> (height, width, 3) uint8. The only decoder and resizer of the project.

Training's evaluation, the golden inputs of a package and the service all call it, so what was measured is what
is served. Neighbours: header.py reads what stands before the pixels, input.py says the geometry, service/decode.py puts
the limits of the service around it, fingerprint.py notices changes, benchmarks/decode.py compares other ways.
"""

import struct
import warnings
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from models.errors import ImageError
from models.header import Header, essence, orientation_in, read_header
from models.input import InputSpec
from models.limits import LIMITS, Limits

Pixels = NDArray[np.uint8]  # (height, width, 3), RGB

PLUGINS = (JpegImagePlugin, PngImagePlugin, WebPImagePlugin)  # imported here, or Pillow would load all it has to find them
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)  # for all threads, as only this can be
# libjpeg can decode at 1/8, 1/4 or 1/2 of the size for much less work. It does so where that leaves MARGIN times the
# pixels that the resize asks for. Networks resized to fewer than SCALED_FROM pixels see whole images: their answers
# depend on every pixel. The margin is the boldest that kept 99.9 % of the labels: benchmarks/DECODE.md.
MARGIN = 3
SCALED_FROM = 128
UNCOPIED_FROM = 1_000_000  # pixels; below, to copy them costs less than to resize a fourth channel
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


def decode(data: bytes, limits: Limits = LIMITS, spec: InputSpec | None = None) -> Stored:
    """8-bit RGB pixels from the bytes of a JPEG, PNG or WebP file; of an animation, its first frame.

    Transparency is composited on white, 16-bit grey is scaled to 8 bits, CMYK and palettes are converted; ICC profiles
    are ignored. Given a spec, a JPEG that is much larger than it needs is decoded at a fraction of its size.

    Raises:
        UnsupportedFormat, ImageTooLarge, ImageError: see those.
    """
    header = read_header(data)
    limits.check(header.width, header.height)
    try:
        data, exif = essence(data, header.format)
        with Image.open(BytesIO(data), formats=[header.format]) as image:
            if image.size != (header.width, header.height):
                raise ImageError(f"the {header.format.upper()} file announces two different sizes")
            orientation = orientation_in(exif or image.info.get("exif", b"")) or 1
            if header.format != "jpeg":
                return Stored(_to_rgb(image), orientation)
            n = denominator(header, spec)
            rgb = _decode_jpeg(data, image, n)
            overhang = (rgb.width - header.width / n, rgb.height - header.height / n)
            return Stored(rgb, orientation, overhang)
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
    side = min(width, height)
    # Multiplied before divided: a crop as large as the resized side is then exactly the side, never a hair more.
    box_width, box_height = size[0] * side / spec.resize, size[1] * side / spec.resize
    left, top = (width - box_width) / 2, (height - box_height) / 2
    box = (left, top, left + box_width, top + box_height)
    if box != (0.0, 0.0, *map(float, size)) or image.size != size:
        image = image.resize(size, RESAMPLING[spec.interpolation], box=box)
    return np.asarray(upright(image, stored.orientation))


def preprocess(data: bytes, spec: InputSpec, limits: Limits = LIMITS) -> Pixels:
    """Bytes of an image file -> (spec.height, spec.width, 3) uint8 RGB, ready to be stacked into a batch.

    Raises:
        ImageError: and its kinds, as ``decode``.
    """
    return fit(decode(data, limits, spec), spec)
