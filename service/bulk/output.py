"""Where the rows of a run go: into a file that appears once it is whole, or to standard output as they come."""

import hashlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol, TextIO

import msgspec
from msgspec import Struct

from models import files
from models.terminal.table import printable
from service.bulk import journal as journals
from service.bulk.errors import BulkError, reason
from service.bulk.formats import COLUMNS, writer_of
from service.bulk.item import Item
from service.bulk.journal import Facts, Journal, difference
from service.bulk.row import Row

ORIGIN = ".run.json"  # beside an output: what it was made from


class Origin(Struct):
    """facts: what the output was made from. sha256: of its bytes."""

    facts: Facts
    sha256: str


class Output(Protocol):
    """done: images whose rows it has from before. kept: what becomes of the rows where the run ends early."""

    done: int
    kept: str

    def earlier(self) -> Iterator[Row]: ...

    def add(self, rows: Sequence[Row]) -> None: ...

    def finish(self) -> None: ...

    def close(self) -> None: ...


def is_complete(path: Path, facts: Facts, overwrite: bool) -> bool:
    """Whether ``path`` is the whole output of this very run. Raises BulkError where it is anything else that is not to be
    replaced."""
    if not path.exists() or overwrite or _journal(path).exists():
        return False
    origin = _origin(path)
    if origin is None or origin.sha256 != _sha256(path):
        what = "was not made by this command, or changed since"
    elif not (what := difference(facts, origin.facts)):
        return True
    else:
        what = f"was made from something else ({what})"
    raise BulkError(f"{path} is there already and {what}; give --overwrite to replace it, or name another --out")


class Table:
    """A file, and beside it what it was made from. Until it is whole its rows are in a journal beside it."""

    def __init__(self, path: Path, facts: Facts, items: Sequence[Item], overwrite: bool, copies: bool) -> None:
        """copies: whether rows say where images were copied to. Raises BulkError."""
        self.path = path
        self.facts = facts
        self.columns = (*COLUMNS, "copy") if copies else COLUMNS
        self.write = writer_of(path)
        self.journal = Journal(_journal(path), facts, items, overwrite)
        self.done = self.journal.done
        self.kept = f"what was answered is kept in {self.journal.path}: look why, allow more, and the same command goes on"
        self.add, self.earlier, self.close = self.journal.add, self.journal.rows, self.journal.close

    def finish(self) -> None:
        """Put the file in place by one rename. Raises BulkError; the rows are kept then."""
        beside = f".{self.path.name}-"
        try:
            for left in self.path.parent.glob(f"{beside}*"):  # of a run that was killed here
                left.unlink()
            self.journal.sync()
            files.write_atomic(self.path, lambda file: self.write(self.journal, self.columns, file), prefix=beside)
            origin = Origin(self.facts, _sha256(self.path))
            files.write_atomic(
                self.path.with_name(self.path.name + ORIGIN), msgspec.json.format(msgspec.json.encode(origin)), prefix=beside
            )
        except OSError as err:
            raise BulkError(
                f"{self.path} cannot be written: {reason(err)}; all rows are in {self.journal.path}: make room, and run the same "
                "command again"
            ) from err
        self.journal.remove()


class Stream:
    """Standard output: lines for people on a terminal, else JSON."""

    done = 0
    kept = "the rows say why"

    def __init__(self, file: TextIO | None = None) -> None:
        """file: in the place of standard output."""
        self.file = file or sys.stdout
        self.people = self.file.isatty()

    def earlier(self) -> Iterator[Row]:
        return iter(())

    def add(self, rows: Sequence[Row]) -> None:
        """Raises BulkError, and BrokenPipeError where nobody reads any more."""
        try:
            self.file.write("".join(f"{self._line(row)}\n" for row in rows))
            self.file.flush()
        except OSError as err:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())  # what is left in its buffer would be tried again
            if isinstance(err, BrokenPipeError):
                raise
            raise BulkError(f"standard output cannot be written: {reason(err)}; make room, or name a file with --out") from err

    def _line(self, row: Row) -> str:
        return line(row) if self.people else journals.encode(row).decode()

    def finish(self) -> None:
        """All is written already."""

    def close(self) -> None:
        """It is not ours."""


def line(row: Row) -> str:
    """For a terminal."""
    if row.error is not None:
        return printable(f"{row.path}  {row.error}: {row.detail}")
    notes = "  unsure" if row.unsure else ""
    return printable(f"{row.path}  {row.label}  {row.probability or 0:.1%}{notes}")


def _journal(path: Path) -> Path:
    return path.with_name(path.name + journals.ENDING)


def _origin(path: Path) -> Origin | None:
    try:
        return msgspec.json.decode(path.with_name(path.name + ORIGIN).read_bytes(), type=Origin)
    except (OSError, msgspec.DecodeError):
        return None


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
