"""The store of model packages: <root>/<name>/<version>/, and <root>/<name>/current.json, the live version.

A version is written beside its place and renamed into it; the pointer is replaced by one rename. Readers
therefore never see a partial version or pointer.
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

from models import files
from models.errors import PackageError
from models.files import sha256 as sha256
from models.files import sync
from models.package import manifest as manifests
from models.package import onnx_check, report, signature
from models.package.manifest import Manifest
from models.registry import history
from models.registry.history import Pointer as Pointer
from models.terminal import program

STORE = Path(__file__).parents[1] / "store"  # the one in the checkout
POINTER = history.FILE
GRAPH = ".onnx"
NAME, VERSION = re.compile(manifests.NAME), re.compile(manifests.VERSION)


def names(root: Path) -> list[str]:
    """Names with at least one version, sorted."""
    if not root.is_dir():
        return []
    return sorted(p.name for p in root.iterdir() if NAME.fullmatch(p.name) and p.is_dir() and versions(root, p.name))


def versions(root: Path, name: str) -> list[int]:
    """Versions of ``name``, ascending."""
    folder = root / name
    if not folder.is_dir():
        return []
    return sorted(int(p.name) for p in folder.iterdir() if VERSION.fullmatch(p.name) and p.is_dir())


def pointer(root: Path, name: str) -> Pointer | None:
    """The pointer of ``name``; None where nothing was promoted yet. Raises PackageError when it is damaged."""
    return history.read(root, name)


def resolve(root: Path, reference: str) -> Path:
    """Folder of "name:version", or of "name", the live version. Raises PackageError, naming what there is."""
    name, _, wanted = reference.partition(":")
    have = versions(root, name) if NAME.fullmatch(name) else []
    if not have:
        known = ", ".join(names(root)) or "none"
        publish = program.command("run", "DATA", "--name", name if NAME.fullmatch(name) else "NAME", *program.store(root))
        raise PackageError(f"no model {name[:100]!r} in {root}; there is {known}. Train and publish one with '{publish}'")
    listing = ", ".join(map(str, have))
    if not wanted:
        promoted = pointer(root, name)
        if promoted is None:
            raise PackageError(f"no version of {name} is live; name one ({name}:{have[-1]}) or promote one. There is {listing}")
        wanted = str(promoted.version)
    number = wanted.lstrip("0")
    if not VERSION.fullmatch(number) or int(number) not in have:
        raise PackageError(f"no version {wanted[:20]!r} of model {name} in {root}; there is {listing}")
    return root / name / number


def verify(folder: Path, key: Path | None = None) -> Manifest:
    """The manifest of a package whose files are all there, plain, nothing besides, and hash to what it says.

    No graph among them reads other files. With a public ``key``, the manifest was signed with the private one.

    Raises:
        PackageError: naming the first thing that does not fit.
    """
    manifest = describe(folder, key)
    _check_files(folder, manifest)
    return manifest


def describe(folder: Path, key: Path | None = None) -> Manifest:
    """The manifest of a package as ``verify`` has it, without a look at its files; who uses one of these asks ``load``.

    Raises:
        PackageError.
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
    return manifest


def _check_files(folder: Path, manifest: Manifest) -> None:
    for path in sorted(folder.iterdir()):
        files.check_plain(path)
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
        data = files.read(path)
    except FileNotFoundError as err:
        raise PackageError(f"{path} is missing; publish {manifest.name} again or copy the package again") from err
    except OSError as err:
        raise PackageError(f"{path} cannot be read: {err.strerror}") from err
    if (actual := hashlib.sha256(data).hexdigest()) != expected:
        raise PackageError(
            f"{path} was changed: its SHA-256 is {actual[:12]}…, the manifest says {expected[:12]}…; "
            f"publish {manifest.name} again or copy the package again"
        )
    if path.suffix == GRAPH:
        onnx_check.check(path, data)
    return data


def packages(root: Path) -> Iterator[Path]:
    """Folders of all packages, by name and version."""
    for name in names(root):
        yield from (root / name / str(version) for version in versions(root, name))


def publish(root: Path, folder: Path, draft: Manifest) -> Manifest:
    """Copy the files of ``folder``, but for a manifest, into the store as the next version of ``draft.name``.

    ``version``, ``created`` and ``files`` of the draft are set here. The first version of a name becomes live;
    later ones wait to be promoted.

    Raises:
        PackageError: the package does not verify, or the store cannot be written to; the store is as it was.
    """
    try:
        manifest = _put(root, folder, draft)
    except OSError as err:
        raise PackageError(
            f"{root} cannot be written to: {err.strerror or err}; nothing was published: make room there, or let it be "
            "written to, or name another store with --store"
        ) from err
    try:
        begin(root, manifest.name, manifest.version)
    except OSError as err:
        promote = program.command("models", "promote", manifest.id, *program.store(root))
        raise PackageError(
            f"{manifest.id} was published, but {root} cannot be written to any more: {err.strerror or err}; make room, make it "
            f"live with '{promote}'"
        ) from err
    return manifest


def _put(root: Path, folder: Path, draft: Manifest) -> Manifest:
    """The version in its place, not live."""
    place = root / draft.name
    root.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=".publish-", dir=root))
    try:
        sources = [path for path in sorted(folder.iterdir()) if path.name != manifests.FILE]
        hashes = {path.name: _copy(path, beside / path.name) for path in sources}
        while True:
            version = _last(root, draft.name) + 1
            if manifests.REPORT in hashes:
                hashes[manifests.REPORT] = _name(beside / manifests.REPORT, f"{draft.name}:{version}")
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
    return manifest


def begin(root: Path, name: str, version: int) -> None:
    """Make a version live where no other is or was. Raises PackageError."""
    with history.locked(root / name):
        if not os.path.lexists(root / name / POINTER):
            verify(resolve(root, f"{name}:{version}"))
            history.replace(root, name, lambda old: promoted(old, version, "first version"))


def _last(root: Path, name: str) -> int:
    """The highest number that a version of ``name`` has or had; 0 where there was none. A number is not given twice."""
    try:
        now = pointer(root, name)
    except PackageError:  # damaged: what it knew is lost
        now = None
    return max([*versions(root, name), *(() if now is None else (entry.version for entry in now.history))], default=0)


def promote(
    root: Path,
    name: str,
    version: int,
    reason: str,
    by: str = "",
    forced: bool = False,
    key: Path | None = None,
    check: history.Check = history.anything,
) -> Pointer:
    """Make a version live once it verifies; raises PackageError and changes nothing when it does not.

    A retired one comes back into use. A damaged pointer is replaced; the versions before and the history are then forgotten.
    key: that the package is signed for. check: called with the pointer while nobody changes it.
    """
    verify(resolve(root, f"{name}:{version}"), key)

    def step(old: Pointer | None) -> Pointer:
        check(old)
        check_present(root, name, version)
        return promoted(old, version, reason, by, forced)

    return history.update(root, name, step, mend=True)


def check_present(root: Path, name: str, version: int) -> None:
    """Raises PackageError where a version was removed since it was verified."""
    if not (root / name / str(version) / manifests.FILE).is_file():
        raise PackageError(f"{name}:{version} was removed from {root} meanwhile; nothing was changed")


def promoted(old: Pointer | None, version: int, reason: str, by: str = "", forced: bool = False) -> Pointer:
    """The pointer after ``old`` that has ``version`` live."""
    entry = history.change("promote", version, old, reason, by, forced)
    if old is None:
        return Pointer(version, entry.at, entry.reason, [], entry.by, [entry])
    before = [v for v in [*old.before, old.version] if v != version]
    retired = [v for v in old.retired if v != version]
    return Pointer(version, entry.at, entry.reason, before, entry.by, [*old.history, entry], retired)


def roll_back(root: Path, name: str, reason: str = "", by: str = "") -> Pointer:
    """Put the version before the live one back; raises PackageError where there is none or it is damaged."""
    old = pointer(root, name)
    target = None if old is None else previous(root, name, old)
    if old is None or target is None:
        listing = ", ".join(f"{name}:{version}" for version in versions(root, name)) or "nothing of that name"
        raise PackageError(f"no version of {name} was live before; there is {listing}")
    verify(resolve(root, f"{name}:{target}"))

    def step(now: Pointer | None) -> Pointer:
        if now is None or now.version != old.version or previous(root, name, now) != target:
            look = program.command("models", "show", name, *program.store(root))
            raise PackageError(f"another version of {name} became live meanwhile; look again: {look}")
        why = f"rolled back from {old.version}" + (f": {reason}" if reason else "")
        entry = history.change("rollback", target, now, why, by)
        before = now.before[: len(now.before) - 1 - now.before[::-1].index(target)]
        return Pointer(target, entry.at, entry.reason, before, entry.by, [*now.history, entry], now.retired)

    return history.update(root, name, step)


def previous(root: Path, name: str, now: Pointer) -> int | None:
    """The version that ``roll_back`` would make live: the last before that is still there and in use."""
    have = versions(root, name)
    return next((v for v in reversed(now.before) if v in have and v not in (*now.retired, now.version)), None)


def make_place(place: Path) -> None:
    """The folder of a name, where its versions go."""
    if place.is_symlink():
        raise PackageError(f"{place} is a link; a store holds folders and plain files alone: remove it")
    place.mkdir(exist_ok=True)


def _name(page: Path, name: str) -> str:
    """Write into a report which package it is of; its SHA-256 then."""
    page.write_bytes(report.named(page.read_bytes(), name))
    sync(page)
    return sha256(page)


def _copy(source: Path, target: Path) -> str:
    with files.open_plain(source) as original, open(target, "xb") as copy:
        shutil.copyfileobj(original, copy)
    sync(target)
    return sha256(target)
