"""A list of files with their classes: CSV with the header path,label[,split][,group], or JSONL with the same keys."""

import csv
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import msgspec
from msgspec import Struct

from training.data.sources.source import (
    SPLITS,
    Item,
    Source,
    first_of,
    make_part,
    make_source,
    printable,
    read_image,
    reason,
    stamp_of,
)
from training.errors import DataError

ENDINGS = (".csv", ".jsonl")


class Row(Struct):
    """One line of a list. Further columns and keys are ignored; label and group may be numbers in JSON."""

    path: str
    label: str | int
    split: str | None = None
    group: str | int | None = None


def open_listing(path: Path) -> Source:
    """Paths are relative to the folder of the list; absolute ones and ``..`` are followed too. Either every line names a
    split (train, val or test) or none does.

    Raises:
        DataError: names the lines at fault.
    """
    try:
        rows = list(_csv_rows(path) if path.suffix.lower() == ".csv" else _json_rows(path))
    except UnicodeDecodeError as err:
        raise DataError(f"{path} is not UTF-8: {err.reason} at byte {err.start}; save it as UTF-8") from err
    except OSError as err:
        raise DataError(f"{path} cannot be read: {reason(err)}") from err
    if problems := [*_problems(rows), *_missing(path.parent, rows)]:
        raise DataError(f"{path}: {first_of(problems)}")
    parts: dict[str, list[Item]] = {}
    for _, row in rows:
        file = path.parent / row.path
        name, group = printable(str(file)), "" if row.group is None else printable(str(row.group).strip())
        reading = partial(read_image, file), partial(stamp_of, file)
        item = Item(name, printable(Path(row.path).as_posix()), _label(row), *reading, group)
        parts.setdefault(SPLITS[row.split or "train"], []).append(item)
    return make_source(str(path), {split: make_part(str(path), items) for split, items in parts.items()})


def _label(row: Row) -> str:
    return str(row.label).strip()


def _csv_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """Line number and row; the first line is line 1."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file, strict=True)
        try:
            header = [cell.strip() for cell in next(lines, [])]
            if not {"path", "label"} <= set(header):
                raise DataError(
                    f"{path}: line 1 is {','.join(header)!r}, it must name the columns path,label or path,label,split"
                )
            for cells in lines:
                if not cells:
                    continue
                if len(cells) != len(header):
                    raise DataError(f"{path}: line {lines.line_num} has {len(cells)} cells, the header has {len(header)}")
                row = dict(zip(header, cells, strict=True))
                yield lines.line_num, Row(row["path"], row["label"], row.get("split", "").strip(), row.get("group"))
        except csv.Error as err:
            raise DataError(f"{path}: line {lines.line_num}: {err}") from err


def _json_rows(path: Path) -> Iterator[tuple[int, Row]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            if text.strip():
                try:
                    yield number, msgspec.json.decode(text, type=Row)
                except msgspec.DecodeError as err:
                    raise DataError(
                        f"{path}: line {number}: {err}; a line is such as " + '{"path": "a.jpg", "label": "cat"}'
                    ) from err


def _problems(rows: list[tuple[int, Row]]) -> Iterator[str]:
    """What is wrong with the lines themselves."""
    if not rows:
        yield "it lists no image"
    with_split = any(row.split for _, row in rows)
    before: dict[str, tuple[int, Row]] = {}
    for number, row in rows:
        if not row.path.strip():
            yield f"line {number}: the path is empty"
        elif not _label(row):
            yield f"line {number}: the label of {printable(row.path)} is empty"
        elif with_split and not row.split:
            yield f"line {number}: {printable(row.path)} has no split, other lines have; name it in all lines or in none"
        elif row.split and row.split not in SPLITS:
            yield f"line {number}: unknown split {row.split!r}; there are train, val and test"
        else:
            first, other = before.setdefault(os.path.normpath(row.path), (number, row))
            if other is not row:
                label = f" as {_label(other)!r}" if _label(other) != _label(row) else ""
                split = f" in {other.split}" if other.split != row.split else ""
                yield f"line {number}: {printable(row.path)} stands on line {first} already{label}{split}"


def _missing(folder: Path, rows: list[tuple[int, Row]]) -> Iterator[str]:
    for number, row in rows:
        if row.path.strip() and not (folder / row.path).is_file():
            what = "is a folder" if (folder / row.path).is_dir() else "does not exist"
            yield f"line {number}: {printable(str(folder / row.path))} {what}"
