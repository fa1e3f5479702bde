"""The files in which the processes of a service keep their metrics, so that any of them can answer for all.

A worker is known by its place, not by its process id: one that replaces another goes on counting where that stopped. The files
are made in full before they are used, since one that could not grow on a full disk would end its process. A folder that
something removes, as what cleans /tmp does, is made again by whoever notices, and each process puts its files there again.
"""

import errno
import fcntl
import mmap
import os
import shutil
import stat
import struct
import tempfile
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from prometheus_client import values
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import mark_process_dead

from models.files import lock, write_atomic

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
KIB = 1024
# Bytes of each file: room for every series that metrics.py can make, with a hundred API keys and dozens of versions.
KINDS = {"counter": 256 * KIB, "histogram": 384 * KIB, "gauge_livesum": 64 * KIB, "gauge_livemax": 128 * KIB}
SUPERVISOR = "supervisor"
PREFIX = "hubel-metrics-"  # of the folder
MARK = "held"  # a file in the folder of a service that locks it
files: list["File"] = []  # of this process
missing = [False]  # one of them is to be put in place again
mending, changing = threading.Lock(), threading.Lock()
DOUBLES = struct.Struct("dd")
locked: dict[Path, tuple[int, int]] = {}  # folder -> its inode, and a descriptor


def name_of(place: int) -> str:
    return f"worker-{place}"


def open_as(name: str) -> None:
    """Have this process keep its metrics under a name. Call it before service.telemetry.metrics is imported."""

    def identify() -> str:
        if missing[0]:  # asked before each change, while nobody else makes one
            missing[0] = False
            with suppress(OSError):  # it is tried again a second later
                for file in files:
                    file.put_back()
        return name

    values.MmapedDict = File  # pyright: ignore[reportPrivateImportUsage]
    values.ValueClass = quick(values.MultiProcessValue(identify), identify)
    if (folder := shared()) is not None:
        with suppress(OSError):  # it is looked after later
            hold(folder)


def quick(base: Any, identify: Callable[[], str]) -> Any:
    """The library's class of values, which looks for a fork and for its place in the file at each change: here a process keeps
    its name and a value its place. A request changes some twenty.
    """

    class Value(base):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            self._at = self._file._positions[self._key]

        def inc(self, amount: float) -> None:
            with changing:
                self._put(self._value + amount, 0.0)

        def set(self, value: float, timestamp: float | None = None) -> None:
            with changing:
                self._put(value, timestamp or 0.0)

        def _put(self, value: float, timestamp: float) -> None:
            if missing[0]:
                identify()
            self._value, self._timestamp = value, timestamp
            self._file._m[self._at : self._at + 16] = DOUBLES.pack(value, timestamp)

    return Value


class File(MmapedDict):
    """One that can be put in place again with what it holds."""

    def __init__(self, filename: str, read_mode: bool = False) -> None:
        super().__init__(filename, read_mode)
        files.append(self)

    def is_there(self) -> bool:
        try:
            return os.stat(self._fname).st_ino == os.fstat(self._f.fileno()).st_ino
        except OSError:
            return False

    def put_back(self) -> None:
        """Call it while nobody changes a value. Raises OSError."""
        if self.is_there():
            return
        own(Path(self._fname).parent)
        write_atomic(Path(self._fname), self._m[:], durable=False)  # who changes a metric waits for it
        self._f.close()
        self._f = open(self._fname, "a+b")  # noqa: SIM115
        self._m = mmap.mmap(self._f.fileno(), self._capacity)


def shared() -> Path | None:
    """The folder that this process shares with others; None where there is none."""
    folder = os.environ.get(VARIABLE)
    return Path(folder) if folder else None


def prepare(folder: Path, name: str) -> None:
    """Make or mend the files of a process that is about to start, and the folder; raises OSError where that cannot be."""
    own(folder)
    for kind, size in KINDS.items():
        path = folder / f"{kind}_{name}.db"
        if not is_whole(path, size):
            with suppress(FileNotFoundError):
                path.unlink()
            with open(path, "wb") as file:
                file.write(bytes(size))


def is_whole(path: Path, size: int) -> bool:
    """The file is there in full and can be read to its end; a process that was killed may leave half an entry."""
    try:
        list(MmapedDict.read_all_values_from_file(path))
    except Exception:  # whatever comes of bytes that make no sense
        return False
    return path.stat().st_size >= size


def forget_live(folder: Path, name: str) -> None:
    """Take away what a process that is gone said of the present, such as its requests in progress."""
    with suppress(OSError):  # something else takes it away
        mark_process_dead(name, os.fspath(folder))


def own(folder: Path) -> None:
    """Make the folder where it is gone. Raises OSError where it cannot be made, or is another user's."""
    folder.mkdir(0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise PermissionError(errno.EPERM, "it is no folder that only this user can change", os.fspath(folder))


def hold(folder: Path) -> None:
    """Lock it until this process ends, so that neither systemd-tmpfiles nor a service that starts takes it for left over."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    if folder in locked:
        os.close(locked[folder][1])
    locked[folder] = os.fstat(handle).st_ino, handle
    fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    (folder / MARK).touch(0o600)


def mend() -> None:
    """Make the folder again where it is gone; the files are put there before the next change of a metric."""
    folder = shared()
    if folder is None or folder not in locked:
        return
    with mending, suppress(OSError):  # no room, or another's: it is tried again a second later
        own(folder)
        if folder.stat().st_ino != locked[folder][0]:
            hold(folder)
        missing[0] = not all(file.is_there() for file in files)


@contextmanager
def temporary() -> Generator[None]:
    """Temporary files that are made inside lie in the folder, so that what a process leaves that is killed goes with it."""
    before, folder = tempfile.tempdir, shared()
    tempfile.tempdir = os.fspath(folder) if folder else before
    try:
        yield
    finally:
        tempfile.tempdir = before


def clear(parent: Path) -> list[Path]:
    """Remove the folders that services left behind which were killed; which."""
    removed: list[Path] = []
    for folder in parent.glob(PREFIX + "*"):
        with suppress(OSError):  # another's, or gone by now, or locked: someone uses it
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                if os.fstat(handle).st_uid == os.geteuid() and (folder / MARK).exists() and lock(handle):
                    shutil.rmtree(folder, ignore_errors=True)
                    removed.append(folder)
            finally:
                os.close(handle)
    return removed
