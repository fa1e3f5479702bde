"""What a run has answered so far, on disk: what it is made from, then one line for each image, in their order.

Lines are only ever added. A run that is killed loses what it had not written; the next one goes on after the last whole line.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import msgspec

from models import files
from service.bulk.errors import UNREADABLE, BulkError, reason
from service.bulk.item import Item
from service.bulk.row import Row

ENDING = ".partial"
SYNC_ROWS = 5000  # between two times that the disk is waited for
Facts = dict[str, str]
decode, encode = msgspec.json.Decoder(Row).decode, msgspec.json.Encoder().encode


def facts_of(model: Mapping[str, str], items: Sequence[Item]) -> Facts:
    """What an output is made from."""
    digest = hashlib.sha256()
    for item in items:
        digest.update(f"{item.path}\0{item.stamp}\n".encode())
    return {**model, "images": f"{len(items):,}", "list of images": digest.hexdigest()}


def difference(ours: Facts, theirs: Facts) -> str:
    """In words, the first thing that differs; "" where nothing does."""
    for name in sorted({*ours, *theirs}, key=lambda name: name == "list of images"):
        if (mine := ours.get(name, "nothing")) != (other := theirs.get(name, "nothing")):
            return f"{name} {other[:60]}, now {mine[:60]}"
    return ""


class Journal:
    """path: of the file. done: images whose lines it has. Closed, it can be opened again."""

    def __init__(self, path: Path, facts: Facts, items: Sequence[Item], anew: bool = False) -> None:
        """anew: what is there of another run is thrown away. Raises BulkError."""
        self.path = path
        self.items = items
        self.done = self.synced = 0
        try:
            self.handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_APPEND | os.O_NOFOLLOW, 0o644)
        except OSError as err:
            raise BulkError(f"{path} cannot be written: {reason(err)}; name another --out") from err
        try:
            self._begin(facts, anew)
        except BaseException:
            self.close()
            raise

    def _begin(self, facts: Facts, anew: bool) -> None:
        if not _locked(self.handle) or not os.fstat(self.handle).st_nlink:  # or it was finished and removed in between
            raise BulkError(f"another process writes {self.path}; wait for it, or name another --out")
        theirs = self._read_facts()
        other = "" if theirs is None else difference(facts, theirs)
        if other and not anew:
            raise BulkError(
                f"{self.path} is the unfinished output of another run ({other}); give --overwrite to throw it away, or name "
                "another --out"
            )
        if theirs is None or other:
            os.ftruncate(self.handle, 0)
            self._write(encode(facts) + b"\n")
        else:
            self.done = self.synced = self._keep_whole_lines()

    def _read_facts(self) -> Facts | None:
        """None where the file is new, or its first line was never finished."""
        with open(self.path, "rb") as file:
            first = file.readline()
        if not first.endswith(b"\n"):
            return None
        try:
            return msgspec.json.decode(first, type=Facts)
        except msgspec.DecodeError:
            return {"file": "of another kind"}

    def _keep_whole_lines(self) -> int:
        """Cut off what a killed run left behind the last whole line, and the files at the end that could not be read, for they
        may be there again; how many lines are left."""
        with open(self.path, "rb") as file:
            end = len(file.readline())
            at, kept, done = end, end, 0
            for count, (line, item) in enumerate(zip(file, self.items, strict=False), 1):
                if (row := _whole(line)) is None or row.path != item.path:
                    break
                at += len(line)
                if row.error != UNREADABLE:
                    kept, done = at, count
        os.ftruncate(self.handle, kept)
        return done

    def add(self, rows: Sequence[Row]) -> None:
        """The rows of the next images. Raises BulkError where they cannot be written."""
        self._write(b"".join([line for row in rows for line in (encode(row), b"\n")]))
        self.done += len(rows)
        if self.done - self.synced >= SYNC_ROWS:
            self.sync()

    def sync(self) -> None:
        os.fsync(self.handle)
        self.synced = self.done

    def _write(self, data: bytes) -> None:
        try:
            while data:
                data = data[os.write(self.handle, data) :]
        except OSError as err:
            raise BulkError(
                f"{self.path} cannot be written: {reason(err)}; {self.done:,} images are in it: make room, and run the same "
                "command again, it goes on from there"
            ) from err

    def lines(self) -> Iterator[bytes]:
        """One for each image that is done, as JSON."""
        with open(self.path, "rb") as file:
            yield from islice(file, 1, 1 + self.done)

    def rows(self) -> Iterator[Row]:
        return map(decode, self.lines())

    def close(self) -> None:
        if self.handle >= 0:
            os.close(self.handle)
        self.handle = -1

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self.close()


def _whole(line: bytes) -> Row | None:
    try:
        return decode(line) if line.endswith(b"\n") else None
    except msgspec.DecodeError:
        return None


def _locked(handle: int) -> bool:
    try:
        return files.lock(handle)
    except OSError:  # a file system without locks
        return True
