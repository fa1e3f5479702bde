"""What the store says that should be in service and on trial, looked at again and again. For rollout.py.

A file is read only when it is another than before: the store may lie on a slow disk.
"""

import os
from datetime import datetime
from pathlib import Path

from models import candidate, registry
from models.candidate import Candidate
from models.errors import PackageError

Signature = tuple[int, int, int]


class Watch:
    """version: in service, by the pointer, as it was read last. changes: how often something was put into service.
    faults: what cannot be read, empty where all can.
    """

    def __init__(self, root: Path, name: str, version: int) -> None:
        self.root = root
        self.name = name
        self.version = version
        self.candidate: Candidate | None = None
        self.changes = 0
        self.promoted: datetime | None = None
        self.faults: list[str] = []
        self.seen: tuple[Signature | None, Signature | None] | None = None

    def look(self) -> None:
        """Take in what changed. What cannot be read leaves things as they were."""
        place = self.root / self.name
        seen = signature(place / registry.POINTER), signature(place / candidate.FILE)
        if seen == self.seen:
            return
        self.faults = []
        try:
            pointer = registry.pointer(self.root, self.name)
            if pointer is not None and (pointer.version, pointer.promoted) != (self.version, self.promoted):
                self.version, self.promoted = pointer.version, pointer.promoted
                self.changes += 1
            self.candidate = candidate.read(self.root, self.name)
        except PackageError as err:
            self.faults = [str(err)]
        self.seen = seen


def signature(path: Path) -> Signature | None:
    """What differs when another file takes a name; None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
