"""Copies of images in a folder for each class. Nothing is overwritten, and nothing comes to lie outside of the folder."""

import errno
import os
import re
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from service.bulk.errors import BulkError, reason
from service.bulk.item import Item
from service.bulk.row import Row

UNSURE = "unsure"
BESIDE = ".hubel-copy"  # what becomes a copy once it is whole
UNFIT = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|\ud800-\udfff]')  # in a name that every file system takes
LONGEST = 200  # bytes of a name
NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP)  # of a file system without hard links


class Copies:
    """Below ``folder``: each image under the name of its class, unsure ones in a folder of their own, what failed nowhere.

    A copy that an earlier run made is found again, so the names are the same however often it was stopped.
    """

    def __init__(self, folder: Path, labels: Sequence[str], limit: int) -> None:
        """labels: of the package. limit: bytes of a file. Raises BulkError."""
        self.folder = folder
        self.limit = limit
        self.unsure = UNSURE if UNSURE not in labels else f"{UNSURE} (not the class)"
        self.taken: set[str] = set()
        self.numbers: dict[str, int] = {}  # of the last copy of a name, the first being 1
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as err:
            raise BulkError(f"--copy-into {folder} cannot be made: {reason(err)}; name another folder") from err

    def note(self, row: Row) -> None:
        """A row of an earlier run: its copy is there already."""
        if row.copy is not None:
            self.taken.add(row.copy)

    def add(self, item: Item, row: Row) -> None:
        """Copy an image and say so in its row; what cannot be read any more gets no copy. Raises BulkError."""
        if row.label is None:
            return
        try:
            data = item.source.read(self.limit)
        except OSError:
            return
        place = fit(self.unsure if row.unsure else row.label)
        try:
            row.copy = self._put(place, fit(os.path.basename(item.path)), data)
        except OSError as err:
            raise BulkError(
                f"{self.folder / place} cannot be written: {reason(err)}; make room there, and run the same command again, it "
                "goes on where it stopped"
            ) from err
        self.taken.add(row.copy)

    def _put(self, place: str, name: str, data: bytes) -> str:
        """Path below the folder."""
        with self._opened(place) as handle:
            for number in count(self.numbers.get(f"{place}/{name}", 0) + 1):
                candidate = numbered(name, number)
                path = f"{place}/{candidate}"
                if path not in self.taken and (_holds(handle, candidate, data) or _write_new(handle, candidate, data)):
                    self.numbers[f"{place}/{name}"] = number
                    return path
        raise AssertionError("there is always another name")

    @contextmanager
    def _opened(self, place: str) -> Generator[int]:
        """The folder of a class, which is no link to elsewhere."""
        root = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with suppress(FileExistsError):
                os.mkdir(place, dir_fd=root)
            handle = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=root)
        finally:
            os.close(root)
        try:
            yield handle
        finally:
            os.close(handle)


def fit(name: str) -> str:
    """A name for a file or folder of what others wrote: one that leads nowhere else, and that every system takes."""
    name = UNFIT.sub("_", name).strip(" .") or "_"
    stem, ending = os.path.splitext(name)
    return (
        name
        if len(name.encode()) <= LONGEST
        else stem.encode()[: LONGEST - len(ending.encode())].decode(errors="ignore") + ending
    )


def numbered(name: str, number: int) -> str:
    """The name, or another where it is taken: a.jpg, a-2.jpg, a-3.jpg, …"""
    stem, ending = os.path.splitext(name)
    return name if number == 1 else f"{stem}-{number}{ending}"


def _holds(folder: int, name: str, data: bytes) -> bool:
    """Whether this very image lies there: a run that was killed made the copy and had not yet noted it."""
    try:
        handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError:
        return False
    with os.fdopen(handle, "rb") as file:
        return os.fstat(handle).st_size == len(data) and file.read(len(data) + 1) == data


def _write_new(folder: int, name: str, data: bytes) -> bool:
    """Whether nothing of that name was there; then it is, whole."""
    with suppress(FileNotFoundError):
        os.unlink(BESIDE, dir_fd=folder)
    handle = os.open(BESIDE, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=folder)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
    try:
        _name(folder, name)
        return True
    except FileExistsError:
        return False
    finally:
        with suppress(FileNotFoundError):
            os.unlink(BESIDE, dir_fd=folder)


def _name(folder: int, name: str) -> None:
    """Give what was written its name. Raises FileExistsError where there is such a file."""
    try:
        os.link(BESIDE, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    except OSError as err:
        if err.errno not in NO_LINKS:
            raise
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=folder))
        os.rename(BESIDE, name, src_dir_fd=folder, dst_dir_fd=folder)
