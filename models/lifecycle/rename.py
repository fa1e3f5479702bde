"""Giving a class of a package another name, as a new version: nothing that was learnt or measured changes.

The graph, its answers and what its images are like count classes by number; whatever calls them by name is written again.
"""

import html
import json
import re
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import msgspec

from models.errors import PackageError
from models.package import manifest as manifests
from models.package.manifest import Manifest
from models.registry import history, registry

SIDECAR = "checkpoint.json"  # of packages with weights, see docs/model-package.md
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
NAMED = 20  # classes that a message names


def rename(root: Path, folder: Path, old: str, new: str, reason: str = "") -> Manifest:
    """Publish the package in ``folder`` as its next version, with the class ``old`` called ``new``; it waits to be promoted.

    Raises:
        PackageError: the package does not verify or lacks the class, or the new name is taken or cannot be printed.
    """
    manifest = registry.verify(folder)
    _check(manifest, old, new)
    with tempfile.TemporaryDirectory() as place:
        files = Path(place)
        for name in manifest.files:
            (files / name).write_bytes(registry.load(folder, manifest, name))
        draft = _renamed(manifest, old, new, reason)
        note = f"The class {old} of {manifest.id} is called {new} in this version."
        _rewrite(files / manifests.CARD, lambda text: _card(text, manifest.labels, draft.labels, note))
        _rewrite(files / manifests.REPORT, lambda text: _report(text, note))
        _rewrite(files / SIDECAR, lambda text: _sidecar(text, old, new))
        return registry.publish(root, files, draft)


def _check(manifest: Manifest, old: str, new: str) -> None:
    labels = manifest.labels
    if old not in labels:
        more = f" and {len(labels) - NAMED} more" if len(labels) > NAMED else ""
        raise PackageError(f"{manifest.id} has no class {old!r}; it has {', '.join(labels[:NAMED])}{more}")
    if new in labels:
        raise PackageError(f"{manifest.id} has a class {new!r} already, and two cannot have one name; choose another")
    if not new.strip() or CONTROL.search(new):
        raise PackageError(f"a class cannot be called {new!r}: a name needs letters, in UTF-8, on one line")


def _renamed(manifest: Manifest, old: str, new: str, reason: str) -> Manifest:
    """The manifest of the next version, as a draft."""
    found = manifest.provenance.get("renamed", [])
    before: list[Any] = cast(list[Any], found) if isinstance(found, list) else [found]
    record = {"from": manifest.id, "old": old, "new": new, "at": datetime.now(UTC).isoformat(timespec="seconds")}
    record |= {"by": history.who(), "reason": reason}
    per_class = {_called(label, old, new): share for label, share in manifest.evaluation.per_class.items()}
    return msgspec.structs.replace(
        manifest,
        labels=[_called(label, old, new) for label in manifest.labels],
        evaluation=msgspec.structs.replace(manifest.evaluation, per_class=per_class),
        provenance=manifest.provenance | {"renamed": [*before, record]},
    )


def _called(label: str, old: str, new: str) -> str:
    return new if label == old else label


def _rewrite(path: Path, change: Callable[[str], str]) -> None:
    """Change the text of a file where the package has it; raises PackageError where it is none that can be changed."""
    if not path.is_file():
        return
    try:
        path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")
    except (ValueError, KeyError, TypeError, RecursionError) as err:
        raise PackageError(f"{path.name} of the package cannot be changed ({err}); publish it again from its run") from err


def _card(text: str, before: list[str], after: list[str], note: str) -> str:
    """The rows of the table of classes and the list of all of them; the note below the title."""
    text = text.replace(", ".join(before), ", ".join(after))
    head, table, rest = text.partition("| class |")
    rows, gap, rest = rest.partition("\n\n")
    for old, new in zip(before, after, strict=True):
        rows = rows.replace(f"\n| {old} |", f"\n| {new} |") if old != new else rows
    title, line, head = head.partition("\n")
    return f"{title}{line}\n{note}\n{head}{table}{rows}{gap}{rest}"


def _report(text: str, note: str) -> str:
    """The report is of the training, and stays as it was; it says how the class is called now."""
    banner = f"<p><strong>{html.escape(note)}</strong></p>"
    return re.sub(r"<body[^>]*>", lambda found: f"{found[0]}\n{banner}", text, count=1)


def _sidecar(text: str, old: str, new: str) -> str:
    content = json.loads(text)
    content["classes"] = [_called(label, old, new) for label in content["classes"]]
    return json.dumps(content, indent=1, ensure_ascii=False)
