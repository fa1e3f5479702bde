"""Where the pixels of an augmented image come from: shifted, mirrored, warped. Outside the image lies its mirror image."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]  # (n, height, width, 3), or (height, width, 3) of one image
Index = NDArray[np.int64]


def mirror(index: Index, length: int) -> Index:
    """Fold indices outside 0 to length - 1 back inside, however far they are, without repeating the edge."""
    if length == 1:
        return np.zeros_like(index)
    index = index % (2 * length - 2)
    return np.minimum(index, 2 * length - 2 - index)


def shift(pixels: Pixels, padding: int, flip: bool, generator: torch.Generator) -> Pixels:
    """Each image (of n) as it is or, with ``flip``, half of the time its mirror image, shifted by up to ``padding`` pixels."""
    n, height, width, _ = pixels.shape
    if not padding and not flip:
        return pixels
    rows = np.broadcast_to(np.arange(height), (n, height))
    columns = np.broadcast_to(np.arange(width), (n, width))
    if padding:
        by = torch.randint(-padding, padding + 1, (2, n, 1), generator=generator).numpy()
        rows, columns = mirror(rows + by[0], height), mirror(columns + by[1], width)
    if flip:
        mirrored = (torch.rand(n, 1, generator=generator) < 0.5).numpy()
        columns = np.where(mirrored, width - 1 - columns, columns)
    shifted = np.empty_like(pixels)
    for image, row, column, out in zip(pixels, rows, columns, shifted, strict=True):
        np.take(image.take(row, 0), column, 1, out=out, mode="clip")  # rows, then columns: 3 to 5 times as fast as both at once
    return shifted


def warp(image: Pixels, across: Sequence[float], down: Sequence[float]) -> Pixels:
    """An affine image of one image, of the same size, by nearest neighbours.

    The pixel with its centre at (x, y) shows what lies at (across . (x, y, 1), down . (x, y, 1)); (0, 0) is the upper
    left corner.
    """
    height, width, _ = image.shape
    x, y = np.arange(width) + 0.5, np.arange(height)[:, None] + 0.5
    column = np.floor(across[0] * x + (across[1] * y + across[2])).astype(np.int64)
    row = np.floor(down[0] * x + (down[1] * y + down[2])).astype(np.int64)
    return image.reshape(-1, 3).take(_fold(row, height) * width + _fold(column, width), 0)


def _fold(index: Index, length: int) -> Index:
    """``mirror`` of many indices, by a table of those that occur."""
    first, last = int(index.min()), int(index.max())
    return mirror(np.arange(first, last + 1), length).take(index - first)


def boxes(areas: torch.Tensor, ratio: float, height: int, width: int, generator: torch.Generator) -> Index:
    """A box anywhere in an image for each of ``areas`` (n,), shares of the image's above 0: (n, 4) top, left, bottom, right.

    How much wider it is than the image, relative to its height, is drawn between 1 / ratio and ratio, as far as the box
    then fits, on a logarithmic scale. No side is below 1 pixel.
    """
    widest = (1 / areas).clamp(max=ratio).log()
    stretch = ((2 * torch.rand(len(areas), generator=generator) - 1) * widest).exp()
    sides = torch.stack([(areas / stretch).sqrt() * height, (areas * stretch).sqrt() * width], 1)
    full = torch.tensor([height, width])
    sides = sides.round().long().clamp(min=torch.ones(2, dtype=torch.int64), max=full)
    corner = (torch.rand(len(areas), 2, dtype=torch.float64, generator=generator) * (full - sides + 1)).long()
    return torch.cat([corner, corner + sides], 1).numpy()
