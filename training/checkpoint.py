"""A checkpoint: weights (`weights-EPOCH.pt`) and a sidecar (`checkpoint.json`) that alone rebuilds the network.

The sidecar names its weights file and is replaced last, by one rename, so a stop at any moment leaves a whole
checkpoint behind. Neighbours: train.py writes, evaluate.py, export.py and package.py read.
"""

import json
import os
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal

import msgspec
import torch
from msgspec import Struct

from training.architectures import catalogue
from training.architectures.classifier import Classifier
from training.errors import CheckpointError
from training.recipe import Recipe

SIDECAR = "checkpoint.json"


class Checkpoint(Struct, forbid_unknown_fields=True):
    """What the sidecar holds. mean and std: one value a channel, on the 0 to 255 scale."""

    recipe: Recipe
    classes: tuple[str, ...]
    mean: list[float]
    std: list[float]
    schema: Literal[1] = 1
    epoch: int = 0  # epochs completed
    seconds: float = 0.0  # spent in the epochs completed
    history: list[dict[str, float]] = []
    data: dict[str, Any] = {}  # folder, counts, SHA-256, files left out
    provenance: dict[str, Any] = {}
    weights: str = ""  # file name

    def build(self) -> Classifier:
        return catalogue.build(self.recipe.architecture, len(self.classes))

    def answering(self, model: Classifier) -> Classifier:
        """The network as it is evaluated, exported and served: ``model``, or its mirrored form."""
        return model.mirrored() if self.recipe.mirror else model


def save(folder: Path, checkpoint: Checkpoint, model: Classifier, optimizer: torch.optim.Optimizer) -> None:
    """Write weights, then the sidecar that names them, then remove the weights before."""
    folder.mkdir(parents=True, exist_ok=True)
    before = checkpoint.weights
    checkpoint.weights = f"weights-{checkpoint.epoch:04d}.pt"
    with open(folder / checkpoint.weights, "wb") as file:
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
        file.flush()
        os.fsync(file.fileno())
    beside = folder / f".{SIDECAR}.new"
    beside.write_bytes(msgspec.json.format(msgspec.json.encode(checkpoint), indent=1))
    beside.replace(folder / SIDECAR)
    if before and before != checkpoint.weights:
        (folder / before).unlink(missing_ok=True)


def load(folder: Path) -> tuple[Checkpoint, Classifier, dict[str, Any]]:
    """Sidecar, network with its weights (on the CPU), and optimizer state; raises CheckpointError."""
    path = folder / SIDECAR
    if not path.is_file():
        raise CheckpointError(f"no checkpoint in {folder}: {path} does not exist; train one with 'python -m training train'")
    try:
        checkpoint = msgspec.json.decode(path.read_bytes(), type=Checkpoint)
        state = torch.load(folder / checkpoint.weights, map_location="cpu", weights_only=True)
        model = checkpoint.build()
        model.load_state_dict(state["model"])
    except UnpicklingError as err:
        raise CheckpointError(f"the weights of {path} are damaged or hold more than tensors; nothing was loaded") from err
    except Exception as err:
        raise CheckpointError(f"the checkpoint {path} cannot be read: {' '.join(str(err).split())}") from err
    return checkpoint, model, state["optimizer"]


def read_result(path: Path, command: str, checkpoint: Checkpoint) -> dict[str, Any]:
    """What ``command`` wrote of this checkpoint into ``path``.

    Raises:
        CheckpointError: it wrote nothing, or of another epoch, or the file is damaged.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist: run 'python -m training {command}' first")
    try:
        result: dict[str, Any] = json.loads(path.read_bytes())
        epoch = result["epoch"]
    except (ValueError, KeyError, TypeError) as err:
        raise CheckpointError(f"{path} is damaged: run 'python -m training {command}' again") from err
    if epoch != checkpoint.epoch:
        raise CheckpointError(f"{path} is of another epoch than the checkpoint: run 'python -m training {command}' again")
    return result
