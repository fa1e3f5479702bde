"""Large WebP files, decoded without holding the interpreter.

Pillow copies a WebP's pixels while no other thread has its turn: a quarter of a second for 60 megapixels, in which a service
answers nobody. So libwebp itself is called, the one that Pillow has loaded, and gives the same pixels into memory of ours.
"""

import ctypes
import struct
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, _webp

MAX_CHUNKS = 1000  # before the first frame; honest files have a few
ANIMATION = 2  # flag of VP8X (RFC 9649, section 2.7.1)


@dataclass(frozen=True)
class Frame:
    """A file of one frame, and where it lies in the picture, in pixels."""

    data: bytes
    left: int
    top: int
    width: int
    height: int


@cache
def _library() -> Any:
    """libwebp, or None where it cannot be called: the system looks for names in what Pillow's module has loaded, too."""
    try:
        library = ctypes.CDLL(_webp.__file__)
        library.WebPDecodeRGBAInto.restype = ctypes.c_void_p
        library.WebPDecodeRGBAInto.argtypes = (ctypes.c_char_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        library.WebPGetInfo.argtypes = (ctypes.c_char_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_void_p)
    except (AttributeError, OSError, TypeError):
        return None
    return library


def is_called() -> bool:
    """Whether large files are decoded so; else Pillow takes twice the memory for them."""
    return _library() is not None


def decode_first(data: bytes, image: Image.Image) -> Image.Image | None:
    """The first frame of a file that Pillow has opened as ``image``: RGBA, or RGBX where it has no alpha channel. None
    where libwebp cannot be called, or does not read the file.
    """
    library, mode = _library(), "RGBA" if image.mode == "RGBA" else "RGBX"
    frame = _first_frame(data, image.size)
    if library is None or frame is None:
        return None
    width, height = ctypes.c_int(), ctypes.c_int()
    library.WebPGetInfo(frame.data, len(frame.data), ctypes.byref(width), ctypes.byref(height))
    if (width.value, height.value) != (frame.width, frame.height):
        return None
    pixels: NDArray[np.uint8] = np.empty((frame.height, frame.width, 4), np.uint8)
    if not library.WebPDecodeRGBAInto(frame.data, len(frame.data), pixels.ctypes.data, pixels.nbytes, 4 * frame.width):
        return None
    decoded = Image.frombuffer(mode, (frame.width, frame.height), pixels, "raw", mode, 0, 1)
    if decoded.size == image.size:
        return decoded
    whole = Image.new(mode, image.size)
    whole.paste(decoded, (frame.left, frame.top))
    return whole


def _first_frame(data: bytes, size: tuple[int, int]) -> Frame | None:
    """None where there is no frame, or it is not inside the picture."""
    if data[12:16] != b"VP8X" or not data[20] & ANIMATION:
        return Frame(data, 0, 0, *size)
    at = 12
    for _ in range(MAX_CHUNKS):
        if at + 24 > len(data):
            return None
        (length,) = struct.unpack_from("<I", data, at + 4)
        if data[at : at + 4] == b"ANMF":
            left, top, width, height = (int.from_bytes(data[begin : begin + 3], "little") for begin in range(at + 8, at + 20, 3))
            frame = Frame(_still(data, at, at + 8 + length), 2 * left, 2 * top, width + 1, height + 1)
            return frame if frame.left + frame.width <= size[0] and frame.top + frame.height <= size[1] else None
        at += 8 + length + length % 2
    return None


def _still(data: bytes, start: int, end: int) -> bytes:
    """A file of the frame in the chunk ANMF from ``start`` to ``end``; it keeps the flags and the size is the frame's."""
    flags = bytes((data[20] & ~ANIMATION, 0, 0, 0))
    body = b"WEBPVP8X" + struct.pack("<I", 10) + flags + data[start + 14 : start + 20] + data[start + 24 : end]
    return b"RIFF" + struct.pack("<I", len(body)) + body
