"""Images in memory -> an epoch of shuffled, augmented batches. The generator alone decides all of it."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.data import balance, crop, erasing, geometry, mixup, progressive_resizing
from training.data.dataset import ImageSet
from training.data.geometry import Pixels
from training.recipe import Recipe


def batches(
    images: ImageSet, recipe: Recipe, epoch: int, generator: torch.Generator, unlabelled: int = 0, finer: float = 1.0
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Batches of an epoch (0 is the first), as ``recipe`` wants them: pixels (n, height, width, 3) uint8, the shares
    (n, classes) float32 that each class has in an image, which sum to 1, and the targets (n,) int64.

    The last batch is dropped when it is smaller than others. ``images`` are as crop.py's ``load`` gives them; the last
    ``unlabelled`` of them have the target -1, and shares of 0. Sides and lengths are ``finer`` times those of the recipe.
    """
    order = _order(images, unlabelled, recipe, generator)
    for start in range(0, max(len(order) - recipe.batch_size + 1, 1), recipe.batch_size):
        index = order[start : start + recipe.batch_size]
        targets = torch.from_numpy(images.targets[index])
        pixels = augment(images.pixels[index], recipe, epoch, generator, finer)
        pixels, shares = mixup.mix(pixels, targets, len(images.classes), recipe.cutmix, recipe.mixup, generator)
        yield torch.from_numpy(pixels), shares, targets


def _order(images: ImageSet, unlabelled: int, recipe: Recipe, generator: torch.Generator) -> NDArray[np.int64]:
    """Indices of the images of an epoch; those that are unlabelled come once each, anywhere among the others."""
    labelled = len(images) - unlabelled
    order = balance.draw(images.targets[:labelled], recipe.balance, generator)
    if not unlabelled:
        return order
    return np.concatenate([order, np.arange(labelled, len(images))])[torch.randperm(len(images), generator=generator).numpy()]


def augment(pixels: Pixels, recipe: Recipe, epoch: int, generator: torch.Generator, finer: float = 1.0) -> Pixels:
    """(n, height, width, 3) uint8 -> the same at ``finer`` times the size of the epoch, each image changed for itself.

    The recipe's lengths are pixels of the input; they shrink and grow with the size.
    """
    sides = progressive_resizing.at(recipe.input, recipe.sizes, epoch, recipe.epochs)
    height, width = (round(finer * side) for side in sides)
    full = recipe.input.height
    pixels = crop.cut(pixels, height, width, recipe.scale, recipe.input.interpolation, generator)
    pixels = geometry.shift(pixels, recipe.crop_padding * height // full, recipe.flip, generator)
    if recipe.trivial_augment:
        from training.data import trivial_augment  # here, because it imports torchvision, which takes seconds

        pixels = trivial_augment.augment(pixels, generator, finer)
    pixels = erasing.cutout(pixels, recipe.cutout * height // full, generator)
    return erasing.erase(pixels, recipe.erasing, generator)
