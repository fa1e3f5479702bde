"""Random resized crops (Szegedy et al. 2014, arXiv 1409.4842): a part of an image, of any size, stretched to the input."""

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from models.image.spec import InputSpec, Interpolation
from training.data import dataset, geometry
from training.data.dataset import ImageSet
from training.data.geometry import Pixels
from training.data.lineage import Past, past_of
from training.errors import DataError
from training.recipe import Recipe

RATIO = 4 / 3  # a crop is at most so much wider, or higher, than the input
MODES = {"nearest": "nearest-exact", "bilinear": "bilinear", "bicubic": "bicubic", "lanczos": "bicubic"}  # torch has no lanczos


def load(source: str | Path, recipe: Recipe, past: Past | None = None, finer: float = 1.0) -> tuple[ImageSet, ImageSet]:
    """Training and validation images, as data.load_training gives them; the training images larger when crops are to be
    cut out of them, or when they are wanted ``finer`` times as large.

    Raises:
        DataError: see there; and an image that can be decoded in one of the two sizes alone.
    """
    training, validation = dataset.load_training(source, recipe.input, recipe.validation_share, recipe.seed, past)
    spec = held(recipe, finer)
    if spec == recipe.input:
        return training, validation
    known, classes, chosen = training.paths, training.classes, past_of(training.identities, validation.identities)
    del training  # before the larger ones come
    training, _ = dataset.load_run(source, spec, classes, chosen)
    if training.paths != known:
        odd = sorted(set(training.paths) ^ set(known))
        raise DataError(f"{', '.join(odd) or source} changed, or is damaged, while {source} was read; try again, or remove it")
    return training, validation


def held(recipe: Recipe, finer: float = 1.0) -> InputSpec:
    """In which size images to train on are held, to be augmented at ``finer`` times the size of the recipe."""
    spec = recipe.input if finer == 1 else enlarged(recipe.input, finer)
    if recipe.scale == 1 or recipe.fit == "linear":  # which augments nothing
        return spec
    return wider(spec, recipe.scale)


def enlarged(spec: InputSpec, finer: float) -> InputSpec:
    """The same part of an image in ``finer`` times as many pixels along each side."""
    height, width, side = (round(finer * length) for length in (spec.height, spec.width, spec.resize))
    return InputSpec(height, width, max(side, height, width), spec.interpolation)


def wider(spec: InputSpec, scale: float) -> InputSpec:
    """What is kept of an image to cut crops of at least ``scale`` of its area out of: the largest part that has the shape of
    the input, in so many pixels that the smallest crop need not be enlarged: 1 / scale of those of the input."""
    height, width = (math.ceil(length / math.sqrt(scale)) for length in (spec.height, spec.width))
    return InputSpec(height, width, max(height, width), spec.interpolation)


def cut(
    pixels: Pixels, height: int, width: int, scale: float, interpolation: Interpolation, generator: torch.Generator
) -> Pixels:
    """Images (n, any height, any width, 3) -> (n, height, width, 3), antialiased: whole when ``scale`` is 1, else a part of
    each, whose share of the area is drawn evenly between ``scale`` and 1."""
    n, full_height, full_width, _ = pixels.shape
    if scale == 1:
        return resize(pixels, height, width, interpolation)
    areas = scale + (1 - scale) * torch.rand(n, generator=generator)
    boxes = geometry.boxes(areas, RATIO, full_height, full_width, generator)
    parts = np.empty((n, height, width, 3), np.uint8)
    for i, (top, left, bottom, right) in enumerate(boxes):
        parts[i] = resize(pixels[i : i + 1, top:bottom, left:right], height, width, interpolation)[0]
    return parts


def resize(pixels: Pixels, height: int, width: int, interpolation: Interpolation) -> Pixels:
    """Images (n, any height, any width, 3) -> (n, height, width, 3), antialiased; of that size they stay as they are.

    torch's resampling of uint8 differs from Pillow's by a level here and there, and is 7 times as fast."""
    if pixels.shape[1:3] == (height, width):
        return pixels
    images: Tensor = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    smooth = interpolation != "nearest"
    resized = functional.interpolate(images, (height, width), mode=MODES[interpolation], antialias=smooth)
    return resized.permute(0, 2, 3, 1).numpy()
