"""What a run is and how good it is, as plain data."""

from pathlib import Path
from typing import Any

import msgspec

from models.package import statistics
from training.data.pixels import Pixels
from training.errors import CheckpointError
from training.loop import checkpoint as checkpoints
from training.loop.checkpoint import Checkpoint
from training.networks.classifier import Classifier
from training.publishing import export, package
from training.report import speed

FILE = package.REPORT_FACTS


def origin(checkpoint: Checkpoint, model: Classifier) -> dict[str, Any]:
    """Where the network comes from: command, code, data, recipe, machine, time."""
    recipe = msgspec.to_builtins(checkpoint.recipe)
    return {
        **checkpoint.provenance,
        "recipe": {key: value for key, value in recipe.items() if key != "input"},
        "input": recipe["input"],
        "classes": list(checkpoint.classes),
        "parameters": sum(p.numel() for p in model.parameters()),
        "epochs": checkpoint.epoch,
        "kept_epoch": checkpoint.kept_epoch or checkpoint.epoch,
        "training_seconds": round(checkpoint.seconds, 1),
        "data": {key: value for key, value in checkpoint.data.items() if key != "skipped"},
    }


def kept(checkpoint: Checkpoint) -> dict[str, float] | None:
    """The history of the epoch whose weights answer; None before the first. Earlier checkpoints kept the last."""
    number = checkpoint.kept_epoch or checkpoint.epoch
    return next((entry for entry in checkpoint.history if entry["epoch"] == number), None)


def headline(evaluation: dict[str, Any]) -> dict[str, float]:
    """Top-1 with the interval that chance leaves (95 %), and what always answering one class would reach."""
    n, top1 = evaluation["samples"], evaluation["top1"]
    low, high = statistics.wilson(top1, n)
    commonest = max(row["support"] for row in evaluation["classes"]) / n
    return {"top1": top1, "low": round(low, 4), "high": round(high, 4), "commonest_class": round(commonest, 4)}


def precisions(exported: dict[str, Any]) -> set[str]:
    """Those that the graphs were measured in."""
    return {row["precision"] for row in exported["parity"]["providers"]} if "parity" in exported else set()


def exported(run: Path, checkpoint: Checkpoint, pixels: Pixels) -> dict[str, Any]:
    """What export.py measured and how fast the graphs are here; ``left_out``, why, where the run was not exported.

    pixels: (n, height, width, 3) uint8, images to compute.
    """
    try:
        parity = checkpoints.read_result(run / export.FILE, "export", checkpoint)
    except CheckpointError as err:
        return {"left_out": str(err)}
    sizes = {path.name: path.stat().st_size for path in sorted(run.glob("*.onnx"))}
    return {"parity": parity, "sizes": sizes, "speed": speed.measure(run, pixels)}
