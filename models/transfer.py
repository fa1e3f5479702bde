"""Carries a package from one store to another, or to and from any place: every file hashed, never half a package.

A place holds packages as a store does: NAME/VERSION/FILE, and NAME/VERSION.sig where it is signed. Neighbours: place.py reads
and writes files there, archive.py is the way by one file.
"""

import hashlib
from contextlib import closing, suppress
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from models import archive, file, registry, signature
from models import manifest as manifests
from models.errors import PackageError
from models.manifest import Manifest
from models.place import Folder, Place, Storage, Web, told

CHUNK = 2**20


def pull(store: Path, source: Place, name: str, version: int, key: Path | None = None) -> Manifest:
    """Copy ``name``:``version`` from a place into the store, under the same name and version; a first version of a name goes
    into service.

    Raises:
        PackageError: it is not there, does not verify, is not signed for the public ``key``, or the store has that version.
        OSError: the store cannot be written to. In each case the store is as it was.
    """
    home = f"{name}/{version}"
    if (store / home).exists():
        raise PackageError(f"{store} has a {name}:{version} already, and a version never changes; remove it first, or leave it")
    try:
        data = _text(source, f"{home}/{manifests.FILE}")
    except FileNotFoundError as err:
        raise PackageError(f"there is no package in {source.address}/{home}; name its folder, NAME/VERSION") from err
    manifest = manifests.decode(Path(source.address) / home, data)
    if manifest.id != f"{name}:{version}" or len(manifest.files) > archive.MAX_FILES:
        raise PackageError(
            f"{source.address}/{home} calls itself {manifest.id} and has {len(manifest.files)} files; a package keeps its "
            f"place and has at most {archive.MAX_FILES}"
        )
    with archive.beside(store, ".pull-") as place:
        folder = place / home
        _fill(folder, source, manifest, data)
        registry.verify(folder, key)
        archive.place(store, folder, manifest)
    return manifest


def _fill(folder: Path, source: Place, manifest: Manifest, data: bytes) -> None:
    """Write everything of a package; its manifest, which is ``data`` already, last."""
    home = f"{manifest.name}/{manifest.version}"
    folder.mkdir(parents=True)
    for name, expected in manifest.files.items():
        with closing(_open(source, f"{home}/{name}")) as stream, open(folder / name, "xb") as target:
            _check(_copy(stream, target, f"{source.address}/{home}/{name}"), expected, f"{source.address}/{home}/{name}")
    with suppress(FileNotFoundError):  # most are not signed
        signature.path(folder).write_bytes(_text(source, f"{home}{signature.ENDING}"))
    (folder / manifests.FILE).write_bytes(data)


def push(folder: Path, target: Place) -> Manifest:
    """Copy the package in ``folder`` to a place. A folder gets it by one rename, as a store; elsewhere each file is read back
    and hashed, and the manifest comes last: without one nothing is a package.

    Raises:
        PackageError: it does not verify, is there already, or does not arrive as it is.
    """
    manifest = registry.verify(folder)
    home = f"{manifest.name}/{manifest.version}"
    if isinstance(target, Folder):
        return pull(target.path, Folder(folder.parents[1]), manifest.name, manifest.version)
    with suppress(FileNotFoundError):
        _text(target, f"{home}/{manifests.FILE}")
        raise PackageError(f"{target.address} has a {manifest.id} already, and a version never changes; leave it, or remove it")
    for name, expected in manifest.files.items():
        _send(target, f"{home}/{name}", registry.load(folder, manifest, name), expected)
    for path in filter(Path.exists, (signature.path(folder), folder / manifests.FILE)):
        data = file.read(path, file.MAX_TEXT_BYTES)
        _send(target, path.relative_to(folder.parents[1]).as_posix(), data, hashlib.sha256(data).hexdigest())
    return manifest


def _send(target: Web | Storage, name: str, data: bytes, expected: str) -> None:
    target.put(name, BytesIO(data), len(data))
    with closing(_open(target, name)) as stream:
        _check(_copy(stream, None, f"{target.address}/{name}"), expected, f"{target.address}/{name}")


def _text(source: Place, name: str) -> bytes:
    """A manifest or a signature, which are short; raises FileNotFoundError where there is none."""
    kept = BytesIO()
    with closing(source.open(name)) as stream:
        _copy(stream, kept, f"{source.address}/{name}", file.MAX_TEXT_BYTES)
    return kept.getvalue()


def _open(source: Place, name: str) -> BinaryIO:
    try:
        return source.open(name)
    except FileNotFoundError as err:
        raise PackageError(f"there is no {source.address}/{name}, which the manifest lists; copy the package there anew") from err


def _copy(stream: BinaryIO, target: BinaryIO | None, address: str, limit: int = file.MAX_BYTES) -> str:
    """Copy what comes, at most ``limit`` bytes, and return its SHA-256."""
    digest, size = hashlib.sha256(), 0
    while True:
        with told(address):
            chunk = stream.read(CHUNK)
        if not chunk:
            return digest.hexdigest()
        size += len(chunk)
        if size > limit:
            raise PackageError(f"{address} has more than {limit:,} bytes, which no such file of a package has")
        digest.update(chunk)
        if target is not None:
            target.write(chunk)


def _check(actual: str, expected: str, address: str) -> None:
    if actual != expected:
        raise PackageError(f"{address} did not arrive as it is: its SHA-256 is {actual[:12]}…, not {expected[:12]}…; try again")
