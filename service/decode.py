"""Stage decode: image bytes -> (height, width, 3) uint8, within the limits of the service.

models.preprocess does the work; this says what a stranger may ask of it. Runs in a pool of threads: libjpeg-turbo
and Pillow release the interpreter's lock.
"""

from models import errors
from models.errors import ImageError
from models.header import read_header
from models.input import InputSpec
from models.preprocess import Pixels, preprocess
from service.errors import ImageTooLarge, OutOfMemory, UndecodableImage, UnsupportedFormat


def decode(data: bytes, spec: InputSpec, max_pixels: int, max_side_pixels: int) -> Pixels:
    """Pixels ready to be stacked into a batch. Size limits are checked on the header, before pixels are allocated.

    Raises:
        UnsupportedFormat, ImageTooLarge, UndecodableImage, OutOfMemory.
    """
    try:
        header = read_header(data)
        size = f"{header.width}x{header.height} pixels"
        if max(header.width, header.height) > max_side_pixels:
            raise ImageTooLarge(
                f"image is {size}, the limit is {max_side_pixels} a side (HUBEL_MAX_SIDE_PIXELS); send a smaller one"
            )
        if header.pixels > max_pixels:
            raise ImageTooLarge(
                f"image has {header.pixels / 1e6:.1f} MP ({size}), the limit is {max_pixels / 1e6:g} MP (HUBEL_MAX_PIXELS); "
                "send a smaller one"
            )
        return preprocess(data, spec, max_pixels)
    except errors.UnsupportedFormat as err:
        raise UnsupportedFormat(str(err)) from err
    except ImageError as err:
        raise UndecodableImage(str(err)) from err
    except MemoryError as err:
        raise OutOfMemory("there is no memory left for the pixels of this image; try again, or send a smaller one") from err
