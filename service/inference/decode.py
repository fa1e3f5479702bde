"""Stage decode: image bytes -> (height, width, 3) uint8, within the limits of the service.

models.image.preprocess does the work; this says what a stranger may ask of it. Runs in a pool of threads: libjpeg-turbo
and Pillow release the interpreter's lock.
"""

from collections.abc import Callable
from typing import TypeVar

from models import errors
from models.errors import ImageError
from models.image.header import Header, read_header
from models.image.limits import Limits
from models.image.preprocess import Pixels, preprocess
from models.image.spec import InputSpec
from service.errors import ClientError, ImageTooLarge, OutOfMemory, UndecodableImage, UnsupportedFormat

T = TypeVar("T")
Work = Callable[[bytes, InputSpec, Limits, Header | None], T]  # image bytes -> what is made of its pixels; raises ImageError


def inspect(data: bytes, limits: Limits) -> Header:
    """What an image's header says, which takes some microseconds. Size limits are checked on it, before pixels are allocated.

    Raises:
        UnsupportedFormat, ImageTooLarge, UndecodableImage.
    """
    try:
        header = read_header(data)
        limits.check(header.width, header.height)
    except ImageError as err:
        raise _tell(err) from err
    return header


def decode(data: bytes, spec: InputSpec, limits: Limits, header: Header | None = None) -> Pixels:
    """Pixels ready to be stacked into a batch; arguments and errors as of ``make``."""
    return make(preprocess, data, spec, limits, header)


def make(work: Work[T], data: bytes, spec: InputSpec, limits: Limits, header: Header | None = None) -> T:
    """What ``work`` makes of an image. header: what ``inspect`` said of it, where it was asked.

    Raises:
        UnsupportedFormat, ImageTooLarge, UndecodableImage, OutOfMemory.
    """
    try:
        return work(data, spec, limits, header)
    except ImageError as err:
        raise _tell(err) from err
    except MemoryError as err:
        raise OutOfMemory("there is no memory left for the pixels of this image; try again, or send a smaller one") from err


def _tell(error: ImageError) -> ClientError:
    """An error of models/ as the caller sees it."""
    if isinstance(error, errors.ImageTooLarge):
        return ImageTooLarge(f"{error.fact} (HUBEL_{error.limit.upper()}); send a smaller one")
    return UnsupportedFormat(str(error)) if isinstance(error, errors.UnsupportedFormat) else UndecodableImage(str(error))
