"""The recent answers of all workers, so that feedback on any of them can be taken by any worker.

Each worker writes a ring in a file of its own, mapped into memory, in the folder of the metrics; the others read it. Neither
writing nor looking up takes a lock: an entry is taken for one only where its checksum fits. Who marks an answer takes the lock
that all workers share, for microseconds, and never waits long for it. A worker that replaces another goes on in its file.
"""

import fcntl
import logging
import mmap
import os
import struct
import time
import zlib
from collections.abc import Generator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from models import files

HEAD = struct.Struct("<QQ")  # entries of the ring, and how many were ever written
SLOT = struct.Struct("<I")  # the number of the newest entry whose key belongs here; 0: none
BODY = struct.Struct("<16sdIfHBI")  # key, Unix time, version, probability, label, unsure, number of the one before in its slot
ENTRY_BYTES = BODY.size + 5  # with the checksum, made even
NUMBERS = 0xFFFF_FFFF  # numbers of entries are kept in 32 bits; the first one is 1
# Entries that are looked at for one key. A slot has one on average, and who does not know the secret of the folder cannot
# make keys that share one; what is skipped here is no more than what is too old.
PROBES = 64
FILES, LOCK = "recent_*.ring", "recent.lock"
NO_VERDICT, RIGHT, WRONG = 0, 1, 2
log = logging.getLogger("hubel")


class Held(Exception):
    """Another process has held the lock for too long: it is stopped, or very slow."""


class Recent(NamedTuple):
    """An answer that was given. label: the number of its class. verdict: what feedback said of it."""

    at: float
    version: int
    probability: float
    label: int
    unsure: bool
    verdict: int


def key_of(client: str, answer_id: str, index: int, secret: bytes = b"") -> bytes:
    """Sixteen bytes, which nobody can choose who does not know the secret (at most 64 bytes)."""
    return blake2b(f"{client}~{answer_id}~{index}".encode(), digest_size=16, key=secret).digest()


class Ring:
    """A file of ``entries`` answers, the newest in the place of the oldest; opened, or made, or in memory without a path.

    Beside the entries it has as many slots. A key belongs to one of them, which leads to the newest entry of such keys, and
    each entry to the one before.

    Raises:
        OSError: it cannot be made in full.
        ValueError: it is no such file.
    """

    def __init__(self, path: Path | None, entries: int = 0) -> None:
        self.memory = _map(path, entries)
        if len(self.memory) < HEAD.size:
            raise ValueError(f"{path} is no ring")
        self.entries, self.written = HEAD.unpack_from(self.memory)
        if not 0 < _size(self.entries) <= len(self.memory):
            raise ValueError(f"{path} is no ring")
        self.bodies = HEAD.size + SLOT.size * self.entries
        self.intake = self.bodies + ENTRY_BYTES * self.entries

    def write(self, key: bytes, version: int, probability: float, label: int, unsure: bool) -> None:
        place, slot = self.written % self.entries, self._slot(key)
        before = SLOT.unpack_from(self.memory, slot)[0]
        body = BODY.pack(key, time.time(), version, probability, label, unsure, before)
        begin = self.bodies + ENTRY_BYTES * place
        self.memory[begin : begin + BODY.size + 4] = body + zlib.crc32(body).to_bytes(4, "little")
        self.memory[self.intake + place] = NO_VERDICT
        self.written += 1
        HEAD.pack_into(self.memory, 0, self.entries, self.written)
        SLOT.pack_into(self.memory, slot, self.written & NUMBERS)  # last: nobody is led to what is not written yet

    def find(self, key: bytes) -> tuple[int, Recent] | None:
        """Place and content of the newest answer with this key."""
        if not self.entries:  # it is just being made
            return None
        (number,) = SLOT.unpack_from(self.memory, self._slot(key))
        _, written = HEAD.unpack_from(self.memory)
        last = -1
        for _ in range(PROBES):
            age = (written - number) & NUMBERS
            if number == 0 or not last < age < self.entries:  # the slot is empty, or what it leads to was overwritten
                return None
            place = (written - age - 1) % self.entries
            if (body := self._body(place)) is None:
                return None
            found, at, version, probability, label, unsure, number = body
            if found == key:
                return place, Recent(at, version, probability, label, bool(unsure), self.memory[self.intake + place])
            last = age
        return None

    def _slot(self, key: bytes) -> int:
        return HEAD.size + SLOT.size * (int.from_bytes(key[:8], "little") % self.entries)

    def _body(self, place: int) -> tuple[bytes, float, int, float, int, int, int] | None:
        """None where it is half written."""
        begin = self.bodies + ENTRY_BYTES * place
        entry = self.memory[begin : begin + BODY.size + 4]
        body, checksum = entry[: BODY.size], entry[BODY.size :]
        return BODY.unpack(body) if zlib.crc32(body) == int.from_bytes(checksum, "little") else None

    def verdict(self, place: int, key: bytes) -> int | None:
        """What feedback said of the answer there; None where another answer has taken the place."""
        body = self._body(place)
        return self.memory[self.intake + place] if body and body[0] == key else None

    def mark(self, place: int, verdict: int) -> None:
        self.memory[self.intake + place] = verdict


def _size(entries: int) -> int:
    return HEAD.size + entries * (SLOT.size + ENTRY_BYTES + 1)


def _map(path: Path | None, entries: int) -> mmap.mmap:
    size = _size(entries)
    if path is None:
        memory = mmap.mmap(-1, size)
        HEAD.pack_into(memory, 0, entries, 0)
        return memory
    handle = os.open(path, os.O_RDWR | (os.O_CREAT if entries else 0), 0o600)
    try:
        if entries and not _is_of(handle, entries, size):
            os.truncate(handle, 0)
            os.posix_fallocate(handle, 0, size)  # in full: what cannot grow on a full disk would end the process
            os.pwrite(handle, HEAD.pack(entries, 0), 0)
        return mmap.mmap(handle, 0)
    finally:
        os.close(handle)


def _is_of(handle: int, entries: int, size: int) -> bool:
    head = os.pread(handle, HEAD.size, 0)
    return os.fstat(handle).st_size == size and len(head) == HEAD.size and HEAD.unpack(head)[0] == entries


class Place(NamedTuple):
    """Where an answer is."""

    ring: Ring
    place: int
    key: bytes


class AnswerLog:
    """The ring of this worker and those of the others. folder: of the metrics; None: this process is alone.

    What was opened stays open, so the folder may go away.
    """

    def __init__(self, folder: Path | None, name: str, entries: int) -> None:
        self.folder = folder
        self.path = folder / f"recent_{name}.ring" if folder else None
        # The folder's name ends in what was drawn for it, is the same for all workers, and no client is told.
        self.secret = folder.name.encode()[-64:] if folder else os.urandom(16)
        try:
            self.own = Ring(self.path, entries)
        except (OSError, ValueError) as err:
            log.warning("feedback on answers of this worker is taken by itself alone: %s cannot be made: %s", self.path, err)
            self.own = Ring(None, entries)
        self.others: dict[Path, tuple[int, Ring]] = {}
        self.lock: int | None = None
        if folder is not None:
            with suppress(OSError):  # then an answer may be counted twice
                self.lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)

    def write(self, client: str, answer_id: str, index: int, version: int, probability: float, label: int, unsure: bool) -> None:
        self.own.write(key_of(client, answer_id, index, self.secret), version, probability, label, unsure)

    def rings(self) -> list[Ring]:
        """Of all workers, this one's first; those of the others are opened once."""
        with suppress(OSError):  # the folder is gone
            for path in self.folder.glob(FILES) if self.folder else ():
                if path != self.path:
                    self._open(path)
        return [self.own, *(ring for _, ring in self.others.values())]

    def _open(self, path: Path) -> None:
        with suppress(OSError, ValueError):  # it is just being made
            inode = path.stat().st_ino
            if path not in self.others or self.others[path][0] != inode or self.others[path][1].entries == 0:
                self.others[path] = (inode, Ring(path))

    def find(self, client: str, answer_id: str, index: int, rings: list[Ring] | None = None) -> tuple[Place, Recent] | None:
        """Where the newest answer of this name is and what it was, given by whichever worker.

        rings: ``rings()``, for who looks up several."""
        key = key_of(client, answer_id, index, self.secret)
        rings = self.rings() if rings is None else rings
        found = [(Place(ring, entry[0], key), entry[1]) for ring in rings if (entry := ring.find(key))]
        return max(found, key=lambda entry: entry[1].at, default=None)

    def gave(self, client: str, answer_id: str, images: int, seconds: float) -> bool:
        """Whether an answer to a request with this id, of at most so many images, was given within the last seconds."""
        rings, since = self.rings(), time.time() - seconds
        found = (self.find(client, answer_id, index, rings) for index in range(images))
        return any(entry is not None and entry[1].at >= since for entry in found)

    @contextmanager
    def alone(self, until: float) -> Generator[None]:
        """Only one worker at a time marks, so that no answer is counted twice. Not for the event loop: it may wait.

        until: time.monotonic. Raises Held where another one has the lock until then.
        """
        if self.lock is None:
            yield
            return
        if not files.lock(self.lock, until):
            raise Held
        try:
            yield
        finally:
            fcntl.flock(self.lock, fcntl.LOCK_UN)
