"""The files of an index while it is made: beside those of the index before, under names of their own, until it is finished."""

import hashlib
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np

from models.files import sync
from service.similar import bounds
from service.similar import manifest as manifests
from service.similar.bounds import Floats
from service.similar.manifest import ALWAYS, BOUNDED, IndexFault, IndexFile, IndexManifest
from service.similar.parts import PartsWriter

BLOCK = 4096  # vectors at a time


class HashedFile:
    """A new file, of which length and hash are known at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = open(path, "xb")  # noqa: SIM115
        self.digest = hashlib.sha256()
        self.bytes = 0

    def write(self, data: bytes) -> None:
        self.file.write(data)
        self.digest.update(data)
        self.bytes += len(data)

    def finish(self) -> IndexFile:
        """Close it once the disk holds it."""
        self.file.close()
        sync(self.path)
        return IndexFile(self.path.name, self.bytes, self.digest.hexdigest())


class IndexWriter:
    """Writes an index into ``place``, picture by picture. Raises OSError."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.token = secrets.token_hex(6)
        self.files: dict[str, HashedFile] = {}
        self.images = 0
        for kind in ALWAYS:
            self._add(kind)
        self.names, self.thumbnails = (PartsWriter(self.files[kind].write) for kind in ("names", "thumbnails"))

    def _add(self, kind: str) -> HashedFile:
        self.files[kind] = HashedFile(self.place / f"{kind}-{self.token}.bin")
        return self.files[kind]

    def append(self, name: str, vector: Floats, digest: bytes, thumbnail: bytes) -> None:
        self.files["vectors"].write(vector.astype("<f4").tobytes())
        self.files["hashes"].write(digest)
        self.names.append(name.encode())
        self.thumbnails.append(thumbnail)
        self.images += 1

    def finish(self, describe: Callable[[int, int, dict[str, IndexFile]], IndexManifest], dimensions: int) -> IndexManifest:
        """Put the index in the place of the one before; describe: images, leading, files -> its manifest."""
        self.names.finish()
        self.thumbnails.finish()
        done = {kind: file.finish() for kind, file in self.files.items()}
        leading = bounds.LEADING if bounds.pay_off(self.images, dimensions) else 0
        if leading:
            self._bound(np.memmap(self.files["vectors"].path, "<f4", "r", shape=(self.images, dimensions)))
            done |= {kind: self.files[kind].finish() for kind in BOUNDED}
        manifest = describe(self.images, leading, done)
        manifests.write(self.place, manifest)
        return manifest

    def _bound(self, vectors: Floats) -> None:
        basis = bounds.basis_of(vectors)
        self._add("basis").write(basis.astype("<f8").tobytes())
        file = self._add("bounds")
        for b in range(0, len(vectors), BLOCK):
            file.write(bounds.stand_in(vectors[b : b + BLOCK], basis).astype("<f4").tobytes())

    def abandon(self) -> None:
        for file in self.files.values():
            with suppress(OSError):
                file.file.close()
            with suppress(OSError):
                file.path.unlink(missing_ok=True)


def clear(place: Path) -> None:
    """Remove the files that no index in ``place`` needs: those of the one before, and of a process that was killed."""
    try:
        manifest, _ = manifests.read(place)
        kept = {file.name for file in manifest.files.values()}
    except (FileNotFoundError, IndexFault):
        kept = set[str]()
    for path in place.glob("*-*.bin"):
        if path.name not in kept:
            path.unlink(missing_ok=True)
