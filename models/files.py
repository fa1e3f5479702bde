"""Files that several processes read and write.

Opened where others may have put them: plain files alone, of a bounded size, and never waiting for one. Written so that whoever
reads finds the old file or the new one, whole.
"""

import errno
import fcntl
import hashlib
import os
import stat
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

from models.errors import PackageError

LOOK_SECONDS = 0.002  # between two tries to take a lock
MAX_BYTES = 2**31  # of a file of a package: a graph cannot be longer, protobuf's limit
MAX_TEXT_BYTES = 2**20  # of a pointer, a signature or a key, and of a manifest besides the names of its classes
Identity = tuple[int, int, int, int]  # inode, size, times of the last change of content and of anything, in nanoseconds


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


def identity(path: Path) -> Identity | None:
    """What changes when a file does, its mode too, and when another one takes its name; None where none can be looked at."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def sha256(path: Path) -> str:
    with open_plain(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomic(
    path: Path, content: bytes | Callable[[BinaryIO], object], *, prefix: str = "", mode: int = 0o644, durable: bool = True
) -> None:
    """Replace a file by one rename, once the file beside it that becomes it is written.

    content: the bytes, or what writes them into an open file. prefix: of the name beside it, which a killed process leaves
    behind. durable: the disk holds the content before the rename, and the rename at the end, whatever happens to the machine.

    Raises:
        OSError: it cannot be written; ``path`` is as it was, and nothing is left beside it. So too for what ``content`` raises.
    """
    handle, beside = tempfile.mkstemp(prefix=prefix or f".{path.stem}-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content) if isinstance(content, bytes) else content(file)
            file.flush()
            with suppress(PermissionError):  # a file system without modes
                os.fchmod(handle, mode)
            if durable:
                os.fsync(handle)
        Path(beside).replace(path)
    except BaseException:
        with suppress(OSError):
            os.unlink(beside)
        raise
    if durable:
        sync(path.parent)


def lock(handle: int, until: float = 0.0) -> bool:
    """Lock an open file or folder until it is closed, as when the process is killed; False where another process holds it.

    until: how long to wait for that one, by time.monotonic.

    Raises:
        OSError: the file system has no locks.
    """
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            time.sleep(LOOK_SECONDS)
        else:
            return True


def sync(path: Path) -> None:
    """Have the disk hold a file, or the names in a folder, before what follows relies on it."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as err:
        if err.errno != errno.EINVAL:  # a file system that cannot do so for a folder
            raise
    finally:
        os.close(handle)
