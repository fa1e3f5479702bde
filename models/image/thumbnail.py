"""A decoded image -> the bytes of a small JPEG of all of it."""

import numpy as np
import simplejpeg
from PIL import Image

from models.image.preprocess import Stored, upright

SIDE = 160  # pixels of the longer side, at most
QUALITY = 80
QUICKER = 3.0  # a large image is first reduced by whole numbers to so many times the small one, which is quicker


def thumbnail(stored: Stored) -> bytes:
    """Upright, in its own proportions, never larger than the image; at most some 30 kB."""
    image = stored.image
    factor = min(1.0, SIDE / max(image.size))
    size = max(1, round(image.width * factor)), max(1, round(image.height * factor))
    if size != image.size:
        image = image.resize(size, Image.Resampling.BILINEAR, reducing_gap=QUICKER)
    pixels = np.ascontiguousarray(upright(image, stored.orientation))
    return simplejpeg.encode_jpeg(pixels, QUALITY, "RGB", "420", fastdct=False)
