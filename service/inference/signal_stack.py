"""The stack on which a thread runs its signal handlers, where it has one apart from its own (sigaltstack(2)).

OpenVINO's CPU plug-in gives one to the thread that opens the first session, and unmaps it with the last session, whichever
thread frees that. The first thread is left with a stack that is gone, and the next signal it gets ends the process (SIGSEGV).
"""

import ctypes
import sys
from collections.abc import Generator
from contextlib import contextmanager

DISABLE = 2  # SS_DISABLE: handlers run on the thread's own stack


class SignalStack(ctypes.Structure):
    """stack_t of Linux."""

    _fields_ = [("address", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]


def current() -> SignalStack:
    """This thread's, as it is now."""
    found = SignalStack()
    ctypes.CDLL(None).sigaltstack(None, ctypes.byref(found))
    return found


@contextmanager
def kept() -> Generator[None]:
    """After the block this thread has the one that it had before, whatever the block gave it."""
    if sys.platform != "linux":
        yield
        return
    before = current()
    try:
        yield
    finally:
        change = ctypes.CDLL(None).sigaltstack
        if change(ctypes.byref(before), None):  # too small for the registers that the block asked the kernel for (AMX)
            change(ctypes.byref(SignalStack(flags=DISABLE)), None)
