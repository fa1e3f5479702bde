"""The recent answers of all workers, so that feedback on any of them can be taken by any worker.

Each worker writes a ring in a file of its own, mapped into memory, in the folder of the metrics; the others read it. A write
takes no lock: an entry is taken for one only where its checksum fits. A worker that replaces another goes on in its file.
Neighbours: aftermath.py writes every answer, feedback.py looks answers up and marks them.
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

import numpy as np
from numpy.typing import NDArray

HEAD = struct.Struct("<QQ")  # entries of the ring, and how many were ever written
BODY = struct.Struct("<16sdIfHB")  # key, Unix time, version, probability, label, unsure
ENTRY_BYTES = BODY.size + 5  # with the checksum, made even
FILES = "recent_*.ring"
NO_VERDICT, RIGHT, WRONG = 0, 1, 2
log = logging.getLogger("hubel")


class Recent(NamedTuple):
    """An answer that was given. label: the number of its class. verdict: what feedback said of it."""

    at: float
    version: int
    probability: float
    label: int
    unsure: bool
    verdict: int


def key_of(client: str, request_id: str, index: int) -> bytes:
    return blake2b(f"{client}~{request_id}~{index}".encode(), digest_size=16).digest()


class Ring:
    """A file of ``entries`` answers, the newest in the place of the oldest; opened, or made, or in memory without a path.

    Raises:
        OSError: it cannot be made in full.
        ValueError: it is no such file.
    """

    def __init__(self, path: Path | None, entries: int = 0) -> None:
        self.memory = _map(path, entries)
        self.entries, self.written = HEAD.unpack_from(self.memory)
        size = HEAD.size + self.entries * (8 + ENTRY_BYTES + 1)
        if not 0 < size <= len(self.memory):
            raise ValueError(f"{path} is no ring")
        self.keys: NDArray[np.uint64] = np.frombuffer(self.memory, np.uint64, self.entries, HEAD.size)
        self.bodies = HEAD.size + 8 * self.entries
        self.verdicts = self.bodies + ENTRY_BYTES * self.entries

    def write(self, key: bytes, version: int, probability: float, label: int, unsure: bool) -> None:
        place = self.written % self.entries
        body = BODY.pack(key, time.time(), version, probability, label, unsure)
        at, begin = HEAD.size + 8 * place, self.bodies + ENTRY_BYTES * place
        self.memory[at : at + 8] = bytes(8)  # nobody finds it while it is written
        self.memory[begin : begin + BODY.size + 4] = body + zlib.crc32(body).to_bytes(4, "little")
        self.memory[self.verdicts + place] = NO_VERDICT
        self.memory[at : at + 8] = key[:8]
        self.written += 1
        HEAD.pack_into(self.memory, 0, self.entries, self.written)

    def find(self, key: bytes) -> tuple[int, Recent] | None:
        """Place and content of the newest answer with this key."""
        places = np.flatnonzero(self.keys == np.frombuffer(key[:8], np.uint64)[0])
        found = [(int(place), recent) for place in places if (recent := self._read(int(place), key))]
        return max(found, key=lambda entry: entry[1].at, default=None)

    def _read(self, place: int, key: bytes) -> Recent | None:
        begin = self.bodies + ENTRY_BYTES * place
        body = self.memory[begin : begin + BODY.size]
        checksum = self.memory[begin + BODY.size : begin + BODY.size + 4]
        if zlib.crc32(body) != int.from_bytes(checksum, "little"):
            return None
        found, at, version, probability, label, unsure = BODY.unpack(body)
        if found != key:
            return None
        return Recent(at, version, probability, label, bool(unsure), self.memory[self.verdicts + place])

    def mark(self, place: int, verdict: int) -> None:
        self.memory[self.verdicts + place] = verdict


def _map(path: Path | None, entries: int) -> mmap.mmap:
    size = HEAD.size + entries * (8 + ENTRY_BYTES + 1)
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


class RecentAnswers:
    """The ring of this worker and those of the others. folder: of the metrics; None: this process is alone."""

    def __init__(self, folder: Path | None, name: str, entries: int) -> None:
        self.folder = folder
        self.path = folder / f"recent_{name}.ring" if folder else None
        try:
            self.own = Ring(self.path, entries)
        except (OSError, ValueError) as err:
            log.warning("feedback on answers of this worker is taken by itself alone: %s cannot be made: %s", self.path, err)
            self.own = Ring(None, entries)
        self.others: dict[Path, tuple[int, Ring]] = {}

    def write(self, client: str, request_id: str, index: int, version: int, probability: float, label: int, unsure: bool) -> None:
        self.own.write(key_of(client, request_id, index), version, probability, label, unsure)

    def find(self, client: str, request_id: str, index: int) -> tuple[Ring, int, Recent] | None:
        """Where the newest answer of this name is and what it was, given by whichever worker."""
        key = key_of(client, request_id, index)
        found = [(ring, *entry) for ring in (self.own, *self._others()) if (entry := ring.find(key))]
        return max(found, key=lambda entry: entry[2].at, default=None)

    def _others(self) -> list[Ring]:
        """The rings of the other workers, opened once."""
        for path in self.folder.glob(FILES) if self.folder else ():
            if path == self.path:
                continue
            with suppress(OSError, ValueError):  # it is just being made
                inode = path.stat().st_ino
                if path not in self.others or self.others[path][0] != inode or self.others[path][1].entries == 0:
                    self.others[path] = (inode, Ring(path))
        return [ring for _, ring in self.others.values()]

    @contextmanager
    def alone(self) -> Generator[None]:
        """Only one worker at a time looks up and marks, so that no answer is counted twice."""
        if self.folder is None:
            yield
            return
        with open(self.folder / "recent.lock", "ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
