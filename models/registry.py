"""The store of model packages: <root>/<name>/<version>/, and <root>/<name>/current.json, the version in service.

A version is written beside its place and renamed into it; the pointer is replaced by one rename. So whoever reads,
at any moment, finds whole versions and a whole pointer. Neighbours: manifest.py describes one package.
"""

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec import Struct

from models import file, graph, signature
from models import manifest as manifests
from models.errors import PackageError
from models.file import sha256 as sha256
from models.manifest import Count, Manifest

STORE = Path(__file__).parent / "store"  # the one in the checkout
POINTER = "current.json"
GRAPH = ".onnx"
NAME = re.compile(manifests.NAME)


class Pointer(Struct, frozen=True, forbid_unknown_fields=True):
    """Which version is in service, since when and why; ``before`` holds the versions it followed, oldest first."""

    version: Count
    promoted: datetime
    reason: str
    before: list[Count] = []


def names(root: Path) -> list[str]:
    """Names with at least one version, sorted."""
    if not root.is_dir():
        return []
    return sorted(p.name for p in root.iterdir() if p.is_dir() and versions(root, p.name))


def versions(root: Path, name: str) -> list[int]:
    """Versions of ``name``, ascending."""
    folder = root / name
    if not folder.is_dir():
        return []
    return sorted(int(p.name) for p in folder.iterdir() if p.name.isascii() and p.name.isdigit() and p.is_dir())


def pointer(root: Path, name: str) -> Pointer | None:
    """The pointer of ``name``; None where nothing was promoted yet. Raises PackageError when it is damaged."""
    path = root / name / POINTER
    try:
        return msgspec.json.decode(file.read(path, file.MAX_TEXT_BYTES), type=Pointer)
    except FileNotFoundError:
        return None
    except (OSError, PackageError, *manifests.UNREADABLE) as err:
        raise PackageError(f"{path} is damaged: {err}; promote a version again to replace it") from err


def resolve(root: Path, reference: str) -> Path:
    """Folder of "name:version", or of "name", the version in service. Raises PackageError, naming what there is."""
    name, _, wanted = reference.partition(":")
    have = versions(root, name) if NAME.match(name) else []
    if not have:
        known = ", ".join(names(root)) or "none"
        raise PackageError(f"no model {name!r} in {root}; there is {known}. Publish one with 'python -m training publish'")
    listing = ", ".join(map(str, have))
    if not wanted:
        promoted = pointer(root, name)
        if promoted is None:
            raise PackageError(
                f"no version of {name} is in service; name one ({name}:{have[-1]}) or promote one. There is {listing}"
            )
        wanted = str(promoted.version)
    if not (wanted.isascii() and wanted.isdigit()) or int(wanted) not in have:
        raise PackageError(f"no version {wanted!r} of model {name} in {root}; there is {listing}")
    return root / name / str(int(wanted))


def verify(folder: Path, key: Path | None = None) -> Manifest:
    """The manifest of a package whose files are all there, plain, nothing beside them, and hash to what it says.

    No graph among them reads other files. With a public ``key``, the manifest was signed with the private one.

    Raises:
        PackageError: naming the first thing that does not fit.
    """
    for path in (folder.parent, folder):
        if path.is_symlink():
            raise PackageError(f"{path} is a link; a store holds folders and plain files alone: copy there what it leads to")
    data = manifests.read_bytes(folder)
    if key is not None:
        signature.check(folder, data, key)
    manifest = manifests.decode(folder, data)
    if (folder.parent.name, folder.name) != (manifest.name, str(manifest.version)):
        raise PackageError(f"{folder} holds a package that calls itself {manifest.id}; a package keeps its place")
    _check_files(folder, manifest)
    return manifest


def _check_files(folder: Path, manifest: Manifest) -> None:
    for path in sorted(folder.iterdir()):
        file.check_plain(path)
        if path.name != manifests.FILE and path.name not in manifest.files:
            raise PackageError(f"{path} is not listed in the manifest of {manifest.id}; remove it or publish again")
    for name in manifest.files:
        load(folder, manifest, name)


def load(folder: Path, manifest: Manifest, name: str) -> bytes:
    """The bytes of a file of the package, which are what its manifest says; raises PackageError.

    Whoever uses a file uses these bytes, and does not open it again: it could be another by then.
    """
    path, expected = folder / name, manifest.files[name]
    try:
        data = file.read(path)
    except FileNotFoundError as err:
        raise PackageError(f"{path} is missing; publish {manifest.name} again or copy the package anew") from err
    except OSError as err:
        raise PackageError(f"{path} cannot be read: {err.strerror}") from err
    if (actual := hashlib.sha256(data).hexdigest()) != expected:
        raise PackageError(
            f"{path} was changed: its SHA-256 is {actual[:12]}…, the manifest says {expected[:12]}…; "
            f"publish {manifest.name} again or copy the package anew"
        )
    if path.suffix == GRAPH:
        graph.check(path, data)
    return data


def packages(root: Path) -> Iterator[Path]:
    """Folders of all packages, by name and version."""
    for name in names(root):
        yield from (root / name / str(version) for version in versions(root, name))


def publish(root: Path, files: Path, draft: Manifest) -> Manifest:
    """Copy the files of the folder ``files``, but for a manifest, into the store as the next version of ``draft.name``.

    ``version``, ``created`` and ``files`` of the draft are set here. The first version of a name goes into service;
    later ones wait to be promoted.

    Raises:
        PackageError: the package does not verify; the store is as it was.
    """
    place = root / draft.name
    root.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=".publish-", dir=root))
    try:
        sources = [path for path in sorted(files.iterdir()) if path.name != manifests.FILE]
        hashes = {path.name: _copy(path, beside / path.name) for path in sources}
        while True:
            version = max(versions(root, draft.name), default=0) + 1
            changes = {"version": version, "created": datetime.now(UTC), "files": hashes}
            manifest = msgspec.convert(msgspec.to_builtins(draft) | changes, Manifest)
            manifests.write(beside, manifest)
            sync(beside / manifests.FILE)
            beside.chmod(0o755)
            _check_files(beside, manifest)
            make_place(place)
            try:
                beside.rename(place / str(version))
                break
            except OSError:
                if not (place / str(version)).is_dir():
                    raise  # else another publisher was first: take the next number
    except msgspec.ValidationError as err:
        raise PackageError(f"the package cannot be published: {err}") from err
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    sync(place)
    if not os.path.lexists(place / POINTER):
        promote(root, draft.name, version, "first version")
    return manifest


def promote(root: Path, name: str, version: int, reason: str) -> Pointer:
    """Put a version into service once it verifies; raises PackageError and changes nothing when it does not.

    A damaged pointer is replaced; the versions before are then forgotten.
    """
    verify(resolve(root, f"{name}:{version}"))
    try:
        old = pointer(root, name)
    except PackageError:  # damaged: this replaces it
        old = None
    before = [] if old is None else [v for v in [*old.before, old.version] if v != version]
    return _point(root, name, Pointer(version, datetime.now(UTC), reason, before))


def roll_back(root: Path, name: str) -> Pointer:
    """Put the version before the one in service back; raises PackageError where there is none or it is damaged."""
    old = pointer(root, name)
    have = versions(root, name)
    before = [] if old is None else [v for v in old.before if v in have]
    if old is None or not before:
        listing = ", ".join(f"{name}:{version}" for version in have) or "nothing of that name"
        raise PackageError(f"no version of {name} was in service before; there is {listing}")
    verify(resolve(root, f"{name}:{before[-1]}"))
    return _point(root, name, Pointer(before[-1], datetime.now(UTC), f"rolled back from {old.version}", before[:-1]))


def _point(root: Path, name: str, new: Pointer) -> Pointer:
    handle, beside = tempfile.mkstemp(prefix=".current-", dir=root / name)
    with os.fdopen(handle, "wb") as stream:
        stream.write(msgspec.json.encode(new) + b"\n")
        stream.flush()
        os.fsync(stream.fileno())
    os.chmod(beside, 0o644)
    os.replace(beside, root / name / POINTER)
    sync(root / name)
    return new


def make_place(place: Path) -> None:
    """The folder of a name, where its versions go."""
    if place.is_symlink():
        raise PackageError(f"{place} is a link; a store holds folders and plain files alone: remove it")
    place.mkdir(exist_ok=True)


def _copy(source: Path, target: Path) -> str:
    with file.open_plain(source) as original, open(target, "xb") as copy:
        shutil.copyfileobj(original, copy)
    sync(target)
    return sha256(target)


def sync(path: Path) -> None:
    """Have the disk hold a file or folder before what follows relies on it."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
