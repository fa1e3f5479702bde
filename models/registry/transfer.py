"""Carries a package from one store to another, or to and from any place: every file hashed, never half a package.

A place holds packages as a store does: NAME/VERSION/FILE, and NAME/VERSION.sig where it is signed.
"""

import hashlib
import time
from collections.abc import Generator
from contextlib import closing, suppress
from io import BytesIO
from pathlib import Path
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import BinaryIO

from models import files
from models.errors import PackageError
from models.package import manifest as manifests
from models.package import signature
from models.package.manifest import Manifest
from models.registry import archive, registry
from models.registry.locations import Folder, Place, Storage, Web, told

CHUNK = 2**16
SECONDS = 3600.0  # for a package to be carried, all files together
LOOK_SECONDS = 0.1  # between two looks of a thread whether it is needed any more


class Allowance:
    """What the files of one package may still take together, in bytes and seconds. Raises PackageError for no time at all."""

    def __init__(self, seconds: float = SECONDS) -> None:
        if not seconds > 0:  # NaN too
            raise PackageError(f"--seconds is {seconds:g}, in which nothing can arrive; give it more than 0")
        self.allowed, self.most, self.taken = seconds, archive.MAX_BYTES, 0
        self.until = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds."""
        return min(1e6, max(0.0, self.until - time.monotonic()))

    def take(self, size: int, address: str) -> None:
        """Raises PackageError where these bytes are too many."""
        self.taken += size
        if self.taken > self.most:
            raise PackageError(f"{address}: its package has more than {self.most:,} bytes in all, more than a package may have")

    def late(self, address: str) -> PackageError:
        return PackageError(
            f"{address} did not arrive within {self.allowed:g} s, which all files of the package have together; try again, or "
            "give it longer with --seconds"
        )


def pull(store: Path, source: Place, name: str, version: int, key: Path | None = None, seconds: float = SECONDS) -> Manifest:
    """Copy ``name``:``version`` from a place into the store, under the same name and version; a first version of a name becomes
    live. It may take ``seconds`` in all.

    Raises:
        PackageError: it is not there, does not verify, is not signed for the public ``key``, or the store has that version.
        OSError: the store cannot be written to. In each case the store is as it was.
    """
    home = f"{name}/{version}"
    if (store / home).exists():
        raise PackageError(f"{store} has a {name}:{version} already, and a version never changes; remove it first, or leave it")
    allowance = Allowance(seconds)
    try:
        data = _text(source, f"{home}/{manifests.FILE}", allowance)
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
        _fill(folder, source, manifest, data, allowance)
        registry.verify(folder, key)
        archive.place(store, folder, manifest)
    return manifest


def _fill(folder: Path, source: Place, manifest: Manifest, data: bytes, allowance: Allowance) -> None:
    """Write everything of a package; its manifest, which is ``data`` already, last."""
    home = f"{manifest.name}/{manifest.version}"
    folder.mkdir(parents=True)
    for name, expected in manifest.files.items():
        with open(folder / name, "xb") as target:
            _check(_listed(source, f"{home}/{name}", target, allowance), expected, f"{source.address}/{home}/{name}")
    with suppress(FileNotFoundError):  # most are not signed
        signature.path(folder).write_bytes(_text(source, f"{home}{signature.ENDING}", allowance))
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
        with told(target.address):
            return pull(target.path, Folder(folder.parents[1]), manifest.name, manifest.version)
    with suppress(FileNotFoundError):
        _text(target, f"{home}/{manifests.FILE}", Allowance())
        raise PackageError(f"{target.address} has a {manifest.id} already, and a version never changes; leave it, or remove it")
    for name, expected in manifest.files.items():
        _send(target, f"{home}/{name}", registry.load(folder, manifest, name), expected)
    for path in filter(Path.exists, (signature.path(folder), folder / manifests.FILE)):
        data = files.read(path, manifests.MAX_BYTES)
        if path.name == manifests.FILE and manifests.decode(folder, data) != manifest:
            raise PackageError(f"the manifest of {manifest.id} was exchanged while it was sent; look again")
        _send(target, path.relative_to(folder.parents[1]).as_posix(), data, hashlib.sha256(data).hexdigest())
    return manifest


def _send(target: Web | Storage, name: str, data: bytes, expected: str) -> None:
    target.put(name, BytesIO(data), len(data))
    _check(_listed(target, name, None, Allowance()), expected, f"{target.address}/{name}")


def _text(source: Place, name: str, allowance: Allowance) -> bytes:
    """A manifest or a signature, which are short; raises FileNotFoundError where there is none."""
    kept = BytesIO()
    limit = files.MAX_TEXT_BYTES if name.endswith(signature.ENDING) else manifests.MAX_BYTES
    _copy(source, name, kept, allowance, limit)
    return kept.getvalue()


def _listed(source: Place, name: str, target: BinaryIO | None, allowance: Allowance) -> str:
    """Copy a file that must be there, and return its SHA-256."""
    try:
        return _copy(source, name, target, allowance)
    except FileNotFoundError as err:
        raise PackageError(
            f"there is no {source.address}/{name}, which the manifest lists; copy the package there again"
        ) from err


def _copy(source: Place, name: str, target: BinaryIO | None, allowance: Allowance, limit: int = files.MAX_BYTES) -> str:
    """Copy a file, of at most ``limit`` bytes, and return its SHA-256; raises FileNotFoundError where there is none."""
    digest, size, address = hashlib.sha256(), 0, f"{source.address}/{name}"
    with closing(_arriving(source, name, allowance)) as chunks:
        for chunk in chunks:
            size += len(chunk)
            if size > limit:
                raise PackageError(f"{address} has more than {limit:,} bytes, which no such file of a package has")
            allowance.take(len(chunk), address)
            digest.update(chunk)
            if target is not None:
                target.write(chunk)
    return digest.hexdigest()


def _arriving(source: Place, name: str, allowance: Allowance) -> Generator[bytes]:
    """The content of a file as it arrives, within the time that is left. It is read in a thread, which may wait for ever for a
    name, an answer, a head or a byte, whatever library reads it."""
    arrived: Queue[bytes | BaseException] = Queue(4)
    unwanted = Event()
    reader = Thread(target=_read, args=(source, name, arrived, unwanted), name="carry", daemon=True)
    reader.start()
    try:
        while True:
            chunk = arrived.get(timeout=allowance.left())
            if isinstance(chunk, BaseException):
                raise chunk
            if not chunk:
                return
            yield chunk
    except Empty as err:
        raise allowance.late(f"{source.address}/{name}") from err
    finally:
        unwanted.set()


def _read(source: Place, name: str, arrived: "Queue[bytes | BaseException]", unwanted: Event) -> None:
    """In a thread: what comes, then nothing, or what went wrong."""

    def say(what: bytes | BaseException) -> None:
        while not unwanted.is_set():
            with suppress(Full):
                return arrived.put(what, timeout=LOOK_SECONDS)

    try:
        with closing(source.open(name)) as stream:
            chunk = b"more"
            while chunk and not unwanted.is_set():
                with told(f"{source.address}/{name}"):
                    chunk = stream.read(CHUNK)
                say(chunk)
    except BaseException as err:
        say(err)


def _check(actual: str, expected: str, address: str) -> None:
    if actual != expected:
        raise PackageError(f"{address} did not arrive as it is: its SHA-256 is {actual[:12]}…, not {expected[:12]}…; try again")
