"""The index of the live version: found when a version becomes live, and taken up again when it is another.

A thread of its own looks, opens and checks, so that no disk keeps the event loop.
"""

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from models.files import identity
from models.package.manifest import Manifest
from models.terminal import program
from models.terminal.table import printable
from service.errors import NoIndex
from service.similar import manifest as manifests
from service.similar.index import Index
from service.similar.manifest import IndexFault

LOOK_SECONDS = 1.0
log = logging.getLogger("hubel")


class LiveIndex:
    """root: the folder of all indexes; None: there are none. note: told how many images the index of a model holds, 0 without."""

    def __init__(self, root: Path | None, note: Callable[[str, int], object]) -> None:
        self.root = root
        self.note = note
        self.index: Index | None = None
        self.wanted: Manifest | None = None
        self.seen: tuple[object, ...] = ()
        self.said = ""
        self.lock = threading.Lock()  # of index and wanted together
        self.wake = threading.Event()
        self.closed = False
        self.thread = threading.Thread(target=self._run, name="index", daemon=True)
        if root is not None:
            self.thread.start()

    def follow(self, package: Manifest) -> None:
        """A version is live: an index of another one answers nothing any more."""
        if self.root is None:
            return
        with self.lock:
            self.wanted = package
            if self.index is not None and not self.index.manifest.fits(package):
                self._take(None)
        self.wake.set()

    def get(self, package: Manifest, before: Index | None = None) -> Index:
        """The index of a version, which may be the one that was found ``before``. Raises NoIndex."""
        for index in (before, self.index):
            if index is not None and index.manifest.fits(package):
                return index
        if self.root is None:
            raise NoIndex(
                "this service has no index of images: who runs it sets HUBEL_INDEX_DIR, and makes one with 'hubel index'"
            )
        make = f"hubel index FOLDER --model {package.id}"
        raise NoIndex(f"version {package.version} of {package.name} has no index; who runs the service makes one: {make}")

    def close(self) -> None:
        self.closed = True
        self.wake.set()
        if self.thread.is_alive():
            self.thread.join(LOOK_SECONDS)  # it may be reading a slow disk, and ends with the process

    def _run(self) -> None:
        while not self.closed:
            self.wake.wait(LOOK_SECONDS)
            self.wake.clear()
            try:
                self.look()
            except Exception:  # something that nobody thought of must not end the looking
                log.exception("the index cannot be looked at")

    def look(self) -> None:
        """Take up the index of the live version where it is another than before; say where there is none."""
        package, root = self.wanted, self.root
        if package is None or root is None:
            return
        place = manifests.place_of(root, package)
        index = self.index
        seen = package, identity(place / manifests.FILE), () if index else _entries(place)
        whole = index is None or index.is_whole()
        if seen == self.seen and whole:
            return
        if not whole:
            self._say(logging.ERROR, f"a file of the index in {place} was cut off, nothing is searched in it any more")
            with self.lock:
                self._take(None)
        found = self._open(place, package, root)
        with self.lock:
            if self.wanted is package:
                self._take(found)
        self.seen = *seen[:2], () if found else seen[2]

    def _take(self, index: Index | None) -> None:
        self.index = index
        if self.wanted is not None:
            self.note(self.wanted.name, index.manifest.images if index else 0)

    def _open(self, place: Path, package: Manifest, root: Path) -> Index | None:
        """The index in a folder, where it is that of the package; else says why there is none."""
        make = program.command("index", "FOLDER", "--model", package.id, "--out", root)
        try:
            index = Index(place)
            if not index.manifest.fits(package):
                raise IndexFault(f"it was made for {index.manifest.id} with other files")
        except FileNotFoundError:
            self._say(logging.WARNING, f"{package.id} has no index, so /v1/similar answers 404; make one: {make}")
        except (IndexFault, OSError) as err:
            self._say(logging.ERROR, f"the index of {package.id} cannot be used: {printable(str(err))}; make it again: {make}")
        else:
            self._say(logging.INFO, f"{package.id} has an index of {index.manifest.images} images, made {index.manifest.created}")
            return index
        return None

    def _say(self, level: int, line: str) -> None:
        """Once, however often it is looked at: an index that is being copied is damaged until all of it is there."""
        if line != self.said:
            log.log(level, "%s", line)
        self.said = line


def _entries(place: Path) -> tuple[object, ...]:
    """What changes when a file in a folder does; () where there is no folder."""
    try:
        return tuple((path.name, identity(path)) for path in sorted(place.iterdir()))
    except OSError:
        return ()
