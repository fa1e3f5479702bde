"""Arrays -> pictures that stand inside the page, as data URIs: thumbnails, grids of tiles, heat maps over images.

Pixels here are (height, width, 3) uint8, RGB.
"""

from base64 import b64encode
from io import BytesIO

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
Floats = NDArray[np.floating]

LOSSLESS_UP_TO = 64  # pixels a side: smaller pictures are kept as they are, and enlarged without blur
JPEG_QUALITY = 80
GROUND = 128  # grey of gaps and margins: it stands out neither on a white page nor on a black one


def uri(pixels: Pixels, lossless: bool = True) -> str:
    """PNG, or JPEG of JPEG_QUALITY without halved chroma."""
    file = BytesIO()
    image = Image.fromarray(pixels)
    if lossless:
        image.save(file, "PNG", optimize=True)
    else:
        image.save(file, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return f"data:image/{'png' if lossless else 'jpeg'};base64,{b64encode(file.getvalue()).decode()}"


def thumbnail(pixels: Pixels, side: int) -> str:
    """An image with ``side`` pixels on its longer side; one with fewer is kept as it is."""
    longer = max(pixels.shape[:2])
    if longer > side:
        pixels = resized(pixels, round(pixels.shape[0] * side / longer), round(pixels.shape[1] * side / longer))
    return uri(pixels, lossless=longer <= LOSSLESS_UP_TO)


def resized(pixels: Pixels, height: int, width: int) -> Pixels:
    """Smooth where it shrinks, every pixel a rectangle where it grows."""
    grows = height >= pixels.shape[0] and width >= pixels.shape[1]
    how = Image.Resampling.NEAREST if grows else Image.Resampling.BOX
    return np.asarray(Image.fromarray(pixels).resize((max(width, 1), max(height, 1)), how))


def fitted(pixels: Pixels, side: int) -> Pixels:
    """In the middle of a square of ``side`` pixels, as large as it fits, on grey."""
    square = np.full((side, side, 3), GROUND, np.uint8)
    if not pixels.size:
        return square
    scale = side / max(pixels.shape[:2])
    inside = resized(pixels, round(pixels.shape[0] * scale), round(pixels.shape[1] * scale))
    top, left = (side - inside.shape[0]) // 2, (side - inside.shape[1]) // 2
    square[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
    return square


def grid(tiles: NDArray[np.uint8], columns: int, gap: int = 1) -> Pixels:
    """tiles: (n, h, w, 3), row after row; or (n, h, w, 4) with transparency, then the gaps are transparent."""
    n, height, width, channels = tiles.shape
    rows, columns = -(-n // columns), min(n, columns)
    size = (rows * (height + gap) - gap, columns * (width + gap) - gap, channels)
    canvas = np.full(size, GROUND if channels == 3 else 0, np.uint8)
    for i, tile in enumerate(tiles):
        top, left = i // columns * (height + gap), i % columns * (width + gap)
        canvas[top : top + height, left : left + width] = tile
    return canvas


def greys(maps: Floats, side: int) -> NDArray[np.uint8]:
    """Maps (n, h, w), each from black, its lowest value, to white, its highest -> (n, h', w', 3): whole multiples of their
    size, or less, so that the longer side has at most ``side`` pixels."""
    low, high = (edge(maps, axis=(1, 2), keepdims=True) for edge in (np.min, np.max))
    shades = (255 * (maps - low) / np.maximum(high - low, 1e-12)).astype(np.uint8)
    longer = max(maps.shape[1:])
    scale = side // longer if longer <= side else side / longer
    height, width = (max(1, round(length * scale)) for length in maps.shape[1:])
    return np.stack([resized(np.repeat(tile[..., None], 3, axis=2), height, width) for tile in shades])


def heat(values: Floats, pixels: Pixels, side: int) -> Pixels:
    """A map (h, w) of 0 to 1 as colours, from blue to red, over the grey image, ``side`` pixels on the longer side."""
    scale = side / max(pixels.shape[:2])
    height, width = (max(1, round(length * scale)) for length in pixels.shape[:2])
    grey = np.asarray(Image.fromarray(resized(pixels, height, width)).convert("L"))[..., None] / 255
    smooth = Image.fromarray(values.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR)
    colours = mpl.colormaps["turbo"](np.asarray(smooth).clip(0, 1))[..., :3]
    return (255 * (0.5 * grey + 0.5 * colours)).astype(np.uint8)
