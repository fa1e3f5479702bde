"""An index of similar images, opened: its vectors mapped into memory, its names and thumbnails by number."""

import hashlib
from contextlib import ExitStack
from io import BufferedReader
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import files
from models.errors import PackageError
from service.similar import manifest as manifests
from service.similar.bounds import Doubles, Floats
from service.similar.manifest import IndexFault
from service.similar.parts import Parts
from service.similar.search import Numbers, nearest

MOST_BYTES = 2**45  # of a file


class Index:
    """In ``place``, which is a folder. All files are read once and have to be what the manifest says.

    Raises:
        FileNotFoundError: there is no index.
        IndexFault: it is damaged, or no index.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        self.manifest, self.stamp = manifests.read(place)
        n, d, leading = self.manifest.images, self.manifest.dimensions, self.manifest.leading
        with ExitStack() as stack:
            opened = {kind: stack.enter_context(self._open(kind)) for kind in self.manifest.files}
            self.vectors: Floats = _mapped(opened["vectors"], "<f4", (n, d))
            self.hashes: NDArray[np.uint8] = _mapped(opened["hashes"], "|u1", (n, 32))
            self.names, self.thumbnails = Parts(opened["names"], n), Parts(opened["thumbnails"], n)
            self.bounds: Floats | None = _mapped(opened["bounds"], "<f4", (n, leading)) if leading else None
            self.basis: Doubles | None = _mapped(opened["basis"], "<f8", (leading - 1, d)) if leading else None

    def _open(self, kind: str) -> BufferedReader:
        expected = self.manifest.files[kind]
        path = self.place / expected.name
        try:
            file = files.open_plain(path, MOST_BYTES)
        except (OSError, PackageError) as err:
            raise IndexFault(f"{path} cannot be read: {getattr(err, 'strerror', None) or err}") from err
        if (size := file.seek(0, 2)) != expected.bytes or _sha256(file) != expected.sha256:
            file.close()
            what = f"it has {size:,} bytes instead of {expected.bytes:,}" if size != expected.bytes else "its SHA-256 is another"
            raise IndexFault(f"{path} was changed: {what}; make the index again")
        return file

    def is_whole(self) -> bool:
        """Whether its files, which are mapped, still have their lengths: what is read beyond an end kills the process."""
        try:
            return all((self.place / file.name).stat().st_size == file.bytes for file in self.manifest.files.values())
        except OSError:
            return True  # they were removed, and stay as long as they are mapped

    def nearest(self, query: Floats, k: int) -> tuple[Numbers, Doubles]:
        """Numbers and cosines of the k images that are most like a feature vector (dimensions,) of length 1."""
        return nearest(self.vectors, query, k, self.bounds, self.basis)

    def name(self, number: int) -> str:
        """The path of an image in its folder, with "/"."""
        return self.names[number].decode()


def class_of(name: str) -> str | None:
    """The first folder of a name; None where the image lies in no folder."""
    parts = PurePosixPath(name).parts
    return parts[0] if len(parts) > 1 else None


def _mapped(file: BufferedReader, dtype: str, shape: tuple[int, int]) -> NDArray[Any]:
    """Not copied: all processes that map a file share its memory."""
    return np.asarray(np.memmap(file, dtype, "r", shape=shape))


def _sha256(file: BufferedReader) -> str:
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()
