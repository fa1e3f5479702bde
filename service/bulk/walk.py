"""Paths as they are given -> every image below them, once, sorted by its path."""

import glob
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from service.bulk import archives, names, storage
from service.bulk.errors import BulkError, reason
from service.bulk.item import Item, LocalFile, shown, stamp_of

Identity = tuple[int, int]  # device and inode
WITHOUT_ENDING = 12  # bytes of a file without an ending that are looked at
BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")


@dataclass(frozen=True)
class Listing:
    """items: sorted by path, each file once. left_out: files found in folders that are no images by their names."""

    items: list[Item]
    left_out: int


def walk(paths: Sequence[str], leave_out: Path | None = None) -> Listing:
    """The images of files, folders with all below them, globs, archives and addresses that fsspec knows.

    A file that is named itself is taken whatever it is called; in folders and archives the endings of pictures are. Links are
    followed, and each folder is entered once. leave_out: a folder that is not entered.

    Raises:
        BulkError: a path is not there, a folder or an archive cannot be read, or there are no images.
    """
    found = _Walk(leave_out)
    for path in paths:
        found.add(path)
    if not found.items:
        raise BulkError(found.nothing(paths))
    return Listing(sorted(found.items.values(), key=lambda item: item.path), found.left_out)


class _Walk:
    """items: by what tells two names of one file apart."""

    def __init__(self, leave_out: Path | None) -> None:
        self.items: dict[str, Item] = {}
        self.left_out = self.archives = 0
        self.entered: set[Identity] = set()
        if leave_out is not None and leave_out.is_dir():
            self.entered.add(_identity(leave_out.stat()))

    def add(self, path: str) -> None:
        if "://" in path:
            self._add_all(storage.found(path))
        elif glob.has_magic(path) and not os.path.lexists(path):
            matches = sorted(glob.glob(path, recursive=True))
            if not matches:
                raise BulkError(f"nothing matches {shown(path)!r}; give files, folders, archives or patterns that match some")
            for match in matches:
                self._add_named(match)
        else:
            self._add_named(path)

    def nothing(self, paths: Sequence[str]) -> str:
        """Why there is nothing to do."""
        where = ", ".join(map(shown, paths))
        if not self.left_out:
            return f"{where}: there are no files in it; give a folder with images"
        more = f", {self.archives} of them archives: name those themselves" if self.archives else ""
        endings = ", ".join(names.TAKEN)
        return f"no images among {self.left_out:,} files in {where}{more}; images end in {endings}"

    def _add_named(self, path: str) -> None:
        try:
            status = os.stat(path)
        except (OSError, ValueError) as err:
            raise BulkError(f"{shown(path)} cannot be read: {reason(err)}; give files and folders that are there") from err
        if stat.S_ISDIR(status.st_mode):
            self._enter(path, status)
        elif not stat.S_ISREG(status.st_mode):
            raise BulkError(f"{shown(path)} is no file and no folder; give one")
        elif names.is_archive(path):
            self._add_all(archives.members(path, stamp_of(status)))
        else:
            path = os.path.normpath(path)
            self._put(os.path.abspath(path), Item(shown(path), stamp_of(status), LocalFile(path)))

    def _enter(self, folder: str, status: os.stat_result) -> None:
        """Everything below a folder, in the order of the names, so that of two ways to a folder always the same is taken."""
        ahead = [(os.path.normpath(folder), _identity(status))]
        while ahead:
            here, identity = ahead.pop()
            if identity in self.entered:
                continue
            self.entered.add(identity)
            below = [found for entry in _entries(here) if (found := self._look(entry)) is not None]
            ahead += reversed(below)

    def _look(self, entry: "os.DirEntry[str]") -> tuple[str, Identity] | None:
        """A folder that is to be entered; a file is taken or left out."""
        if names.is_passed_over(entry.name):
            return None
        path = os.path.normpath(entry.path)
        try:
            status = entry.stat()
        except OSError:  # gone meanwhile, or a link to nothing; as an image it gets its row
            if names.is_image(entry.name):
                self._put(os.path.abspath(path), Item(shown(path), "", LocalFile(path)))
            return None
        if stat.S_ISDIR(status.st_mode):
            return path, _identity(status)
        if stat.S_ISREG(status.st_mode) and (names.is_image(entry.name) or _begins_like_one(path)):
            self._put(os.path.abspath(path), Item(shown(path), stamp_of(status), LocalFile(path)))
        else:
            self.left_out += 1
            self.archives += names.is_archive(entry.name)
        return None

    def _add_all(self, members: Iterator[Item | None]) -> None:
        """None: a member that is no image."""
        for item in members:
            if item is None:
                self.left_out += 1
            else:
                self._put(item.path, item)

    def _put(self, key: str, item: Item) -> None:
        self.items.setdefault(key, item)


def _identity(status: os.stat_result) -> Identity:
    return status.st_dev, status.st_ino


def _entries(folder: str) -> "list[os.DirEntry[str]]":
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=_name)
    except OSError as err:
        raise BulkError(
            f"the folder {shown(folder)} cannot be read: {reason(err)}; let it be read, or name the folders beside it"
        ) from err


def _name(entry: "os.DirEntry[str]") -> str:
    return entry.name


def _begins_like_one(path: str) -> bool:
    """Of a file without an ending, as stores by content have them."""
    if os.path.splitext(path)[1]:
        return False
    try:
        with open(path, "rb", buffering=0) as file:
            data = file.read(WITHOUT_ENDING)
    except OSError:
        return False
    return data.startswith(BEGINNINGS) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP")
