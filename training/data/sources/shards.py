"""WebDataset shards: tar files in which the files of a sample follow one another and share their name up to the first dot.

A sample is an image and its class: a file .cls, or "label" in a file .json, which may hold a "group" too. Only plain tar
files are read, by seeking, and nothing in them is run or unpacked.
"""

import json
import re
import tarfile
from collections.abc import Iterator
from functools import partial
from itertools import groupby
from pathlib import Path

from training.data.sources.source import SPLITS, Item, Part, Source, make_part, make_source, printable, reason, stamp_of
from training.errors import DataError

IMAGES = ("jpg", "jpeg", "png", "webp")
NAMES = ("classes.txt", "classnames.txt")  # beside the shards; line i names class i - 1
MAX_LABEL_BYTES = 1 << 20
MEMBER = re.compile(r"((?:.*/)?[^./]+)\.([^/]+)", re.S)  # name of the sample, ending
RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
CHOICE = re.compile(r"\{([^{}]*)\}")


def open_shards(pattern: str) -> Source:
    """The samples of all shards: a folder of them, or a path with ``{000..009}``, ``{a,b}``, ``*`` and ``?``. A shard's
    split is the first word of its name, or the name of its folder, where that is train, val or test.

    Raises:
        DataError: there are none, one is no plain tar file, or only some name a split.
    """
    shards = find_shards(pattern)
    splits = [_split(shard) for shard in shards]
    if len({split is None for split in splits}) > 1:
        nameless = shards[splits.index(None)]
        raise DataError(f"{nameless} does not say its split, other shards do: begin its name with train-, val- or test-")
    names = class_names(shards[0].parent)
    parts: dict[str, Part] = {}
    for split in dict.fromkeys(splits):
        found = [line for shard, own in zip(shards, splits, strict=True) if own == split for line in _samples(shard, names)]
        items = [line for line in found if isinstance(line, Item)]
        lines = [line for line in found if isinstance(line, str)]
        parts[split or "train"] = make_part(f"{pattern}, {split or 'train'}", items, lines, names or None)
    return make_source(pattern, parts)


def find_shards(pattern: str) -> list[Path]:
    """Raises DataError when a shard that is named does not exist."""
    if Path(pattern).is_dir():
        pattern = str(Path(pattern) / "*.tar")
    shards: list[Path] = []
    for path in map(Path, expand(pattern)):
        starred = any(character in path.name for character in "*?")
        found = sorted(path.parent.glob(path.name)) if starred else [path] if path.is_file() else []
        if not found:
            raise DataError(f"{path} does not exist" if not starred else f"no file matches {path}; shards end in .tar")
        shards += found
    return shards


def expand(pattern: str) -> list[str]:
    """Braces as a shell reads them: "a{08..10}" is a08, a09, a10, "{a,b}c" is ac, bc."""
    if found := RANGE.search(pattern):
        first, last = found.groups()
        words = [str(i).zfill(len(first)) for i in range(int(first), int(last) + 1)]
    elif found := CHOICE.search(pattern):
        words = found[1].split(",")
    else:
        return [pattern]
    return [path for word in words for path in expand(pattern[: found.start()] + word + pattern[found.end() :])]


def class_names(folder: Path) -> list[str]:
    """Names of the classes by their numbers, where a file beside the shards lists them."""
    file = next((folder / name for name in NAMES if (folder / name).is_file()), None)
    return file.read_text(encoding="utf-8").splitlines() if file else []


def _split(shard: Path) -> str | None:
    first = re.split(r"[-_.]", shard.name)[0]
    return SPLITS.get(first) or SPLITS.get(shard.parent.name)


def _samples(shard: Path, names: list[str]) -> Iterator[Item | str]:
    """An item for each sample, or the line that says why it is left out."""
    try:
        with tarfile.open(shard, "r:") as archive:
            members = [(found, m) for m in archive if m.isreg() and (found := MEMBER.fullmatch(m.name))]
            for key, sample in groupby(members, lambda member: member[0][1]):
                files = {found[2].lower(): member for found, member in sample}
                name = printable(f"{shard}/{key}")
                image = next((ending for ending in files if ending.rpartition(".")[2] in IMAGES), None)
                label = _label(archive, files, names)
                if image is None:
                    yield f"{name}: the sample has no image; endings known are {', '.join(IMAGES)}"
                elif label is None:
                    yield f'{name}: the sample has no class; it needs a file .cls, or "label" in a file .json'
                else:
                    member = files[image]
                    where = shard, member.offset_data, member.size
                    path, group = printable(f"{shard.name}/{key}.{image}"), _group(archive, files)
                    yield Item(f"{name}.{image}", path, label, partial(_read, *where), partial(_stamp, *where), group)
    except tarfile.TarError as err:
        raise DataError(f"{shard} is no whole, uncompressed tar file: {err}") from err
    except OSError as err:
        raise DataError(f"{shard} cannot be read: {reason(err)}") from err


def _label(archive: tarfile.TarFile, files: dict[str, tarfile.TarInfo], names: list[str]) -> str | None:
    member = files.get("cls") or files.get("json")
    content = archive.extractfile(member) if member and member.size <= MAX_LABEL_BYTES else None
    if member is None or content is None:
        return None
    try:
        text = content.read().decode()
        value = text.strip() if member is files.get("cls") else json.loads(text)["label"]
    except (ValueError, KeyError, TypeError):
        return None
    return _named(member.name, value, names) if isinstance(value, str | int) else None


def _group(archive: tarfile.TarFile, files: dict[str, tarfile.TarInfo]) -> str:
    """What the sample says it belongs to; nothing where that cannot be read."""
    member = files.get("json")
    content = archive.extractfile(member) if member and member.size <= MAX_LABEL_BYTES else None
    try:
        value = json.loads(content.read().decode()).get("group") if content else None
    except (ValueError, AttributeError):
        return ""
    return printable(str(value)) if isinstance(value, str | int) else ""


def _named(member: str, value: str | int, names: list[str]) -> str | None:
    """The name of a class by its number, where names are listed; a name stays what it is."""
    if not names or not str(value).isdecimal():
        return str(value) or None
    if int(value) >= len(names):
        raise DataError(f"{printable(member)} is of class {value}, {' or '.join(NAMES)} names {len(names)}, the first is 0")
    return names[int(value)]


def _stamp(shard: Path, start: int, size: int) -> str:
    return f"{start} {size} {stamp_of(shard)}"


def _read(shard: Path, start: int, size: int) -> bytes:
    with shard.open("rb") as file:
        file.seek(start)
        return file.read(size)
