"""Packages that are put into a store past publishing, as whoever may write there could: tiny:1, changed, with hashes that fit."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, numpy_helper

from models.package import held_out_answers
from models.package.held_out_answers import Answers
from models.package.manifest import ANSWERS, FILE, GOLDEN, MODEL
from models.registry import registry
from tests.factories import run_onnx

Change = Callable[[Path], None]


def forge(store: Path, change: Change | None = None, version: int = 2, fitting: bool = True, **fields: Any) -> Path:
    """tiny:``version``: a copy of tiny:1 that ``change`` was made to. ``fields`` of the manifest; hashes only if ``fitting``."""
    folder = store / "tiny" / str(version)
    shutil.copytree(store / "tiny/1", folder)
    manifest = json.loads((folder / FILE).read_bytes()) | {"version": version} | fields
    if change is not None:
        change(folder)
    if fitting:
        plain = [path for path in folder.iterdir() if path.name != FILE and path.is_file() and not path.is_symlink()]
        manifest["files"] |= {path.name: registry.sha256(path) for path in plain}
    (folder / FILE).write_text(json.dumps(manifest))
    return folder


def evaluation(store: Path, **changes: Any) -> dict[str, Any]:
    """That of tiny:1, with some fields changed."""
    return json.loads((store / "tiny/1" / FILE).read_bytes())["evaluation"] | changes


def graph(edit: Callable[[ModelProto], None], golden: bool = False) -> Change:
    """Edit the graph, and with ``golden`` take what it answers then for the right answers."""

    def change(folder: Path) -> None:
        model = onnx.load(folder / MODEL)
        edit(model)
        (folder / MODEL).write_bytes(model.SerializeToString())
        if golden:
            remake_golden(folder)

    return change


def remake_golden(folder: Path) -> None:
    with np.load(folder / GOLDEN) as kept:
        images = kept["images"]
    np.savez_compressed(folder / GOLDEN, images=images, logits=run_onnx(folder / MODEL, images)["logits"])


def constant(name: str, value: Any) -> Callable[[ModelProto], None]:
    """Put other numbers into a constant of the graph."""

    def edit(model: ModelProto) -> None:
        found = next(tensor for tensor in model.graph.initializer if tensor.name == name)
        shape = numpy_helper.to_array(found).shape
        found.CopyFrom(numpy_helper.from_array(np.broadcast_to(np.asarray(value, np.float32), shape).copy(), name))

    return edit


def answered(predicted: Sequence[int], target: Sequence[int], probability: float | Sequence[float] = 0.9) -> Change:
    """Add answers.npz for images that are called 0, 1, 2, …"""
    n = len(target)
    sure = np.broadcast_to(np.asarray(probability, np.float32), n).copy()
    made = Answers(np.arange(n, dtype=np.uint64), np.array(target, np.int32), np.array(predicted, np.int32), sure)
    return lambda folder: held_out_answers.write(folder / ANSWERS, made)
