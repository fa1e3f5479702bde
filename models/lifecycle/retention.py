"""Taking versions out of use, and making room: what may go, what must stay, and what killed processes left.

What goes is renamed into a folder .trash-… first, so no version is ever half there.
"""

import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from models.errors import PackageError
from models.lifecycle import candidate, gate
from models.package import signature
from models.registry import history, registry
from models.registry.history import Pointer
from models.terminal import program

KEEP = 3
TRASH = ".trash-"
LEFT_BEHIND = re.compile(r"\.(publish|unpack|pull|push|sign|trash|current|candidate|progress|[0-9]+\.gate)-")
BESIDE = re.compile(rf"([1-9][0-9]*)({re.escape(signature.ENDING)}|{re.escape(gate.ENDING)})")
DAY = 24 * 3600.0


class Removed(NamedTuple):
    """Something that went, or would go: bytes and why."""

    what: str
    bytes: int
    why: str


def retire(root: Path, name: str, version: int, reason: str, force: bool = False) -> Pointer:
    """Take a version out of use: it is not promoted or rolled back to any more, and gc removes it.

    Raises:
        PackageError: it is live or a candidate, or, without ``force``, the one that a rollback would bring back.
    """
    registry.resolve(root, f"{name}:{version}")

    def step(now: Pointer | None) -> Pointer:
        if now is None or now.version == version:
            raise PackageError(f"{name}:{version} is live, or none is; promote another version first")
        running = candidate.of(root, name, now)
        if running is not None and running.version == version:
            end = program.command("models", "end", name, *program.store(root))
            raise PackageError(f"{name}:{version} is a candidate; '{end}' stops it first")
        if version in now.retired:
            gc = program.command("models", "gc", name, *program.store(root))
            raise PackageError(f"{name}:{version} is retired already; '{gc}' removes it")
        back = registry.previous(root, name, now) == version
        if back and not force:
            raise PackageError(f"{name}:{version} is what a rollback would bring back; --force retires it all the same")
        entry = history.change("retire", version, now, reason, "", back)
        return msgspec.structs.replace(now, retired=[*now.retired, version], history=[*now.history, entry])

    return history.update(root, name, step)


def collect(root: Path, name: str, keep: int = KEEP, dry_run: bool = False) -> list[Removed]:
    """Remove retired and old versions of ``name``; with ``dry_run`` only say which.

    What is live, a candidate, what a rollback would bring back, and the newest ``keep`` that are not retired stay.
    """
    now = registry.pointer(root, name)
    if now is None:
        raise PackageError(f"no version of {name} is live, so none is known to be old; promote one first")
    going = _going(root, name, now, keep)
    found = [Removed(f"{name}:{version}", _size(root / name / str(version)), why) for version, why in going.items()]
    if going and not dry_run:

        def step(now: Pointer | None) -> Pointer:
            if now is None or not going.items() <= _going(root, name, now, keep).items():
                raise PackageError(f"versions of {name} came into use meanwhile; nothing was removed, try again")
            entries = [history.change("remove", version, now, why, "") for version, why in going.items()]
            retired = [version for version in now.retired if version not in going]
            return msgspec.structs.replace(now, history=[*now.history, *entries], retired=retired)

        with history.locked(root / name):
            history.replace(root, name, step)
            trash = [_put_away(root, name, version) for version in going]
        for folder in trash:
            shutil.rmtree(folder)
    return found


def _going(root: Path, name: str, now: Pointer, keep: int) -> dict[int, str]:
    """Versions that may go, and why."""
    running = candidate.read(root, name)
    have = registry.versions(root, name)
    used = [version for version in have if version not in now.retired]
    stay = {now.version, registry.previous(root, name, now), *used[len(used) - min(keep, len(used)) :]}
    stay |= {running.version} if running else set()
    return {v: "retired" if v in now.retired else f"older than the last {keep}" for v in have if v not in stay}


def _put_away(root: Path, name: str, version: int) -> Path:
    """Out of its place at once; returns the folder that is to be removed."""
    trash = Path(tempfile.mkdtemp(prefix=TRASH, dir=root))
    folder = root / name / str(version)
    for path in (folder, signature.path(folder), gate.path(root, name, version)):
        if os.path.lexists(path):
            path.rename(trash / path.name)
    return trash


def sweep(root: Path, dry_run: bool = False, age: float = DAY) -> list[Removed]:
    """Remove what processes that were killed left in the store, once it is ``age`` seconds old; with ``dry_run`` only say so."""
    found = [Removed(str(path.relative_to(root)), _size(path), "left by a process that was killed") for path in _left(root, age)]
    for removed in found if not dry_run else []:
        path = root / removed.what
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    return found


def _left(root: Path, age: float) -> Iterator[Path]:
    places = [root, *(root / name for name in registry.names(root))] if root.is_dir() else []
    for place in places:
        for path in sorted(place.iterdir()):
            if path.lstat().st_mtime > time.time() - age:
                continue
            fits = BESIDE.fullmatch(path.name)
            if LEFT_BEHIND.match(path.name) or (fits and not (place / fits[1]).exists()):
                yield path


def _size(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    paths = path.rglob("*") if path.is_dir() and not path.is_symlink() else [path]
    return sum(p.lstat().st_size for p in paths if not p.is_dir())
