"""A folder of class folders, or one that holds such folders as train/, val/ and test/."""

import os
import stat
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from models.image.clutter import is_clutter, is_hidden
from models.package.label_names import normalised
from training.data.sources.source import (
    SPLITS,
    VALIDATION_NAMES,
    Item,
    Part,
    Source,
    check_labels,
    printable,
    read_image,
    reason,
    stamp_of,
)
from training.errors import DataError

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".webp")
PART_WORDS = {"train", "training", "test", "testing", "dev", "eval", "evaluation", *VALIDATION_NAMES}


def open_folder(folder: Path) -> Source:
    """Raises DataError when it is no folder, or when its folders look like parts but none is called train."""
    names = _folders(folder)
    if not _has_parts(folder, names):
        _check_not_parts(folder, names)
        return Source(list_folder(folder))
    train = list_folder(folder / "train", _unused(folder, names))
    validation = next((list_folder(folder / name) for name in VALIDATION_NAMES if name in names), None)
    return Source(train, validation, list_folder(folder / "test") if "test" in names else None)


def list_folder(folder: Path, left_out: tuple[str, ...] = ()) -> Part:
    """Every file below the class folders of ``folder``, in a fixed order. Hidden files and folders are skipped, and those
    that systems leave behind, which one line of ``left_out`` names. Folders whose names are one when they are ``normalised``
    hold the images of one class.

    Raises:
        DataError: it is no folder, or a class has a name that cannot be printed.
    """
    names = _folders(folder)
    check_labels(printable(str(folder)), names)
    classes = sorted({normalised(name) for name in names})
    items: list[Item] = []
    lines = [*left_out, *(f"{printable(str(path))}: it lies in no class folder" for path in _images_in(folder))]
    above = frozenset(_identity(path) for path in (folder, *folder.resolve().parents))
    clutter = _clutter_in(folder)
    for name in sorted(names, key=lambda name: (normalised(name), name)):  # those of one class after one another
        for found in _walk(folder / name, above):
            if isinstance(found, Path) and is_clutter(found.name):
                clutter.append(found.name)
            elif isinstance(found, str):
                lines.append(found)
            else:
                path = printable(found.relative_to(folder).as_posix())
                reading = partial(read_image, found), partial(stamp_of, found)
                items.append(Item(printable(str(found)), path, normalised(name), *reading))
    lines += _skipped(folder, clutter)
    return Part(printable(str(folder)), tuple(classes), tuple(items), tuple(lines))


def list_images(folder: Path) -> Part:
    """Every file below ``folder``, in a fixed order and in no class, whatever its folders are called. What is hidden, or left
    behind by a system, is skipped; raises DataError where it is no folder."""
    _folders(folder)  # refuses what is none, or cannot be read
    items: list[Item] = []
    lines: list[str] = []
    for found in _walk(folder, frozenset(_identity(path) for path in folder.resolve().parents)):
        if isinstance(found, str):
            lines.append(found)
        elif not is_clutter(found.name):
            path = printable(found.relative_to(folder).as_posix())
            items.append(Item(printable(str(found)), path, "", partial(read_image, found), partial(stamp_of, found)))
    return Part(printable(str(folder)), (), tuple(items), tuple(lines))


def _is_skipped(name: str) -> bool:
    return is_hidden(name) or is_clutter(name)


def _clutter_in(folder: Path) -> list[str]:
    """Names of what systems left behind directly in ``folder``."""
    return sorted(path.name for path in folder.iterdir() if is_clutter(path.name))


def _skipped(folder: Path, clutter: Sequence[str]) -> Iterator[str]:
    """One line for all of it."""
    if clutter:
        names = ", ".join(sorted(set(map(printable, clutter))))
        yield f"{printable(str(folder))}: skipped what systems leave behind in folders ({names})"


def _folders(folder: Path) -> list[str]:
    """Names of the folders in ``folder`` that are not hidden and not left behind by a system, sorted."""
    if not folder.is_dir():
        raise DataError(
            f"{printable(str(folder))} is not a folder; give a folder that holds one folder of images for each class, or "
            "another form of data, see docs/training.md"
        )
    try:
        return sorted(path.name for path in folder.iterdir() if not _is_skipped(path.name) and path.is_dir())
    except OSError as err:
        raise DataError(f"{printable(str(folder))} cannot be read: {reason(err)}") from err


def _images_in(folder: Path) -> list[Path]:
    """Files directly in ``folder`` that are called as images are."""
    found = (path for path in folder.iterdir() if path.suffix.lower() in IMAGE_ENDINGS and not is_hidden(path.name))
    return sorted(path for path in found if path.is_file())


def _has_parts(folder: Path, names: list[str]) -> bool:
    """Whether train is a part: among classes such as bus and tram it is one of them, without folders of its own."""
    return "train" in names and (PART_WORDS.issuperset(names) or bool(_folders(folder / "train")))


def _check_not_parts(folder: Path, names: list[str]) -> None:
    """Else a folder called test would become a class, and the network would learn to tell test images from others."""
    parts = [name for name in names if name.lower() in PART_WORDS]
    if parts and (len(parts) == len(names) or any(name in SPLITS and len(_folders(folder / name)) > 1 for name in parts)):
        raise DataError(
            f"{printable(str(folder))} holds {', '.join(parts)}, which look like parts and not like classes, but no 'train': "
            "call the folder to train on 'train', the others 'val' and 'test'"
        )


def _unused(folder: Path, names: list[str]) -> tuple[str, ...]:
    """A line for all that lies beside train/ and is no part."""
    validation = [name for name in VALIDATION_NAMES if name in names][:1]
    used = {"train", "test", *validation}
    others = [folder / name for name in names if name not in used]
    instead = f"; {validation[0]} is validated on" if validation else ""
    return (
        *(f"{printable(str(path))}: it is not used, being none of train, val and test{instead}" for path in others),
        *(f"{printable(str(path))}: it lies in no class folder" for path in _images_in(folder)),
        *_skipped(folder, _clutter_in(folder)),
    )


def _identity(folder: Path) -> tuple[int, int]:
    """The same for a folder and a link to it."""
    found = folder.stat()
    return found.st_dev, found.st_ino


def _walk(folder: Path, above: frozenset[tuple[int, int]]) -> Iterator[Path | str]:
    """Files below a folder, sorted, links followed, and what systems left behind; a line of ``left_out`` for what cannot be
    read."""
    try:
        here = _identity(folder)
        names = sorted(name for name in os.listdir(folder) if not is_hidden(name))
    except OSError as err:
        yield f"{printable(str(folder))}: {reason(err)}"
        return
    if here in above:
        yield f"{printable(str(folder))}: a link to a folder that it lies in, not followed"
        return
    for name in names:
        path = folder / name
        if is_clutter(name):  # a folder of it is not looked into
            yield path
            continue
        try:
            kind = path.stat().st_mode
        except OSError as err:
            broken = path.is_symlink() and not isinstance(err, PermissionError)
            yield f"{printable(str(path))}: {'a link that leads nowhere' if broken else reason(err)}"
            continue
        if stat.S_ISDIR(kind):
            yield from _walk(path, above | {here})
        elif stat.S_ISREG(kind):
            yield path
        else:
            yield f"{printable(str(path))}: it is neither a file nor a folder"
