"""What is wrong with the images of a source, what looks odd, and what to do about it; the gravest first."""

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from models.errors import PackageError
from models.package import label_names
from models.package import manifest as manifests
from training.data.near_duplicates import Pair, exact_copies, near_copies
from training.inspection import suspects
from training.inspection.facts import Look
from training.inspection.suspects import Suspects

IMBALANCE = 3.0  # largest over smallest class, from which training should make up for it
SCARCE = 20  # training images of a class below which figures mean little
TRAINED = ("train", HELD_OUT := "held out")  # splits of the images to train on; the second is what a training leaves out of them

Group = tuple[int, ...]  # indices of images of a look that belong together
Groups = Sequence[tuple[Group, str]]  # with a note each
SUSPECTS: tuple[tuple[str, Callable[[Look], Suspects], str, str], ...] = (
    ("plain", suspects.plain, "of nearly one colour", "Look whether there is anything to see"),
    ("dark", suspects.dark, "very dark", "Look whether the class can be seen"),
    (
        "shallow",
        suspects.shallow,
        "of 12 bits or fewer in files of 16, and nearly black",
        "Multiply their values, 12 bits by 16, so that white is 65535: training and service see the upper 8 bits alone",
    ),
    ("bright", suspects.bright, "very bright", "Look whether the class can be seen"),
    ("blurred", suspects.blurred, "far less sharp than the others", "Look whether the class can be seen"),
    ("tiny", suspects.tiny, "much smaller than the others", "They may be thumbnails: look for the originals"),
    ("long", suspects.long, "very long or tall", "Only the middle is looked at: cut out what shows the class"),
    ("grey", suspects.grey, "grey, the others coloured", "Look whether one class has more of them: a network would learn that"),
    (
        "coloured",
        suspects.coloured,
        "coloured, the others grey",
        "Look whether one class has more of them: a network would learn that",
    ),
)


@dataclass(frozen=True)
class Finding:
    """level: "error" where training fails, or what is measured is wrong; "warning" for the rest.

    groups: images that belong together, with a note each; where there are none, ``lines`` says all.
    """

    kind: str
    level: Literal["error", "warning"]
    title: str
    advice: str
    groups: Groups = ()
    lines: Sequence[str] = ()


class Pictures(Protocol):
    """Images to compare, one entry each: split, label, group ("" where none is given), what tells one file from another, what
    tells one picture from another, and small: (n, SIDE, SIDE) uint8, grey. classes: by split."""

    @property
    def splits(self) -> Sequence[str]: ...
    @property
    def labels(self) -> Sequence[str]: ...
    @property
    def groups(self) -> Sequence[str]: ...
    @property
    def files(self) -> Sequence[Hashable]: ...
    @property
    def seen(self) -> Sequence[Hashable]: ...
    @property
    def small(self) -> NDArray[np.uint8]: ...
    @property
    def classes(self) -> Mapping[str, tuple[str, ...]]: ...


def find(look: Look) -> list[Finding]:
    """Everything that was found, errors first."""
    return by_level([*_unusable(look), *_merged(look), *compare(look), *_left_out(look), *_suspects(look)])


def compare(pictures: Pictures) -> Iterator[Finding]:
    """What is found without another look into the files: what training says, too, before it begins."""
    exact = exact_copies(pictures.seen)
    yield from _names(pictures)
    yield from _copies(pictures, exact, near_copies(pictures.small, exact))
    yield from _groups(pictures)
    yield from _lacking(pictures)
    yield from _balance(pictures)


def by_level(found: Sequence[Finding]) -> list[Finding]:
    """Errors before warnings; each kind stays in its order."""
    return sorted(found, key=lambda finding: finding.level)


def counted(n: int, one: str, more: str = "") -> str:
    """ "1 image", "2 images"; ``more`` is the plural where an s is not enough."""
    return f"{n} {one if n == 1 else more or one + 's'}"


def _unusable(look: Look) -> Iterator[Finding]:
    """What makes training fail."""
    train, parts = look.source.train, look.source.parts
    counts = Counter(zip(look.splits, look.labels, strict=True))
    empty = [f"{name} in {part.place}" for split, part in parts.items() for name in part.classes if not counts[split, name]]
    known = set(train.classes)
    unknown = [f"{name} in {part.place}" for part in parts.values() for name in part.classes if name not in known]
    files = Counter(label for split, label, _ in set(zip(look.splits, look.labels, look.files, strict=True)) if split == "train")
    single = [name for name in train.classes if files[name] == 1 and look.source.validation is None]
    if len(train.classes) < 2:
        title = counted(len(train.classes), "class", "classes") + " to train on"
        advice = "At least 2 are needed: in a folder, the images of each class lie in a folder of their own"
        yield Finding("classes", "error", title, advice, lines=train.classes)
    try:
        manifests.check_labels(train.classes)
    except PackageError as err:
        title = "no package of these classes can be served"
        yield Finding("unservable", "error", title, "Training refuses them: take fewer, or shorter names", lines=[str(err)])
    if empty:
        title = counted(len(empty), "class has", "classes have") + " no usable image"
        yield Finding("empty", "error", title, "Add images or remove the class", lines=empty)
    if unknown:
        title = counted(len(unknown), "class has", "classes have") + " no training images"
        yield Finding(
            "unknown", "error", title, "The network will not know it: add training images or correct the name", lines=unknown
        )
    if single:
        title = counted(len(single), "class has", "classes have") + " 1 image"
        lines = [f"{name}, {n} times" if (n := counts["train", name]) > 1 else name for name in single]
        yield Finding("single", "error", title, "At least 2 are needed, 1 of them to validate", lines=lines)


def _merged(look: Look) -> Iterator[Finding]:
    """Folders of several names that hold the images of one class, which are read together."""
    folders: dict[str, dict[str, None]] = {}
    for item in look.items:
        name = item.path.partition("/")[0]
        if name != item.label and label_names.normalised(name) == item.label:
            folders.setdefault(item.label, {})[name] = None
    present = {item.path.partition("/")[0] for item in look.items}
    merged = {label: [*([label] if label in present else []), *names] for label, names in folders.items()}
    if lines := [f"{label}: {'; '.join(map(label_names.spelled, names))}" for label, names in merged.items() if len(names) > 1]:
        title = counted(len(lines), "class has", "classes have") + " folders whose names look the same"
        yield Finding("merged", "warning", title, "They are read as one class: give the folders one name", lines=lines)


def _names(pictures: Pictures) -> Iterator[Finding]:
    """Classes whose names differ by what is hardly seen alone; of single letters, case is what they mean."""
    names = dict.fromkeys(name for classes in pictures.classes.values() for name in classes)
    same: dict[str, list[str]] = {}
    for name in names:
        same.setdefault(label_names.folded(name), []).append(name)
    if lines := [", ".join(map(label_names.spelled, some)) for folded, some in same.items() if len(some) > 1 and len(folded) > 1]:
        title = counted(len(lines), "name stands", "names stand") + " for more than one class"
        advice = "They differ by upper and lower case, by blanks, or by characters that are not seen: give their images one name"
        yield Finding("alike", "error", title, advice, lines=lines)


def _copies(pictures: Pictures, exact: list[list[int]], near: list[Pair]) -> Iterator[Finding]:
    """The same picture twice: in two splits, with two labels, or only more than once."""
    groups = [(tuple(group), "the same file" if _same_file(pictures, group) else "the same pixels") for group in exact]
    leaks, labels, rest = _sort(pictures, groups)
    near_leaks, near_labels, near_rest = _sort(pictures, [((pair.first, pair.second), _likeness(pair)) for pair in near])
    apart = "What is measured on images that were trained on is too good: keep each picture in one split"
    once = "Remove all but one: each counts as often as it is there"
    if leaks:
        yield Finding("leak", "error", counted(len(leaks), "picture is", "pictures are") + " in two splits", apart, leaks)
    if labels:
        advice = "One of the labels is wrong, or the picture shows both: correct or remove it"
        yield Finding("labels", "warning", counted(len(labels), "picture has", "pictures have") + " two labels", advice, labels)
    if near_leaks:
        title = counted(len(near_leaks), "pair") + " of nearly the same picture in two splits"
        yield Finding("near-leak", "warning", title, apart, near_leaks)
    if near_labels:
        title = counted(len(near_labels), "pair") + " of nearly the same picture with two labels"
        yield Finding("near-labels", "warning", title, "Look which label is right, and correct the other", near_labels)
    if rest:
        title = counted(len(rest), "picture is", "pictures are") + " there more than once"
        yield Finding("copies", "warning", title, once, rest)
    if near_rest:
        title = counted(len(near_rest), "pair") + " of nearly the same picture"
        yield Finding("near-copies", "warning", title, once, near_rest)


def _likeness(pair: Pair) -> str:
    return f"{pair.likeness:.3f} alike" + (", perhaps by chance: there is little to see" if pair.flat else "")


def _same_file(pictures: Pictures, group: Sequence[int]) -> bool:
    files = pictures.files
    return len({files[i] for i in group}) == 1


def _sort(pictures: Pictures, groups: Groups) -> tuple[Groups, Groups, Groups]:
    """Groups over two splits, groups of two labels (one can be both), and the others."""
    splits, names = pictures.splits, pictures.labels
    leaks = [group for group in groups if len({splits[i] for i in group[0]}) > 1]
    labels = [group for group in groups if len({names[i] for i in group[0]}) > 1]
    either = {group[0] for group in (*leaks, *labels)}
    return leaks, labels, [group for group in groups if group[0] not in either]


def _groups(pictures: Pictures) -> Iterator[Finding]:
    """What the source says belongs together, and is in two splits."""
    splits: dict[str, dict[str, None]] = {}
    for name, split in zip(pictures.groups, pictures.splits, strict=True):
        if name:
            splits.setdefault(name, {})[split] = None
    if lines := [f"{name}: {', '.join(where)}" for name, where in splits.items() if len(where) > 1]:
        title = counted(len(lines), "group is", "groups are") + " in two splits"
        advice = "What is measured on groups that were trained on is too good: keep each in one split; a class needs two at least"
        yield Finding("groups", "error", title, advice, lines=lines)


def _lacking(pictures: Pictures) -> Iterator[Finding]:
    """Classes that are trained on and not measured."""
    present = {split: set[str]() for split in pictures.classes}
    for split, label in zip(pictures.splits, pictures.labels, strict=True):
        present[split].add(label)
    others = [split for split in pictures.classes if split != "train"]
    lines = [f"{name}: none in {split}" for split in others for name in pictures.classes["train"] if name not in present[split]]
    if lines:
        title = counted(len(lines), "class", "classes") + " to train on cannot be measured"
        yield Finding("lacking", "warning", title, "How well it is known stays unseen: add images of it there", lines=lines)


def _left_out(look: Look) -> Iterator[Finding]:
    if lines := [line for lines in look.left_out.values() for line in lines]:
        title = counted(len(lines), "file or folder is", "files or folders are") + " left out"
        yield Finding("left-out", "warning", title, "Repair, convert or remove them; the service refuses them too", lines=lines)


def _balance(pictures: Pictures) -> Iterator[Finding]:
    counts = training_counts(pictures)
    if scarce := [f"{name}: {counted(n, 'image')}" for name, n in sorted(counts.items()) if n < SCARCE]:
        title = counted(len(scarce), "class has", "classes have") + f" fewer than {SCARCE} training images"
        yield Finding("scarce", "warning", title, "Collect more: too few are left to train on and to measure with", lines=scarce)
    if (ratio := imbalance(pictures)) > IMBALANCE:
        (most, n), (least, m) = counts.most_common()[0], counts.most_common()[-1]
        advice = 'Collect more of the small ones, or set balance = "weights" or balance = "sampler" in the recipe'
        title = f"the largest class has {ratio:.1f} times the images of the smallest"
        yield Finding(
            "imbalance", "warning", title, advice, lines=[f"{most}: {counted(n, 'image')}", f"{least}: {counted(m, 'image')}"]
        )


def training_counts(pictures: Pictures) -> Counter[str]:
    return Counter(label for split, label in zip(pictures.splits, pictures.labels, strict=True) if split in TRAINED)


def imbalance(pictures: Pictures) -> float:
    """Training images of the largest class over those of the smallest one that has any; 1 where there are none."""
    counts = training_counts(pictures).values()
    return max(counts) / min(counts) if counts else 1.0


def _suspects(look: Look) -> Iterator[Finding]:
    for kind, function, what, advice in SUSPECTS:
        if found := [((i,), note) for i, note in function(look)]:
            yield Finding(kind, "warning", f"{counted(len(found), 'image is', 'images are')} {what}", advice, found)
