"""A whole image, small enough to be shown: upright, with all that the network does not see."""

import numpy as np
from PIL import Image

from models.image.header import Header, read_header
from models.image.limits import LIMITS, Limits
from models.image.preprocess import MARGIN, Pixels, decode, upright
from models.image.spec import InputSpec

SIDE = 1024  # pixels of the longer side, at most
LEAST_SIDE = 256  # up to which a smaller image is enlarged, each of its pixels to a square
SPEC = InputSpec(height=1, width=1, resize=SIDE // MARGIN)  # of which decoding at a fraction leaves SIDE pixels or more


def picture(data: bytes, spec: InputSpec = SPEC, limits: Limits = LIMITS, header: Header | None = None) -> Pixels:
    """Bytes of an image file -> (height, width, 3) uint8 RGB; sides are 1 at least. spec: how much is decoded.

    Raises:
        ImageError: and its kinds, as ``models.image.preprocess.decode``.
    """
    header = header or read_header(data)
    stored = decode(data, limits, spec, header)
    size = size_of(header.width, header.height)
    box = (0.0, 0.0, stored.image.width - stored.overhang[0], stored.image.height - stored.overhang[1])
    image = stored.image
    if image.size != size:
        grows = size[0] > header.width
        image = image.resize(size, Image.Resampling.NEAREST if grows else Image.Resampling.BILINEAR, box=box)
    return np.asarray(upright(image, stored.orientation))


def size_of(width: int, height: int) -> tuple[int, int]:
    """Of the picture of an image of these sides."""
    longer = max(width, height)
    if longer > SIDE:
        return max(1, round(width * SIDE / longer)), max(1, round(height * SIDE / longer))
    times = max(1, LEAST_SIDE // longer)
    return width * times, height * times
