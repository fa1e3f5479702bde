"""Memory of the host that a GPU reads by itself (page-locked), so that nobody copies pixels to where it can."""

import ctypes
import logging
import mmap
import weakref
from collections.abc import Sequence
from math import prod

import numpy as np
import onnxruntime
from numpy.typing import NDArray

log = logging.getLogger("hubel")


def zeros(shape: Sequence[int]) -> NDArray[np.uint8]:
    """An array, uint8, in pinned memory, or in plain memory where CUDA's runtime is not there or refuses."""
    array = np.frombuffer(mmap.mmap(-1, max(1, prod(shape))), np.uint8)
    if (cuda := runtime()) is not None:
        if code := cuda.cudaHostRegister(ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.size), 0):
            log.warning("the GPU cannot read pixels by itself: cudaHostRegister of %d bytes gives error %d", array.size, code)
        else:
            weakref.finalize(array, cuda.cudaHostUnregister, ctypes.c_void_p(array.ctypes.data))
    return array[: prod(shape)].reshape(shape)


def runtime() -> ctypes.CDLL | None:
    """CUDA's runtime that ONNX Runtime has loaded; None where it has none."""
    major = str(getattr(onnxruntime, "cuda_version", "")).partition(".")[0]
    try:
        return ctypes.CDLL(f"libcudart.so.{major}") if major else None
    except OSError:
        return None
