"""The heap of the C library, which keeps what was freed unless it is told otherwise. Nothing is done where that is not glibc."""

import ctypes
from contextlib import suppress

MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1  # as mallopt calls them
LARGE_BLOCK = 8 * 1024 * 1024  # bytes
NOT_GLIBC = AttributeError, OSError  # what a call of another library ends in


def give_back_large_blocks() -> None:
    """Have the C library return large blocks to the system when they are freed. Else each thread that ever decoded a large
    image may keep the memory of one, as blocks that were freed make it take ever larger ones for small.
    """
    with suppress(*NOT_GLIBC):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(MMAP_THRESHOLD, LARGE_BLOCK)
        mallopt(TRIM_THRESHOLD, 2 * LARGE_BLOCK)  # in proportion, as it is by itself while neither is set


def give_back_heap() -> None:
    """Have the C library return to the system what is free in its heap, of all threads: some milliseconds after a rush."""
    with suppress(*NOT_GLIBC):
        ctypes.CDLL(None).malloc_trim(0)
