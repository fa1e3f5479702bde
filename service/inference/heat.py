"""A picture with a map of 0 to 1 laid over it, as PNG: grey where nothing speaks for the class, from violet to yellow where much
does, dark where the network does not look.
"""

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from models.image.preprocess import Box, Pixels

COLOURS = np.array([(13, 8, 135), (126, 3, 168), (204, 71, 120), (248, 149, 64), (240, 249, 33)])  # evenly, from 0 to 1
MOST = 0.75  # of the picture that a colour covers, where the map is 1
UNSEEN = 0.45  # of its light that the rest keeps
COMPRESSION = 3  # of 9
LEVELS = np.linspace(0, 1, 256)
DARKER = [round(UNSEEN * level) for level in range(256)] * 3
CHANNELS = [np.interp(LEVELS, np.linspace(0, 1, len(COLOURS)), channel).round().astype(int).tolist() for channel in COLOURS.T]
SHARES = (255 * MOST * np.sqrt(LEVELS)).round().astype(int).tolist()


def png(picture: Pixels, values: NDArray[np.float32], seen: Box) -> bytes:
    """picture: (height, width, 3) uint8. values: (h, w), laid over the part ``seen`` of it, in its pixels."""
    image = Image.fromarray(picture)
    left, top = _edge(seen.x, image.width - 1), _edge(seen.y, image.height - 1)
    right = max(left + 1, _edge(seen.x + seen.width, image.width))
    bottom = max(top + 1, _edge(seen.y + seen.height, image.height))
    laid = image.point(DARKER)
    laid.paste(covered(image.crop((left, top, right, bottom)), values), (left, top))
    file = BytesIO()
    laid.save(file, PngImagePlugin.PngImageFile.format, compress_level=COMPRESSION)
    return file.getvalue()


def covered(part: Image.Image, values: NDArray[np.float32]) -> Image.Image:
    """The part in grey, under the colours of the values."""
    smooth = np.asarray(Image.fromarray(values).resize(part.size, Image.Resampling.BICUBIC))
    levels = Image.fromarray((255 * smooth.clip(0, 1)).astype(np.uint8))
    colours = Image.merge("RGB", [levels.point(channel) for channel in CHANNELS])
    return Image.composite(colours, part.convert("L").convert("RGB"), levels.point(SHARES))


def _edge(value: float, most: int) -> int:
    return min(max(round(value), 0), most)
