"""A package as one file to be carried elsewhere: NAME/VERSION/FILE, and NAME/VERSION.sig where it is signed, in a .tar.gz.

An archive is read as if its maker were hostile: what it may hold is bounded before it is unpacked, and nothing comes into the
store that does not verify.
"""

import gzip
import os
import re
import tarfile
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, cast

from models import files
from models.errors import PackageError
from models.package import manifest as manifests
from models.package import signature
from models.package.manifest import MAX_FILES, Manifest
from models.registry import registry

MAX_BYTES = 2 * files.MAX_BYTES  # of all files together, unpacked
CHUNK = 2**16
MAX_HEADER_BYTES = 2**20  # of all that is not the content of a file, unpacked
PLACE = re.compile(
    rf"(?P<name>{manifests.NAME})/(?P<version>{manifests.VERSION})(?P<file>{re.escape(signature.ENDING)}|/{manifests.FILE_NAME})?"
)


def pack(folder: Path, target: Path) -> None:
    """Write the package in ``folder`` as an archive; the same package gives the same bytes.

    Raises:
        PackageError: it does not verify, or ``target`` cannot be written or is there already.
    """
    manifest = registry.verify(folder)
    store = folder.parents[1]
    paths = sorted(folder.iterdir())
    if os.path.lexists(signature.path(folder)):
        paths.append(signature.path(folder))
    try:
        with open(target, "xb") as raw:
            try:
                with gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed, tarfile.open(fileobj=packed, mode="w") as archive:
                    for path in paths:
                        _add(archive, path, path.relative_to(store).as_posix())
            except BaseException:
                target.unlink()
                raise
    except FileExistsError as err:
        raise PackageError(f"{target} exists already; remove it or name another file for {manifest.id}") from err
    except OSError as err:
        raise PackageError(f"{target} cannot be written: {err.strerror}") from err


def _add(archive: tarfile.TarFile, path: Path, name: str) -> None:
    with files.open_plain(path) as content:
        member = tarfile.TarInfo(name)
        member.size, member.mode = os.fstat(content.fileno()).st_size, 0o644
        archive.addfile(member, content)


def unpack(store: Path, source: Path, key: Path | None = None) -> Manifest:
    """Put the package in an archive into the store, under its own name and version; a first version becomes live.

    With a public ``key``, only if it was signed with the private one.

    Raises:
        PackageError: the archive is not one package that verifies, or the store has that version; nothing is left of it.
    """
    if not hasattr(tarfile, "data_filter"):
        raise PackageError("this Python cannot unpack safely; take 3.11.4 or newer, or copy the folder of the package by hand")
    with beside(store, ".unpack-") as folder:
        package = _read(source, folder)
        manifest = registry.verify(package, key)
        place(store, package, manifest)
    return manifest


@contextmanager
def beside(store: Path, prefix: str) -> Generator[Path]:
    """A folder in the store, made where there is none, to prepare a package in; what is left of both is removed."""
    is_new = not store.exists()
    store.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=prefix, dir=store) as folder:
            yield Path(folder)
    finally:
        if is_new:
            with suppress(OSError):  # it holds the package
                store.rmdir()


def _read(source: Path, place: Path) -> Path:
    """Unpack ``source`` into ``place``; returns the folder of its package, which may be anything yet."""
    try:
        with files.open_plain(source, MAX_BYTES) as raw, gzip.GzipFile(fileobj=raw) as stream:
            archive = Archive(stream)
            found = {archive.take(member, place) for member in archive.tar}
            archive.read_to_the_end()
    except PackageError:
        raise
    except Exception as err:  # tarfile's, gzip's, zlib's and what a hostile header leads to share no base
        raise PackageError(f"{source} cannot be unpacked: {' '.join(str(err).split())}") from err
    if len(found) != 1:
        raise PackageError(f"{source} holds {len(found)} packages, an archive holds one")
    return found.pop()


class Bounded:
    """What a gzip file unpacks to, up to ``allowed`` bytes; whoever reads raises it by what he is about to take."""

    def __init__(self, stream: gzip.GzipFile) -> None:
        self.stream = stream
        self.allowed = MAX_HEADER_BYTES

    def read(self, size: int) -> bytes:
        self._check(self.stream.tell() + size)
        return self.stream.read(size)

    def seek(self, position: int) -> int:
        self._check(position)
        return self.stream.seek(position)

    def tell(self) -> int:
        return self.stream.tell()

    def _check(self, end: int) -> None:
        if end > self.allowed:
            raise PackageError(
                f"the archive holds more than {MAX_HEADER_BYTES:,} bytes besides its files; pack the package again"
            )


class Archive:
    """An open archive, and how much was taken from it."""

    def __init__(self, stream: gzip.GzipFile) -> None:
        self.bounded = Bounded(stream)
        self.tar = tarfile.open(fileobj=cast(BinaryIO, self.bounded), mode="r:")  # noqa: SIM115
        self.bytes = 0
        self.names: set[str] = set()

    def take(self, member: tarfile.TarInfo, place: Path) -> Path:
        """Unpack a member below ``place``; returns the folder of the package that it belongs to."""
        fits = PLACE.fullmatch(member.name)
        is_file = member.isreg() and not member.issparse()
        if fits is None or not (is_file if fits["file"] else member.isdir()):
            raise PackageError(f"the archive holds {member.name[:200]!r}, which is no plain NAME/VERSION/FILE of a package")
        limits = {signature.ENDING: files.MAX_TEXT_BYTES, f"/{manifests.FILE}": manifests.MAX_BYTES}
        self._count(member, limits.get(fits["file"], files.MAX_BYTES))
        self.tar.extract(member, place, filter="data")
        return place / fits["name"] / fits["version"]

    def read_to_the_end(self) -> None:
        """So that gzip compares its checksum."""
        while self.bounded.read(CHUNK):
            pass

    def _count(self, member: tarfile.TarInfo, limit: int) -> None:
        self.bytes += member.size
        if member.name in self.names:
            raise PackageError(f"the archive holds {member.name} twice; pack the package again")
        self.names.add(member.name)
        if member.size > limit:
            raise PackageError(f"{member.name} has {member.size:,} bytes unpacked, at most {limit:,} are taken")
        if len(self.names) > MAX_FILES or self.bytes > MAX_BYTES:
            raise PackageError(f"the archive holds more than {MAX_FILES} files or {MAX_BYTES:,} bytes, more than a package has")
        self.bounded.allowed += member.size


def place(store: Path, folder: Path, manifest: Manifest) -> None:
    """Rename a package that verified, in the same file system as the store, to its place; a first version becomes live.

    Raises:
        PackageError: the store has that version.
    """
    home = store / manifest.name
    taken = f"{store} has a {manifest.id} already, and a version never changes; remove it first, or leave it"
    registry.make_place(home)
    target = home / folder.name
    if os.path.lexists(target):
        raise PackageError(taken)
    made = [*folder.iterdir(), *filter(Path.exists, [signature.path(folder)])]
    for path in made:
        path.chmod(0o644)  # whatever the archive says, the service may read it
        files.sync(path)
    folder.chmod(0o755)
    try:
        folder.rename(target)
    except OSError as err:
        raise PackageError(taken) from err
    if signature.path(folder).exists():
        os.replace(signature.path(folder), signature.path(target))
    files.sync(home)
    registry.begin(store, manifest.name, manifest.version)
