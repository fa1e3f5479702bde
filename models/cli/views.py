"""What the store holds, for people and programs: every package, one as a whole, and two side by side."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from models.errors import PackageError
from models.lifecycle import candidate, gate
from models.lifecycle.gate import Gate
from models.package import manifest as manifests
from models.package import signature
from models.package.manifest import Manifest
from models.package.precision import GRAPHS
from models.registry import registry
from models.registry.history import Change

Row = dict[str, Any]


def state(root: Path, name: str, version: int) -> str:
    """ "live", "shadow 100 %", "canary 10 %", "rollback target", "retired", or nothing of these."""
    pointer = registry.pointer(root, name)
    if pointer is None:
        return ""
    if pointer.version == version:
        return "live"
    running = candidate.read(root, name)
    if running is not None and running.version == version:
        return f"{running.mode} {running.percent:g} %"
    if version in pointer.retired:
        return "retired"
    return "rollback target" if registry.previous(root, name, pointer) == version else ""


def packages(root: Path) -> list[Row]:
    """A row for each package, by name and version; of a damaged one, what can be told of it, and its fault."""
    return [_row(root, folder) for folder in registry.packages(root)]


def _row(root: Path, folder: Path) -> Row:
    name, version = folder.parent.name, int(folder.name)
    row: Row = {"model": f"{name}:{version}", "in_service": False, "state": ""}
    row |= dict.fromkeys(("architecture", "classes", "top1", "created"))
    place, fault = _looked(folder, lambda: _place(root, folder))
    found, other = _looked(folder, lambda: _described(folder))
    return row | place | found | {"fault": "; ".join(filter(None, (fault, other))) or None}


def _looked(folder: Path, look: Callable[[], Row]) -> tuple[Row, str]:
    """What is found at a package, or why nothing can be."""
    try:
        return look(), ""
    except PackageError as err:
        return {}, str(err)
    except OSError as err:
        return {}, f"{err.filename or folder} cannot be read: {err.strerror or err}"


def _place(root: Path, folder: Path) -> Row:
    """What it is in use for."""
    name, version = folder.parent.name, int(folder.name)
    pointer = registry.pointer(root, name)
    return {"in_service": pointer is not None and pointer.version == version, "state": state(root, name, version)}


def _described(folder: Path) -> Row:
    """What its manifest says."""
    manifest = registry.describe(folder)
    return {
        "architecture": manifest.architecture,
        "classes": len(manifest.labels),
        "top1": manifest.evaluation.top1,
        "created": manifest.created.isoformat(timespec="seconds"),
    }


def all_verified(root: Path, key: Path | None = None) -> list[Row]:
    """A row for each package, by name and version, as ``verified`` has it; of a damaged one its fault."""
    rows: list[Row] = []
    for folder in registry.packages(root):
        found, fault = _looked(folder, lambda folder=folder: verified(folder, key))
        faulty = {"model": f"{folder.parent.name}:{folder.name}", "files": "faulty", "fault": fault}
        rows.append(found or (faulty | {"signature": None} if key else faulty))
    return rows


def verified(folder: Path, key: Path | None = None) -> Row:
    """A row that says that the files of a package are whole, and with a public ``key`` signed; raises PackageError."""
    row: Row = {"model": registry.verify(folder, key).id, "files": "whole", "fault": None}
    return row | {"signature": "fits the key"} if key else row


def package(root: Path, folder: Path) -> Row:
    """Everything about one package: what its manifest says in short, its gate and its history."""
    manifest, name = manifests.read(folder), folder.parent.name
    pointer = registry.pointer(root, name)
    changes = [] if pointer is None else [c for c in pointer.history if _concerns(c, manifest.version)]
    found = gate.read(root, name, manifest.version)
    return {
        "model": manifest.id,
        "state": state(root, name, manifest.version),
        "created": manifest.created.isoformat(timespec="seconds"),
        "signed": signature.path(folder).exists(),
        **_facts(folder, manifest),
        "labels": manifest.labels,
        "gate": None if found is None else msgspec.to_builtins(found),
        "history": [msgspec.to_builtins(change) for change in changes],
    }


def _concerns(change: Change, version: int) -> bool:
    """Whether it was done to the version, or took it out of service."""
    return change.version == version or (change.event in ("promote", "rollback") and change.before == version)


def _facts(folder: Path, manifest: Manifest) -> Row:
    """The figures that two packages are compared by."""
    evaluation, spec = manifest.evaluation, manifest.input
    return {
        "architecture": manifest.architecture,
        "classes": len(manifest.labels),
        "input": f"{spec.height}x{spec.width}, resized to {spec.resize}, {spec.interpolation}",
        "dataset": f"{evaluation.dataset}, {evaluation.samples} {evaluation.split} images ({evaluation.dataset_sha256[:12]})",
        "top1": evaluation.top1,
        **({"top5": evaluation.top5} if len(manifest.labels) > manifests.ALWAYS_TOP5 else {}),
        **{f"top1 {a.provider.replace('ExecutionProvider', '')} {a.precision}": a.top1 for a in evaluation.providers},
        "calibration_error": evaluation.calibration_error,
        "threshold": manifest.threshold,
        "coverage": evaluation.coverage,
        "bytes": sum(path.stat().st_size for path in folder.iterdir()),
        **{f"bytes {name}": (folder / name).stat().st_size for name in GRAPHS.values() if name in manifest.files},
    }


def difference(root: Path, first: Path, second: Path) -> Row:
    """What two packages differ in: classes, every figure, and the recall of every class that both have."""
    old, new = manifests.read(first), manifests.read(second)
    before = _facts(first, old) | _speeds(gate.read(root, old.name, old.version))
    after = _facts(second, new) | _speeds(gate.read(root, new.name, new.version))
    figures = {key: _compared(before.get(key), after.get(key)) for key in [*before, *(key for key in after if key not in before)]}
    recalls = old.evaluation.per_class, new.evaluation.per_class
    per_class = {label: _compared(recalls[0][label], recalls[1][label]) for label in recalls[0] if label in recalls[1]}
    return {"from": old.id, "to": new.id, "classes": _classes(old.labels, new.labels), "figures": figures, "recall": per_class}


def _speeds(found: Gate | None) -> Row:
    """As the gate measured them on this machine; nothing where it did not."""
    if found is None or found.trial is None:
        return {}
    seconds = {f"ms for {s.size} at the gate": round(1000 * s.seconds, 3) for s in (found.trial.one, found.trial.largest)}
    return seconds | {"MiB at the gate": round(found.trial.memory_bytes / 2**20)}


def _compared(before: Any, after: Any) -> Row:
    numbers = isinstance(before, int | float) and isinstance(after, int | float)
    return {"from": before, "to": after, "change": round(after - before, 6) if numbers else None}


def _classes(old: list[str], new: list[str]) -> Row:
    """Added, removed, and those in whose place another stands, while the rest stays: these were renamed, it seems."""
    before, after = set(old), set(new)
    gone, come = [x for x in old if x not in after], [x for x in new if x not in before]
    renamed: dict[str, str] = {}
    if len(old) == len(new):
        renamed = {a: b for a, b in zip(old, new, strict=True) if a not in after and b not in before}
    called = set(renamed.values())
    return {
        "added": [x for x in come if x not in called],
        "removed": [x for x in gone if x not in renamed],
        "renamed": renamed,
        "reordered": not gone and not come and old != new,
    }
