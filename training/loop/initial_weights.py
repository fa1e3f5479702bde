"""Where the weights come from that a run begins with: another run, a package, or what others publish."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from models.errors import PackageError
from models.imagenet import package
from models.package import manifest as manifests
from models.registry import registry
from models.terminal import program
from training import recipe as recipes
from training.errors import CheckpointError
from training.loop import checkpoint as checkpoints
from training.loop.checkpoint import Checkpoint, Weights
from training.networks import download, pretrained
from training.networks.classifier import Classifier

HEADS = ("head.", "auxiliary.")
PACKAGE = re.compile(rf"{manifests.NAME}(:[0-9]+)?")


def find(reference: str, store: Path) -> Path:
    """The folder of a run, or of a package by its folder or as name:version in ``store``. A folder that is not there is
    given as it is, for loading to miss; imagenet is made where the store has none.

    Raises:
        CheckpointError: there is no such package.
        PackageError: the package does not verify.
    """
    folder = Path(reference)
    if not folder.exists() and PACKAGE.fullmatch(reference):
        try:
            folder = registry.resolve(package.store_of(reference, store), reference)
        except PackageError as err:
            raise CheckpointError(f"{reference} is no folder of a run, and as a package: {err}") from err
    if is_package(folder):
        registry.verify(folder)
    return folder


def check_weights(folder: Path) -> None:
    """Raises CheckpointError when it is of a package that was published without weights."""
    if is_package(folder) and not has_weights(folder):
        found = manifests.read(folder)
        again = program.command("publish", "RUN", "--name", found.name, "--with-weights")
        recipe = next(iter(recipes.of_architecture(found.architecture)), "")
        own = program.command("train", "DATA", "--recipe", recipe, "--out", "runs/NAME")
        without = f"; without it train your own {found.architecture}: '{own}'" if recipe else ""
        raise CheckpointError(
            f"the package {found.id} holds a graph to serve but no weights to train on, which a graph does not keep: where you "
            f"have its run, give that, or publish it again with '{again}'{without}; what its features are worth as they are says "
            f"'{program.command('probe', '--run', found.id, 'DATA')}'"
        )


def has_weights(folder: Path) -> bool:
    return (folder / checkpoints.SIDECAR).is_file()


def is_package(folder: Path) -> bool:
    return (folder / manifests.FILE).is_file()


def take_over(checkpoint: Checkpoint, model: Classifier, folder: Path) -> None:
    """Begin with weights and normalisation of the checkpoint in ``folder``, and note where they come from. The rows of its head
    stay for the classes that both know.

    Raises:
        CheckpointError: it holds none of this architecture.
    """
    before, trained, _ = checkpoints.load(folder)
    if before.recipe.architecture != checkpoint.recipe.architecture:
        raise CheckpointError(
            f"{folder} is a {before.recipe.architecture}, the recipe asks for a {checkpoint.recipe.architecture}; "
            "choose a recipe or a checkpoint of the same architecture"
        )
    weights = trained.state_dict()
    if before.classes != checkpoint.classes:
        weights |= dict(_heads(weights, model.state_dict(), before.classes, checkpoint.classes))
    model.load_state_dict(weights)
    checkpoint.mean, checkpoint.std = before.mean, before.std
    checkpoint.provenance["started_from"] = {
        "command": before.provenance["command"],
        "git_commit": before.provenance["git_commit"],
        "epochs": before.epoch,
        "training_seconds": round(before.seconds),
        "training_sha256": before.data["training_sha256"],
    }
    if is_package(folder):
        checkpoint.provenance["started_from"]["package"] = manifests.read(folder).id


def _heads(weights: Weights, fresh: Weights, old: tuple[str, ...], new: tuple[str, ...]) -> Iterator[tuple[str, Tensor]]:
    """Head and auxiliary heads for the classes ``new``: their layers of a row for each class take over the rows of those that
    ``old`` has; where there are none in common, all of them begin again."""
    common = [(i, old.index(name)) for i, name in enumerate(new) if name in old]
    for name, begun in fresh.items():
        if not name.startswith(HEADS):
            continue
        if not common:
            yield name, begun
        elif begun.ndim in (1, 2) and begun.shape[0] == len(new) and weights[name].shape == (len(old), *begun.shape[1:]):
            rows = begun.clone()
            rows[[i for i, _ in common]] = weights[name][[i for _, i in common]]
            yield name, rows


def take_published(checkpoint: Checkpoint, model: Classifier) -> None:
    """Begin with the weights that the recipe names, published ones or a file of the same form, but for the head.

    Raises:
        CheckpointError: see pretrained.
    """
    recipe = checkpoint.recipe
    path = pretrained.find(recipe.architecture, recipe.weights)
    model.load_state_dict(pretrained.read(recipe.architecture, path), strict=False)
    checkpoint.mean, checkpoint.std = pretrained.normalisation(recipe.architecture)
    checkpoint.provenance["started_from"] = {"weights": path.name, "weights_sha256": download.sha256(path)}


def told(before: dict[str, Any], weights: str) -> str:
    """What a run noted as ``started_from``, in words; ``weights`` is what its recipe names. Code stands between backticks."""
    if "weights" in before:
        return f"{pretrained.origin(weights)} `{before['weights']}` (SHA-256 {before.get('weights_sha256', 'unknown')[:16]})"
    package = f"the package {before['package']}, trained by " if "package" in before else ""
    known = {"epochs": "{} epochs", "training_seconds": "{} s", "git_commit": "commit {}"}
    facts = ", ".join(text.format(before[key]) for key, text in known.items() if key in before)
    return f"the weights of {package}`{before.get('command', 'an unknown command')}`" + (f" ({facts})" if facts else "")


def hints(checkpoint: Checkpoint, model: Classifier) -> Iterator[str]:
    """What is worth knowing of how the weights fit what is to be done with them."""
    recipe = checkpoint.recipe
    hint = pretrained.hint(recipe.architecture, recipe.weights, recipe.input)
    if hint and not recipes.is_shipped(recipe.weights, recipe.input):  # somebody chose the size
        yield hint
    keeps = recipe.freeze or recipe.fit == "linear"
    if keeps and "started_from" not in checkpoint.provenance and any(True for _ in model.trunk.parameters()):
        yield "what is frozen has random weights, which never learn; begin with others by --start-from or --weights"
