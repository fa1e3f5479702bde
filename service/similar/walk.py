"""The images of a folder: their names relative to it, and their bytes. Nothing outside of it is read: no link is followed."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from models.errors import ImageError
from models.image.clutter import is_clutter, is_hidden
from service.similar.manifest import MOST_IMAGES, IndexFault

ENDINGS = (".jpg", ".jpeg", ".png", ".webp")
MOST_BYTES = 2**30  # of a file


@dataclass(frozen=True, slots=True)
class Picture:
    """name: its path relative to the folder, with "/". path: where it is."""

    name: str
    path: Path


@dataclass
class Listing:
    """pictures: by name. others: files that are no images by their names. failed: name -> why it cannot be taken."""

    pictures: list[Picture] = field(default_factory=list[Picture])
    others: int = 0
    failed: dict[str, str] = field(default_factory=dict[str, str])


def walk(folder: Path) -> Listing:
    """Raises IndexFault where there is no folder, or no image in it."""
    if not folder.is_dir():
        raise IndexFault(f"{folder} is not a folder; give one with images, in folders by class or not")
    found = Listing()
    root = folder.resolve()
    for path in _files(root, root, found):
        name = path.relative_to(root).as_posix()
        if not name.lower().endswith(ENDINGS):
            found.others += 1
        elif not _is_text(name):
            found.failed[os.fsencode(name).decode(errors="backslashreplace")] = "its name is not UTF-8; rename it"
        else:
            found.pictures.append(Picture(name, path))
    found.pictures.sort(key=lambda picture: picture.name)
    if not found.pictures:
        seen = f"{found.others} files with other endings" if found.others else "no file"
        raise IndexFault(f"{folder} has no image ({', '.join(ENDINGS)}) but {seen} and {len(found.failed)} that cannot be taken")
    if len(found.pictures) > MOST_IMAGES:
        raise IndexFault(f"{folder} has {len(found.pictures):,} images, an index holds at most {MOST_IMAGES:,}; split it")
    return found


def _files(folder: Path, root: Path, found: Listing) -> Iterator[Path]:
    """Plain files below a folder but hidden ones and what systems leave behind."""
    try:
        with os.scandir(folder) as scanned:
            entries = sorted(scanned, key=lambda entry: entry.name)
    except OSError as err:
        found.failed[_shown(folder, root)] = f"the folder cannot be read: {err.strerror}"
        return
    for entry in entries:
        path = Path(entry.path)
        if is_hidden(entry.name) or is_clutter(entry.name):
            continue
        if entry.is_symlink():
            found.failed[_shown(path, root)] = "it is a link, which is not followed; copy there what it leads to"
        elif entry.is_dir(follow_symlinks=False):
            yield from _files(path, root, found)
        elif entry.is_file(follow_symlinks=False):
            yield path


def _shown(path: Path, root: Path) -> str:
    return os.fsencode(path.relative_to(root)).decode(errors="backslashreplace")


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def read(picture: Picture) -> bytes:
    """Raises OSError, or ImageError where it is no plain file any more, or too long."""
    handle = os.open(picture.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise ImageError("it is not a plain file")
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise ImageError(f"the file has more than {MOST_BYTES:,} bytes; make it smaller")
    return data
