"""<store>/<name>/current.json: which version of a name is live, and everything that was done to get there.

Pointer and history are one file that one rename replaces, so no version is live without a record of who put it there.
"""

import getpass
import os
import socket
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from models import files
from models.errors import PackageError
from models.package.manifest import Line, Time, Version, check_times
from models.registry import json_file

FILE = "current.json"
MAX_CHANGES = 1000
MAX_REASON = 500  # characters
LOCK_SECONDS = 10.0  # that a writer waits for others
LOCKS = Path("/proc/locks")
MAX_BYTES = files.MAX_TEXT_BYTES // 2  # of a pointer as it is written; one of more than MAX_TEXT_BYTES is not read

Check = Callable[["Pointer | None"], None]  # looks at a pointer while nobody changes it, and raises PackageError
Event = Literal["promote", "rollback", "retire", "shadow", "canary", "end", "remove"]


class Change(Struct, frozen=True, forbid_unknown_fields=True):
    """Something that was done to ``version``. ``before``: what was live until then; ``forced``: past the gate or a
    warning."""

    event: Event
    version: Version
    before: Version | None
    at: Time
    by: Line
    reason: Line
    forced: bool = False

    def __post_init__(self) -> None:
        check_times(at=self.at)


class Pointer(Struct, frozen=True, forbid_unknown_fields=True):
    """Which version is live, since when, why and by whom.

    ``before`` holds the versions it followed, oldest first; ``history`` what was done, newest last; ``retired`` the versions
    that are out of use.
    """

    version: Version
    promoted: Time
    reason: Line
    before: list[Version] = []
    by: Line = ""
    history: list[Change] = []
    retired: list[Version] = []

    def __post_init__(self) -> None:
        check_times(promoted=self.promoted)


def anything(_: Pointer | None) -> None:
    """The check that lets every pointer pass."""


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
    return Change(event, version, before, datetime.now(UTC), (by or who())[:MAX_REASON], reason[:MAX_REASON], forced)


def read(root: Path, name: str) -> Pointer | None:
    """The pointer of ``name``; None where nothing was promoted yet. Raises PackageError when it is damaged."""
    return json_file.read(root / name / FILE, Pointer, "promote a version again to replace it")


def update(root: Path, name: str, step: Callable[[Pointer | None], Pointer], mend: bool = False) -> Pointer:
    """Replace the pointer of ``name`` by what ``step`` makes of it, while no other process does; returns the new one.

    With ``mend`` a damaged one counts as none, else it raises PackageError.
    """
    with locked(root / name):
        return replace(root, name, step, mend)


def replace(root: Path, name: str, step: Callable[[Pointer | None], Pointer], mend: bool = False) -> Pointer:
    """As ``update``, for who holds the name already, to look at more and to change more than its pointer."""
    try:
        old = read(root, name)
    except PackageError:
        if not mend:
            raise
        old = None
    new = _bounded(step(old))
    files.write_atomic(root / name / FILE, msgspec.json.encode(new) + b"\n")
    return new


def _bounded(new: Pointer) -> Pointer:
    """With as much of its history as is kept and can be read again; what goes is the oldest, but for the record of what made
    the version live."""
    kept = new.history[-MAX_CHANGES:]
    while len(kept) > 1 and len(msgspec.json.encode(kept)) > MAX_BYTES:
        kept = kept[len(kept) // 2 :]
    put = next((entry for entry in reversed(new.history) if entry.event in ("promote", "rollback")), None)
    if put is not None and put not in kept:
        kept = [put, *kept[1:]]
    return msgspec.structs.replace(new, history=kept)


@contextmanager
def locked(place: Path) -> Generator[None]:
    """Hold the folder of a name against other writers; readers need no lock. A killed process lets go of it.

    Raises:
        PackageError: another holds it for LOCK_SECONDS, as one that was stopped does; it says which.
    """
    handle = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):  # a file system without locks: then the last of two writers wins
            if not files.lock(handle, time.monotonic() + LOCK_SECONDS):
                raise PackageError(
                    f"{place} is being changed by {holder(os.fstat(handle).st_ino)}, for more than {LOCK_SECONDS:g} s; nothing "
                    "was changed here: try again when it has ended, or end it"
                )
        yield
    finally:
        os.close(handle)


def holder(inode: int) -> str:
    """The process that holds a lock on a file, as far as this one may know."""
    with suppress(OSError):
        for line in LOCKS.read_text().splitlines():
            words = line.split()  # "1: FLOCK  ADVISORY  WRITE 4242 08:01:131090 0 EOF"; who waits has "->" before its kind
            if words[1:2] == ["FLOCK"] and words[5].rpartition(":")[2] == str(inode) and words[4] != "0":
                with suppress(OSError):
                    command = Path(f"/proc/{words[4]}/cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ")
                    return f"process {words[4]} ({command.decode(errors='replace')[:200]})"
                return f"process {words[4]}"
    return "another process"
