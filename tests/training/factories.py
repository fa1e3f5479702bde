"""Makers of what the training tests need: folders of coloured pictures, images in memory, recipes, runs."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from torch.nn.modules.module import register_module_forward_pre_hook

from models.image.spec import InputSpec
from tests.factories import make_image
from training.data import dataset
from training.data.dataset import ImageSet
from training.loop import checkpoint as checkpoints
from training.loop import train
from training.loop.checkpoint import Checkpoint
from training.loop.device import Device
from training.loop.state import begin
from training.networks.classifier import Classifier
from training.recipe import Recipe

COLOURS = ("blue", "green", "red")
SPEC = InputSpec(height=8, width=8, resize=8)
NO_DRAWINGS = {
    "curves": [],
    "reliability": {"before": "", "after": ""},
    "coverage": "",
    "novelty": "",
    "robustness": [],
}  # of a report
RECIPE: dict[str, Any] = {
    "architecture": "resnet10-small",
    "input": {"height": 8, "width": 8, "resize": 8},
    "epochs": 3,
    "batch_size": 6,
    "learning_rate": 0.05,
    "crop_padding": 1,
    "validation_share": 0.25,
    "precision": "fp32",
}

EVERYTHING: dict[str, Any] = {
    "input": {"height": 10, "width": 10, "resize": 12},
    "cutout": 2,
    "cutmix": 0.3,
    "mixup": 0.5,
    "trivial_augment": True,
    "erasing": 0.3,
    "scale": 0.4,
    "sizes": (8, 10),
    "balance": "sampler",
}


def make_recipe(**changes: Any) -> Recipe:
    return msgspec.convert(RECIPE | changes, Recipe)


def write_recipe(path: Path, **changes: Any) -> Path:
    path.write_bytes(msgspec.toml.encode(RECIPE | changes))
    return path


def make_folder(root: Path, classes: Sequence[str] = COLOURS, each: int = 8, seed: int = 0, side: int = 16) -> Path:
    """A folder of class folders; the name of a class is the colour that its pictures mostly have."""
    for c, name in enumerate(classes):
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(each):
            picture = make_image("PNG", side, side, seed=seed + 1000 * c + i, color=name)
            (root / name / f"{i:03d}.png").write_bytes(picture)
    return root


def make_images(counts: Sequence[int], seed: int = 0, height: int = 8, width: int = 8) -> ImageSet:
    """Noise, ``counts[c]`` images of each class c, in the order of the classes."""
    targets = np.repeat(np.arange(len(counts)), counts)
    pixels = np.random.default_rng(seed).integers(0, 256, (len(targets), height, width, 3)).astype(np.uint8)
    names = tuple(f"class-{c}" for c in range(len(counts)))
    return ImageSet(pixels, targets, names, tuple(f"{names[c]}/{i}.png" for i, c in enumerate(targets)), ())


def make_run(folder: Path, source: Path, **changes: Any) -> tuple[Checkpoint, Classifier]:
    """The checkpoint of an untrained network for the images of ``source``, saved in ``folder``."""
    recipe = make_recipe(**changes)
    training, validation = dataset.load_training(source, recipe.input, recipe.validation_share, recipe.seed)
    checkpoint, model = train.start(folder, source, recipe, training, validation)
    checkpoints.save(folder, checkpoint, model.state_dict(), begin(deepcopy(model), recipe, Device("cpu", None)).content())
    return checkpoint, model


@contextmanager
def interrupt_at(step: int) -> Generator[None]:
    """Ctrl-C at a step of training, counted from 1 over all epochs: the network is asked for it and never answers."""
    steps = 0

    def count(module: object, _: object) -> None:
        nonlocal steps
        if isinstance(module, Classifier) and module.training:
            steps += 1
            if steps == step:
                raise KeyboardInterrupt

    handle = register_module_forward_pre_hook(count)
    try:
        yield
    finally:
        handle.remove()


def timeless(checkpoint: Checkpoint) -> list[dict[str, float]]:
    """Its history, but for the figures that depend on the clock."""
    return [entry | {"seconds": 0, "images_per_second": 0} for entry in checkpoint.history]


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
