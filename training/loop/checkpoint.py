"""A checkpoint: weights (`weights-EPOCH.pt`) and a sidecar (`checkpoint.json`) that alone rebuilds the network.

The sidecar names its weights file and is replaced last, by one rename, so a stop at any moment leaves a whole checkpoint
behind.
"""

import json
import re
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal

import msgspec
import torch
from msgspec import Struct
from torch import Tensor

from models import files
from models.terminal import program
from training.data.lineage import Past
from training.errors import CheckpointError
from training.networks import catalogue
from training.networks.classifier import Classifier
from training.recipe import Recipe

SIDECAR = "checkpoint.json"
WRITTEN = re.compile(r"weights-\d{4,}\.pt|\.(weights-\d{4,}|checkpoint)-\w{8}")  # the second: left by a process that was killed
Weights = dict[str, Tensor]  # by their names in the network


class Checkpoint(Struct, forbid_unknown_fields=True):
    """What the sidecar holds. mean and std: one value a channel, on the 0 to 255 scale."""

    recipe: Recipe
    classes: tuple[str, ...]
    mean: list[float]
    std: list[float]
    schema: Literal[1] = 1
    epoch: int = 0  # epochs completed
    kept_epoch: int = 0  # whose weights answer: the last, or with patience the best
    seconds: float = 0.0  # spent in the epochs completed
    history: list[dict[str, float]] = []
    data: dict[str, Any] = {}  # folder, counts, SHA-256, files left out
    provenance: dict[str, Any] = {}
    weights: str = ""  # file name
    held_out: bytes = b""  # identities of the validation images; none in checkpoints of an earlier version
    trained: bytes = b""  # and of what the weights have seen, in the runs before too

    @property
    def past(self) -> Past:
        return Past(self.trained, self.held_out)

    def build(self) -> Classifier:
        return catalogue.build(self.recipe.architecture, len(self.classes))

    def answering(self, model: Classifier) -> Classifier:
        """The network as it is evaluated, exported and served: ``model``, or its mirrored form."""
        return model.mirrored() if self.recipe.mirror else model


def save(folder: Path, checkpoint: Checkpoint, weights: Weights, training: dict[str, Any]) -> None:
    """Write weights, then the sidecar that names them, then remove the weights before.

    ``weights`` are those that answer. ``training`` is what a run needs to go on (state.py); tensors that are in both
    are written once.

    Raises:
        CheckpointError: it cannot be written; the checkpoint before stays as it is.
    """
    checkpoint.weights = f"weights-{checkpoint.epoch:04d}.pt"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files.write_atomic(folder / checkpoint.weights, partial(torch.save, {"model": weights, "training": training}))
        files.write_atomic(folder / SIDECAR, msgspec.json.format(msgspec.json.encode(checkpoint), indent=1))
    except (OSError, RuntimeError) as err:  # the second is torch's, of a file that takes no more
        raise CheckpointError(
            f"epoch {checkpoint.epoch} cannot be saved in {folder} ({' '.join(str(err).split())}): what was saved before is "
            "whole; make room and go on with --resume"
        ) from err
    for path in list(folder.iterdir()):
        if WRITTEN.fullmatch(path.name) and path.name != checkpoint.weights:
            path.unlink()


def is_of(folder: Path, recipe: Recipe) -> bool:
    """Whether ``folder`` holds a checkpoint of just this recipe."""
    try:
        return msgspec.json.decode((folder / SIDECAR).read_bytes(), type=Checkpoint).recipe == recipe
    except (OSError, msgspec.MsgspecError, ValueError):
        return False


def load(folder: Path) -> tuple[Checkpoint, Classifier, dict[str, Any]]:
    """Sidecar, network with the weights that answer (on the CPU), and what a run needs to go on; raises CheckpointError."""
    path = folder / SIDECAR
    if not path.is_file():
        first = program.command("train", "DATA", "--out", folder)
        raise CheckpointError(f"no checkpoint in {folder}: {path} does not exist; train one with '{first}'")
    try:
        checkpoint = msgspec.json.decode(path.read_bytes(), type=Checkpoint)
        state = torch.load(folder / checkpoint.weights, map_location="cpu", weights_only=True)
        model = checkpoint.build()
        model.load_state_dict(state["model"])
    except UnpicklingError as err:
        raise CheckpointError(f"the weights of {path} are damaged or hold more than tensors; nothing was loaded") from err
    except Exception as err:
        raise CheckpointError(f"the checkpoint {path} cannot be read: {' '.join(str(err).split())}") from err
    return checkpoint, model, state.get("training", state)  # files of old have no other weights than those that answer


def read_result(path: Path, command: str, checkpoint: Checkpoint) -> dict[str, Any]:
    """What ``command`` wrote of this checkpoint into ``path``.

    Raises:
        CheckpointError: it wrote nothing, or of another epoch, or the file is damaged.
    """
    again = program.command(command, path.parent, "DATA")
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist: run '{again}' first")
    try:
        result: dict[str, Any] = json.loads(path.read_bytes())
        epoch = result["epoch"]
    except (ValueError, KeyError, TypeError) as err:
        raise CheckpointError(f"{path} is damaged: run '{again}' again") from err
    if epoch != checkpoint.epoch:
        raise CheckpointError(f"{path} is of another epoch than the checkpoint: run '{again}' again")
    return result
