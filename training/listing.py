"""Image files of a folder, listed but not read, for who does not decode them here. Neighbour: probe.py sends them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from training.data import VALIDATION_FOLDERS, class_folders
from training.errors import DataError


@dataclass(frozen=True)
class Item:
    """One image; ``read`` gives the bytes of its file, or raises OSError."""

    name: str
    label: str
    read: Callable[[], bytes]


@dataclass(frozen=True)
class Part:
    """The images of one split, in a fixed order."""

    place: str
    classes: tuple[str, ...]
    items: tuple[Item, ...]


def list_parts(source: Path) -> dict[str, Part]:
    """What data.py would decode, by split: "train", and where they are there "val" and "test"; raises DataError."""
    if not (source / "train").is_dir():
        return {"train": _list(source)}
    beside = {"val": next((n for n in VALIDATION_FOLDERS if (source / n).is_dir()), "val"), "test": "test"}
    found = {"train": _list(source / "train")}
    found |= {split: _list(source / name) for split, name in beside.items() if (source / name).is_dir()}
    for part in found.values():
        if unknown := sorted(set(part.classes) - set(found["train"].classes)):
            raise DataError(f"{part.place} holds classes that are not in the training images: {', '.join(unknown)}")
    return found


def _list(folder: Path) -> Part:
    classes = class_folders(folder)
    items = tuple(
        Item(str(path), label, path.read_bytes)
        for label in classes
        for path in sorted((folder / label).rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    return Part(str(folder), classes, items)
