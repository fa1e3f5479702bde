"""Opening files that others may have put there: plain files alone, of a bounded size, and never waiting for one."""

import hashlib
import os
import stat
from io import BufferedReader
from pathlib import Path

from models.errors import PackageError

MAX_BYTES = 2**31  # of a file of a package: a graph cannot be longer, protobuf's limit
MAX_TEXT_BYTES = 2**20  # of a pointer, a signature or a key, and of a manifest beside the names of its classes


def open_plain(path: Path, limit: int = MAX_BYTES) -> BufferedReader:
    """A plain file of at most ``limit`` bytes, opened to be read.

    A link is not followed, a pipe not waited for, a device not opened.

    Raises:
        PackageError: it is something else, or longer.
        OSError: it is not there or cannot be read.
    """
    check_plain(path, limit)
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _check(path, os.fstat(handle), limit)  # once more: it may have been exchanged in between
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def check_plain(path: Path, limit: int = MAX_BYTES) -> None:
    """Raises what ``open_plain`` does, without opening."""
    _check(path, path.lstat(), limit)


def _check(path: Path, status: os.stat_result, limit: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise PackageError(f"{path} is not a plain file but {_kind(status.st_mode)}; a package holds plain files alone")
    if status.st_size > limit:
        raise PackageError(f"{path} has {status.st_size:,} bytes, at most {limit:,} are read; put the right file there")


def _kind(mode: int) -> str:
    kinds = {stat.S_IFLNK: "a link", stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")


def read(path: Path, limit: int = MAX_BYTES) -> bytes:
    """The bytes of a plain file; raises what ``open_plain`` does."""
    with open_plain(path, limit) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise PackageError(f"{path} grew past {limit:,} bytes while it was read")
    return data


def sha256(path: Path) -> str:
    with open_plain(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Have the disk hold a file or folder before what follows relies on it."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
