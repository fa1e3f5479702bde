"""What a run was trained on, image by image: data.json beside its checkpoint, so that a later call can tell whether the data
are still the same, and what changed. A file whose stamp is the same is not read again.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from msgspec import Struct

from models.package.held_out_answers import identity
from training.data.dataset import ImageSet
from training.data.parallel import in_threads
from training.data.sources.catalogue import JOIN, SCHEMES, open_source
from training.data.sources.source import Item

FILE = "data.json"
TEST = "test"  # the part that nothing is learnt from
UNREADABLE = ""


class Image(Struct, frozen=True, array_like=True):
    """An image: its class, the stamp of its file, and the first 8 bytes of the SHA-256 of its bytes."""

    label: str
    stamp: str
    digest: str


class Contents(Struct, frozen=True):
    """What a source held. ``address``: where it lay; images by their part ("train", "val", "test", "more") and path."""

    address: str
    classes: tuple[str, ...]
    images: dict[str, dict[str, Image]]


@dataclass(frozen=True)
class Listed:
    """What a source holds now, of which nothing was read; items and their stamps by part and path."""

    address: str
    classes: tuple[str, ...]
    items: dict[str, dict[str, Item]]
    stamps: dict[str, dict[str, str]]


@dataclass(frozen=True)
class Changes:
    """How data differ from what they were. trained: images by what happened to them, of those to learn from and to validate
    on; tested: the same of test images."""

    trained: Counter[str] = field(default_factory=Counter)
    tested: Counter[str] = field(default_factory=Counter)
    new_classes: tuple[str, ...] = ()
    gone_classes: tuple[str, ...] = ()
    reordered: bool = False

    @property
    def need_training(self) -> bool:
        return bool(self.trained or self.reordered or self.new_classes or self.gone_classes)

    @property
    def of_test(self) -> str:
        return _counted(self.tested)

    def __str__(self) -> str:
        return "; ".join(part for part in (_counted(self.trained), *self._of_classes()) if part)

    def _of_classes(self) -> Iterator[str]:
        for word, names in (("added", self.new_classes), ("gone", self.gone_classes)):
            if names:
                yield f"class{'es' if len(names) > 1 else ''} {', '.join(names)} {word}"
        if self.reordered:
            yield "the classes in another order"


def _counted(counts: Mapping[str, int]) -> str:
    """ "12 images added, 1 removed"."""
    words = {word: n for word, n in counts.items() if n}
    nouns = ["image " if n == 1 else "images " for n in words.values()][:1] + [""] * (len(words) - 1)
    return ", ".join(f"{n} {noun}{word}" for (word, n), noun in zip(words.items(), nouns, strict=True))


def address(source: str | Path) -> str:
    """Where a source lies, whatever folder it is named from."""
    scheme, colon, _ = str(source).partition(":")
    return str(source) if colon and scheme in (*SCHEMES, JOIN) else os.path.realpath(source)


def look(source: str | Path) -> Listed:
    """List a source; raises DataError as ``open_source``."""
    found = open_source(source)
    parts = found.parts | ({"more": found.more} if found.more else {})
    items = {name: _by_path(part.items) for name, part in parts.items()}
    stamps = {name: {path: _stamp(item) for path, item in some.items()} for name, some in items.items()}
    return Listed(address(source), found.train.classes, items, stamps)


def _by_path(items: Iterable[Item]) -> dict[str, Item]:
    """Two of one path, as two shards can hold, are told apart by a number."""
    found: dict[str, Item] = {}
    seen: Counter[str] = Counter()
    for item in items:
        seen[item.path] += 1
        found[item.path if seen[item.path] == 1 else f"{item.path} ({seen[item.path]})"] = item
    return found


def _stamp(item: Item) -> str:
    try:
        return _digest(item) if item.stamp is None else item.stamp()
    except OSError:
        return UNREADABLE


def _digest(item: Item) -> str:
    try:
        return f"{identity(item.read()):016x}"
    except OSError:
        return UNREADABLE


def _digests(items: Sequence[Item]) -> list[str]:
    return list(in_threads(lambda i: _digest(items[i]), len(items), "compare")) if items else []


def note(listed: Listed, trained: ImageSet, validation: ImageSet) -> Contents:
    """What is to be remembered of a source once its images were decoded; what was not, is read."""
    known = {"train": _identities(trained), "val": _identities(validation)}
    if "val" not in listed.items:  # what is validated on was held out of the other images
        known["train"] |= known.pop("val")
    images: dict[str, dict[str, Image]] = {}
    for part, items in listed.items.items():
        digests = {path: digest for path, digest in known.get(part, {}).items() if path in items}
        rest = [path for path in items if path not in digests]
        digests |= dict(zip(rest, _digests([items[path] for path in rest]), strict=True))
        images[part] = {path: Image(item.label, listed.stamps[part][path], digests[path]) for path, item in items.items()}
    return Contents(listed.address, listed.classes, images)


def _identities(images: ImageSet) -> dict[str, str]:
    """By path, of those that can be told apart by it."""
    often = {path for path, n in Counter(images.paths).items() if n > 1}
    pairs = zip(images.paths, images.identities.tolist(), strict=False)  # of images that were made there are none
    return {path: f"{number:016x}" for path, number in pairs if path not in often}


def compare(before: Contents, now: Listed) -> tuple[Changes, Contents]:
    """What changed, and the contents as they are now."""
    counts: dict[str, Counter[str]] = {TEST: Counter(), "train": Counter()}
    images: dict[str, dict[str, Image]] = {}
    for part in dict.fromkeys([*before.images, *now.items]):
        found, images[part] = _compare(before.images.get(part, {}), now.items.get(part, {}), now.stamps.get(part, {}))
        counts[TEST if part == TEST else "train"].update(found)
    sides = (now.classes, set(before.classes)), (before.classes, set(now.classes))
    new, gone = (tuple(name for name in classes if name not in others) for classes, others in sides)
    reordered = not new and not gone and now.classes != before.classes
    images = {part: some for part, some in images.items() if part in now.items}
    return Changes(counts["train"], counts[TEST], new, gone, reordered), Contents(now.address, now.classes, images)


def _compare(
    before: Mapping[str, Image], items: Mapping[str, Item], stamps: Mapping[str, str]
) -> tuple[Counter[str], dict[str, Image]]:
    """Of one part: how many images of each kind of change, and the part as it is now."""
    added, gone = [path for path in items if path not in before], [path for path in before if path not in items]
    touched = [path for path in items if path in before and (stamps[path] != before[path].stamp or not stamps[path])]
    to_read = touched + added
    digests = {path: image.digest for path, image in before.items() if path in items}
    digests |= dict(zip(to_read, _digests([items[path] for path in to_read]), strict=True))
    now = {path: Image(item.label, stamps[path], digests[path]) for path, item in items.items()}
    counts = Counter({"added": 0, "removed": 0, "changed": 0, "with another label": 0, "renamed": 0})
    for path in (path for path in now if path in before):
        if now[path].label != before[path].label:
            counts["with another label"] += 1
        elif now[path].digest != before[path].digest:
            counts["changed"] += 1
    left = Counter(before[path].digest for path in gone)
    labels = {before[path].digest: before[path].label for path in gone}
    for path in added:  # one that was there under another name has moved
        if left[digest := now[path].digest] > 0 and digest:
            left[digest] -= 1
            counts["renamed" if labels[digest] == now[path].label else "with another label"] += 1
        else:
            counts["added"] += 1
    counts["removed"] += left.total()
    counts["in another order"] = 0 if counts.total() or list(now) == list(before) else len(now)
    return +counts, now


def read(folder: Path) -> Contents | None:
    """What the run in ``folder`` was trained on; None where that was not noted, or cannot be read."""
    try:
        return msgspec.json.decode((folder / FILE).read_bytes(), type=Contents)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def write(folder: Path, contents: Contents) -> None:
    """Replace data.json of a run."""
    folder.mkdir(parents=True, exist_ok=True)
    beside = folder / f".{FILE}.new"
    beside.write_bytes(msgspec.json.encode(contents))
    beside.replace(folder / FILE)
