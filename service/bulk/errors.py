"""What ends a run over many images, and what an image is that cannot be used."""

from typing import NamedTuple

from service.errors import HubelError

UNREADABLE = "unreadable"  # the one code that the API does not have, which is sent what was read


class BulkError(Exception):
    """A run cannot begin or go on; ``str()`` names the fault and the way out."""


class Failure(NamedTuple):
    """In the place of an image's result: a code of the API or UNREADABLE, and the reason for people."""

    code: str
    detail: str


def told(error: Exception) -> Failure:
    """What is said of an image that raised this."""
    if isinstance(error, HubelError):
        return Failure(error.code, str(error))
    if isinstance(error, OSError):
        return Failure(UNREADABLE, f"it cannot be read: {reason(error)}")
    return Failure("internal_error", f"it cannot be computed: {type(error).__name__}: {reason(error)}")


def reason(error: Exception) -> str:
    """One line."""
    text = str(getattr(error, "strerror", None) or error)
    return " ".join(text.split())[:300] or type(error).__name__
