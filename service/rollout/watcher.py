"""What the store says that should be live and what a candidate, looked at again and again. For controller.py.

A file is read only when it is another than before, or could not be read: the store may lie on a slow disk. Whatever is wrong
with one file, the others are followed.
"""

from datetime import datetime
from pathlib import Path

from models.errors import PackageError
from models.files import Identity, identity
from models.lifecycle import candidate
from models.lifecycle.candidate import Candidate
from models.package import manifest as manifests
from models.registry import registry
from models.registry.history import Pointer
from models.terminal.table import printable

MAX_FAULT = 500  # characters


class RegistryWatcher:
    """version: live, by the pointer, as it was read last. changes: how often another version became live.
    faults: what is gone or cannot be read, each a line; empty where all is well.
    """

    def __init__(self, root: Path, name: str, version: int) -> None:
        self.root = root
        self.name = name
        self.version = version
        self.candidate: Candidate | None = None
        self.changes = 0
        self.promoted: datetime | None = None
        self.faults: list[str] = []
        self.seen: tuple[Identity | None, ...] | None = None

    def look(self) -> None:
        """Take in what changed. What cannot be read, for whatever reason, leaves things as they were."""
        seen = self._identities()
        if seen == self.seen and not self.faults:
            return
        faults: list[str] = []
        try:
            pointer = self._follow()  # the identity of before: what changes meanwhile is read once more
            self.candidate = candidate.of(self.root, self.name, pointer)
        except PackageError as err:
            faults.append(str(err))
        except Exception as err:  # a file that nobody thought of: the service goes on, and tells of it
            faults.append(f"{self.root / self.name} cannot be read: {type(err).__name__}: {err}")
        if identity(self._package()) is None:
            faults.append(f"{self._package().parent} is gone: it goes on from memory, and no worker can be started; put it back")
        self.faults = [printable(fault)[:MAX_FAULT] for fault in faults]
        self.seen = seen

    def _follow(self) -> Pointer:
        """The pointer, obeyed; raises PackageError where there is none."""
        pointer = registry.pointer(self.root, self.name)
        if pointer is None:
            raise PackageError(f"{self._pointer()} is gone; put it back, or promote a version again")
        if (pointer.version, pointer.promoted) != (self.version, self.promoted):
            self.version, self.promoted = pointer.version, pointer.promoted
            self.changes += 1
        return pointer

    def _pointer(self) -> Path:
        return self.root / self.name / registry.POINTER

    def _package(self) -> Path:
        return self.root / self.name / str(self.version) / manifests.FILE

    def _identities(self) -> tuple[Identity | None, ...]:
        return tuple(map(identity, (self._pointer(), self.root / self.name / candidate.FILE, self._package())))
