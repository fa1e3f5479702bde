"""<store>/<name>/current.json: which version of a name is in service, and everything that was done to get there.

Pointer and history are one file that one rename replaces, so no version is in service without a record of who put it there.
Neighbours: registry.py and candidate.py change it, record.py reads and writes.
"""

import fcntl
import getpass
import os
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from models import file
from models import record as records
from models.errors import PackageError
from models.manifest import Count

FILE = "current.json"
MAX_CHANGES = 1000
MAX_REASON = 500  # characters
MAX_BYTES = file.MAX_TEXT_BYTES // 2  # of a pointer as it is written; one of more than MAX_TEXT_BYTES is not read

Event = Literal["promote", "rollback", "retire", "shadow", "canary", "end", "remove"]


class Change(Struct, frozen=True, forbid_unknown_fields=True):
    """Something that was done to ``version``. ``before``: what was in service until then; ``forced``: past the gate or a
    warning."""

    event: Event
    version: Count
    before: Count | None
    at: datetime
    by: str
    reason: str
    forced: bool = False


class Pointer(Struct, frozen=True, forbid_unknown_fields=True):
    """Which version is in service, since when, why and by whom.

    ``before`` holds the versions it followed, oldest first; ``history`` what was done, newest last; ``retired`` the versions
    that are out of use.
    """

    version: Count
    promoted: datetime
    reason: str
    before: list[Count] = []
    by: str = ""
    history: list[Change] = []
    retired: list[Count] = []


def who() -> str:
    """user@host of this process."""
    try:
        user = getpass.getuser()
    except (KeyError, ImportError, OSError):  # a container's user without a name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def change(event: Event, version: int, old: Pointer | None, reason: str, by: str, forced: bool = False) -> Change:
    """The record of something that is done now, while ``old`` is the pointer."""
    before = None if old is None else old.version
    return Change(event, version, before, datetime.now(UTC), by or who(), reason[:MAX_REASON], forced)


def read(root: Path, name: str) -> Pointer | None:
    """The pointer of ``name``; None where nothing was promoted yet. Raises PackageError when it is damaged."""
    return records.read(root / name / FILE, Pointer, "promote a version again to replace it")


def record(root: Path, name: str, entry: Change) -> Pointer:
    """Add ``entry`` to the history and leave the version in service as it is; raises PackageError without a pointer."""

    def add(old: Pointer | None) -> Pointer:
        if old is None:
            raise PackageError(f"no version of {name} is in service; promote one first")
        return msgspec.structs.replace(old, history=[*old.history, entry])

    return update(root, name, add)


def update(root: Path, name: str, step: Callable[[Pointer | None], Pointer], mend: bool = False) -> Pointer:
    """Replace the pointer of ``name`` by what ``step`` makes of it, while no other process does; returns the new one.

    With ``mend`` a damaged one counts as none, else it raises PackageError.
    """
    with locked(root / name):
        try:
            old = read(root, name)
        except PackageError:
            if not mend:
                raise
            old = None
        new = _bounded(step(old))
        records.write(root / name / FILE, msgspec.json.encode(new) + b"\n")
        return new


def _bounded(new: Pointer) -> Pointer:
    """With as much of its history as is kept and can be read again; what goes is the oldest, but for the record of what put
    the version into service."""
    kept = new.history[-MAX_CHANGES:]
    while len(kept) > 1 and len(msgspec.json.encode(kept)) > MAX_BYTES:
        kept = kept[len(kept) // 2 :]
    put = next((entry for entry in reversed(new.history) if entry.event in ("promote", "rollback")), None)
    if put is not None and put not in kept:
        kept = [put, *kept[1:]]
    return msgspec.structs.replace(new, history=kept)


@contextmanager
def locked(place: Path) -> Generator[None]:
    """Hold the folder of a name against other writers; readers need no lock. A killed process lets go of it."""
    handle = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):  # a file system without locks: then the last of two writers wins
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
