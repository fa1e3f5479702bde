"""One file of many: what it is called, how one sees that it changed, and where its bytes come from."""

import os
from dataclasses import dataclass
from typing import Protocol

from service.errors import BodyTooLarge


class Source(Protocol):
    """Where bytes come from; several threads may read at a time."""

    def read(self, limit: int) -> bytes:
        """All of them. Raises OSError, and BodyTooLarge where there are more than ``limit``."""
        ...


@dataclass(frozen=True, slots=True)
class Item:
    """path: as it is shown and sorted. stamp: another one where the file changed, "" where that is not known."""

    path: str
    stamp: str
    source: Source


@dataclass(frozen=True, slots=True)
class LocalFile:
    """path: bytes that are no UTF-8 are escaped as surrogates, as os.fsdecode has it."""

    path: str

    def read(self, limit: int) -> bytes:
        handle = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe by now would be waited for
        try:
            size = os.fstat(handle).st_size
            check_size(size, limit)
            data = os.read(handle, size + 1)
            while (len(data) != size or not size) and len(data) <= limit and (more := os.read(handle, limit + 1 - len(data))):
                data += more  # it came in parts, has another size by now, or one that is not told
        finally:
            os.close(handle)
        check_size(len(data), limit)
        return data


def check_size(size: int, limit: int) -> None:
    if size > limit:
        raise BodyTooLarge(f"the file has {size:,} bytes, the limit is {limit:,} (HUBEL_MAX_BODY_BYTES); make it smaller")


def shown(path: str) -> str:
    """A path as text that every program can read: bytes that are no UTF-8 as \\xNN."""
    try:
        path.encode()
        return path
    except UnicodeEncodeError:
        return os.fsencode(path).decode("utf-8", "backslashreplace")


def stamp_of(status: os.stat_result) -> str:
    return f"{status.st_size}-{status.st_mtime_ns}"
