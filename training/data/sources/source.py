"""What there is to learn from, listed but not read: a source has up to three parts, a part has items."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from models.errors import ImageError
from models.image.formats import LOOKED_AT, sniff
from models.package.label_names import normalised
from training.errors import DataError

VALIDATION_NAMES = ("val", "valid", "validation")
SPLITS = {"train": "train", "test": "test", **dict.fromkeys(VALIDATION_NAMES, "val")}  # as written -> as meant
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
NAMED = 5  # of many things that are wrong, so many are named


@dataclass(frozen=True, slots=True)
class Item:
    """One image of a source, not read yet. Both names can be printed.

    name: what messages call it.
    path: what it is called inside its part, whatever the machine; fingerprints depend on it.
    read: gives the bytes of its file, or raises OSError.
    stamp: gives what changes with these bytes, without reading them, or raises OSError; None where there is no such thing.
    group: images of one are on the same side of a split, such as those of one person; "" where nothing is said.
    """

    name: str
    path: str
    label: str
    read: Callable[[], bytes]
    stamp: Callable[[], str] | None = None
    group: str = ""


@dataclass(frozen=True)
class Part:
    """The images of one split.

    place: what messages call it.
    classes: in the order of the targets; one may have no item.
    left_out: "name: reason" for each file that is not among the items.
    """

    place: str
    classes: tuple[str, ...]
    items: tuple[Item, ...]
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """What is trained on, what is validated on where that is given, and what only reports. ``more`` is trained on too, and
    nothing is ever held out of it."""

    train: Part
    validation: Part | None = None
    test: Part | None = None
    more: Part | None = None

    @property
    def parts(self) -> dict[str, Part]:
        """By split: "train", "val", "test"."""
        found = {"train": self.train, "val": self.validation, "test": self.test}
        return {split: part for split, part in found.items() if part is not None}


def make_part(place: str, items: Iterable[Item], left_out: Iterable[str] = (), order: Sequence[str] | None = None) -> Part:
    """A part of the classes that its items have, in the order given, others after it by name; raises DataError as
    ``check_labels``."""
    written: dict[str, str] = {}
    items = tuple(_written(item, written) for item in items)
    found = {item.label for item in items}
    known = [name for name in dict.fromkeys(map(normalised, order or ())) if name in found]
    classes = [*known, *sorted(found.difference(known))]
    check_labels(place, classes)
    return Part(place, tuple(classes), items, tuple(left_out))


def _written(item: Item, written: dict[str, str]) -> Item:
    """With its label ``normalised``; ``written`` remembers those that were."""
    if (label := written.get(item.label)) is None:
        label = written[item.label] = normalised(item.label)
    return item if label == item.label else replace(item, label=label)


def make_source(place: str, parts: Mapping[str, Part]) -> Source:
    """From parts by split; raises DataError when there is nothing to train on."""
    if "train" not in parts:
        given = " and ".join(parts) or "nothing"
        raise DataError(f"{place} holds no training images, only {given}; call the split to train on 'train'")
    return Source(parts["train"], parts.get("val"), parts.get("test"))


def check_labels(place: str, labels: Iterable[str]) -> None:
    """Raises DataError for a label that cannot be printed: it would be part of every answer."""
    for label in labels:
        if printable(label) != label or not label.strip():
            raise DataError(
                f"{place} has a class called {printable(label)!r}: a name needs letters, in UTF-8, on one line; rename it"
            )


def printable(name: str) -> str:
    r"""The name of a file for messages and records: what is no UTF-8 in it, and control characters, as \xNN."""
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def read_image(path: Path) -> bytes:
    """All bytes of a file that begins as an image does; of another one, however large, only those that tell it is none."""
    with path.open("rb") as file:
        start = file.read(LOOKED_AT)
        try:
            sniff(start)
        except ImageError:
            return start
        return start + file.read()


def stamp_of(path: Path) -> str:
    """Changes with a file: its size, and when its content and its entry were changed last."""
    found = path.stat()
    return f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"


def reason(err: Exception) -> str:
    """Why an item is left out, without the name of its file."""
    return err.strerror if isinstance(err, OSError) and err.strerror else str(err)


def first_of(problems: Sequence[str]) -> str:
    """The first problems, and how many more there are, on one line."""
    more = len(problems) - NAMED
    return "; ".join([*problems[:NAMED], *([f"and {more} more"] if more > 0 else [])])


def first_of_each(left_out: Sequence[str]) -> list[str]:
    """Lines "name: reason": all of a few, of many the first, and for each reason how many more there are."""
    more = Counter(line.rpartition(": ")[2] for line in left_out[NAMED:])
    return [*left_out[:NAMED], *(f"{count} more: {why}" for why, count in more.most_common())]
