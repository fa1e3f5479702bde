"""The forms of an output file: CSV, lines of JSON, Parquet."""

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from models.terminal import program
from service.bulk.errors import BulkError
from service.bulk.journal import Journal
from service.bulk.row import Row

COLUMNS = tuple(name for name in Row.__struct_fields__ if name != "copy")
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # a spreadsheet computes a cell that begins so  # noqa: RUF001
GROUP_ROWS = 50_000  # of a Parquet file, which are in memory together
Writer = Callable[[Journal, tuple[str, ...], BinaryIO], None]


def writer_of(path: Path) -> Writer:
    """What writes a file of that name. Raises BulkError where its ending says no form, or a library is missing."""
    writers: dict[str, Writer] = {".csv": _write_csv, ".jsonl": _write_jsonl, ".parquet": _write_parquet}
    ending = path.suffix.lower()
    if ending not in writers:
        raise BulkError(f"--out {path} ends in {ending or 'nothing'!r}; let it end in {', '.join(writers)}")
    if ending == ".parquet":
        _parquet(path)
    return writers[ending]


def _parquet(path: Path) -> Any:
    try:
        from pyarrow import parquet  # pyright: ignore[reportMissingImports]
    except ImportError as err:
        raise BulkError(
            f"--out {path} needs pyarrow, which is not installed: {program.extra('parquet')}; or name a .jsonl"
        ) from err
    return parquet


def _write_csv(journal: Journal, columns: tuple[str, ...], file: BinaryIO) -> None:
    text = io.TextIOWrapper(file, "utf-8", newline="")
    writer = csv.writer(text, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([cell(getattr(row, name)) for name in columns] for row in journal.rows())
    text.flush()
    text.detach()


def cell(value: object) -> object:
    """For CSV: text that a spreadsheet would take for a formula gets an apostrophe before it."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def _write_jsonl(journal: Journal, columns: tuple[str, ...], file: BinaryIO) -> None:
    file.writelines(journal.lines())


def _write_parquet(journal: Journal, columns: tuple[str, ...], file: BinaryIO) -> None:
    with _parquet(journal.path).ParquetWriter(file, arrow_table([], columns).schema) as writer:
        for group in _groups(journal.rows()):
            writer.write_table(arrow_table(group, columns))


def arrow_table(rows: Sequence[Row], columns: Sequence[str]) -> Any:
    """A pyarrow.Table, with the same types whatever the rows hold."""
    import pyarrow as arrow  # pyright: ignore[reportMissingImports]

    kinds = {"probability": arrow.float64(), "novelty": arrow.float64(), "unsure": arrow.bool_()}
    schema = arrow.schema([(name, kinds.get(name, arrow.string())) for name in columns])
    return arrow.Table.from_pylist([msgspec.structs.asdict(row) for row in rows], schema)


def _groups(rows: Iterable[Row]) -> Iterator[list[Row]]:
    source = iter(rows)
    while group := list(islice(source, GROUP_ROWS)):
        yield group
