"""Images in memory -> an epoch of shuffled, augmented batches. The generator alone decides all of it."""

from collections.abc import Iterator

import torch
from torch import Tensor

from training.data import balance, crop, erasing, geometry, mixup, progressive_resizing, trivial_augment
from training.data.dataset import ImageSet
from training.data.geometry import Pixels
from training.recipe import Recipe


def batches(images: ImageSet, recipe: Recipe, epoch: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Batches of an epoch (0 is the first), as ``recipe`` wants them: pixels (n, height, width, 3) uint8, the shares
    (n, classes) float32 that each class has in an image, which sum to 1, and the targets (n,) int64.

    The last batch is dropped when it is smaller than others. ``images`` are as crop.py's ``load`` gives them.
    """
    order = balance.draw(images.targets, recipe.balance, generator)
    for start in range(0, max(len(order) - recipe.batch_size + 1, 1), recipe.batch_size):
        index = order[start : start + recipe.batch_size]
        targets = torch.from_numpy(images.targets[index])
        pixels = augment(images.pixels[index], recipe, epoch, generator)
        pixels, shares = mixup.mix(pixels, targets, len(images.classes), recipe.cutmix, recipe.mixup, generator)
        yield torch.from_numpy(pixels), shares, targets


def augment(pixels: Pixels, recipe: Recipe, epoch: int, generator: torch.Generator) -> Pixels:
    """(n, height, width, 3) uint8 -> the same at the size of the epoch, each image changed for itself.

    The recipe's lengths are pixels of the input; they shrink with the size.
    """
    height, width = progressive_resizing.at(recipe.input, recipe.sizes, epoch, recipe.epochs)
    full = recipe.input.height
    pixels = crop.cut(pixels, height, width, recipe.scale, recipe.input.interpolation, generator)
    pixels = geometry.shift(pixels, recipe.crop_padding * height // full, recipe.flip, generator)
    if recipe.trivial_augment:
        pixels = trivial_augment.augment(pixels, generator)
    pixels = erasing.cutout(pixels, recipe.cutout * height // full, generator)
    return erasing.erase(pixels, recipe.erasing, generator)
