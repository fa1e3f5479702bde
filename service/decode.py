"""Stage decode: image bytes -> (height, width, 3) uint8, within the limits of the service.

models.preprocess does the work; this says what a stranger may ask of it. Runs in a pool of threads: libjpeg-turbo
and Pillow release the interpreter's lock.
"""

from models import errors
from models.errors import ImageError
from models.input import InputSpec
from models.limits import Limits
from models.preprocess import Pixels, preprocess
from service.errors import ImageTooLarge, OutOfMemory, UndecodableImage, UnsupportedFormat


def decode(data: bytes, spec: InputSpec, limits: Limits) -> Pixels:
    """Pixels ready to be stacked into a batch. Size limits are checked on the header, before pixels are allocated.

    Raises:
        UnsupportedFormat, ImageTooLarge, UndecodableImage, OutOfMemory.
    """
    try:
        return preprocess(data, spec, limits)
    except errors.ImageTooLarge as err:
        raise ImageTooLarge(f"{err.fact} (HUBEL_{err.limit.upper()}); send a smaller one") from err
    except errors.UnsupportedFormat as err:
        raise UnsupportedFormat(str(err)) from err
    except ImageError as err:
        raise UndecodableImage(str(err)) from err
    except MemoryError as err:
        raise OutOfMemory("there is no memory left for the pixels of this image; try again, or send a smaller one") from err
