"""Images of a batch mixed with one another, and their targets as much."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from training.data.geometry import Pixels

LEVELS = 256  # images are mixed in steps of 1 / LEVELS, in 16-bit whole numbers


def mix(
    pixels: Pixels, targets: Tensor, classes: int, cutmix: float, mixup: float, generator: torch.Generator
) -> tuple[Pixels, Tensor]:
    """Mix each image (of n) with the one before it: by CutMix a share of ``cutmix``, by mixup of alpha ``mixup`` the others.

    targets: (n,) int64, -1 of no class, of which no class has a share. Back come the images and the share (n, classes) float32 of
    each class in them. Neither is done when it is 0.
    """
    n = len(pixels)
    shares = functional.one_hot(targets.clamp(min=0), classes).float() * (targets >= 0)[:, None]
    if not cutmix and not mixup:
        return pixels, shares
    mixed, foreign = pixels.copy(), torch.zeros(n)
    pasted = torch.zeros(n, dtype=torch.bool)
    if cutmix:
        pasted, foreign = _paste(pixels, mixed, cutmix, generator)
    if mixup:
        others = (~pasted).nonzero()[:, 0]
        foreign[others] = _blend(pixels, mixed, others.numpy(), mixup, generator)
    return mixed, shares * (1 - foreign[:, None]) + shares.roll(1, 0) * foreign[:, None]


def _paste(pixels: Pixels, mixed: Pixels, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """CutMix (Yun et al. 2019, arXiv 1905.04899, with alpha 1): a box of the image before is pasted into ``share`` of the
    images. Which were chosen, (n,) bool, and the share of their area that was pasted, (n,) float32."""
    n, height, width, _ = pixels.shape
    drawn, chosen = torch.rand(n, 1, generator=generator), torch.rand(n, 1, generator=generator) < share
    side = (drawn * chosen).sqrt()
    centre = torch.rand(2, n, 1, generator=generator)
    spans: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    for c, length in zip(centre, (height, width), strict=True):
        place = torch.arange(length)
        inside = ((place >= (c - side / 2) * length) & (place < (c + side / 2) * length)).numpy()
        first = inside.argmax(1)
        spans.append((first, first + inside.sum(1)))
    (top, bottom), (left, right) = spans
    for i in range(n):
        box = slice(top[i], bottom[i]), slice(left[i], right[i])
        mixed[i][box] = pixels[i - 1][box]
    area = torch.from_numpy((bottom - top) * (right - left)).float() / (height * width)
    return chosen[:, 0], area


def _blend(pixels: Pixels, mixed: Pixels, index: NDArray[np.int64], alpha: float, generator: torch.Generator) -> Tensor:
    """mixup (Zhang et al. 2017, arXiv 1710.09412): the images of ``index`` become weighted means of themselves and the one
    before. The other's weights, (len(index),) float32: at most 1/2, as two images that change places make the same mixture.
    """
    seed = int(torch.randint(2**62, (), generator=generator))  # torch draws from no beta distribution with a generator
    drawn = np.random.default_rng(seed).beta(alpha, alpha, len(index))
    levels = np.rint(np.minimum(drawn, 1 - drawn) * LEVELS).astype(np.uint16)
    for i, level in zip(index, levels, strict=True):
        if level:
            own = pixels[i] * (LEVELS - level)
            mixed[i] = (own + pixels[i - 1] * level + np.uint16(LEVELS // 2)) // LEVELS
    return torch.from_numpy(levels.astype(np.float32) / LEVELS)
