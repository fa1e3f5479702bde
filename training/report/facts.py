"""What a run is and how good it is, as plain data. Neighbours: document.py asks, evaluate.py and export.py measured."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from training import checkpoint as checkpoints
from training import export
from training.architectures.classifier import Classifier
from training.checkpoint import Checkpoint
from training.errors import CheckpointError
from training.report import speed

FILE = "report.json"


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
        "training_seconds": round(checkpoint.seconds, 1),
        "data": {key: value for key, value in checkpoint.data.items() if key != "skipped"},
    }


def headline(evaluation: dict[str, Any]) -> dict[str, float]:
    """Top-1 with the interval that chance leaves (Wilson 1927, 95 %), and what always answering one class would reach."""
    n, p, z = evaluation["samples"], evaluation["top1"], 1.96
    middle, reach = p + z**2 / (2 * n), z * ((p * (1 - p) + z**2 / (4 * n)) / n) ** 0.5
    return {
        "top1": p,
        "low": round((middle - reach) / (1 + z**2 / n), 4),
        "high": round((middle + reach) / (1 + z**2 / n), 4),
        "commonest_class": round(max(row["support"] for row in evaluation["classes"]) / n, 4),
    }


def exported(run: Path, checkpoint: Checkpoint, pixels: NDArray[np.uint8]) -> dict[str, Any]:
    """What export.py measured and how fast the graphs are here; ``left_out``, why, where the run was not exported.

    pixels: (n, height, width, 3) uint8, images to compute.
    """
    try:
        parity = checkpoints.read_result(run / export.FILE, "export", checkpoint)
    except CheckpointError as err:
        return {"left_out": str(err)}
    sizes = {path.name: path.stat().st_size for path in sorted(run.glob("*.onnx"))}
    return {"parity": parity, "sizes": sizes, "speed": speed.measure(run, pixels)}
