"""Hiding a part of each image, so that no single part decides."""

import torch

from training.data import geometry
from training.data.geometry import Pixels

GREY = 127
AREA = (0.02, 0.4)  # least and largest share of an image that is erased, and
RATIO = 1 / 0.3  # how much longer than the other a side may be: the ranges of Zhong et al.


def cutout(pixels: Pixels, side: int, generator: torch.Generator) -> Pixels:
    """Each image (of n) with a square of ``side`` pixels painted mid-grey, which may reach over the edge
    (DeVries and Taylor 2017, arXiv 1708.04552)."""
    if not side:
        return pixels
    n, height, width, _ = pixels.shape
    top = torch.randint(1 - side, height, (n,), generator=generator).tolist()
    left = torch.randint(1 - side, width, (n,), generator=generator).tolist()
    painted = pixels.copy()
    for image, row, column in zip(painted, top, left, strict=True):
        image[max(row, 0) : row + side, max(column, 0) : column + side] = GREY
    return painted


def erase(pixels: Pixels, share: float, generator: torch.Generator) -> Pixels:
    """``share`` of the images (of n) with a random box filled with noise (Zhong et al. 2017, arXiv 1708.04896)."""
    if not share:
        return pixels
    n, height, width, _ = pixels.shape
    chosen = torch.rand(n, generator=generator) < share
    areas = AREA[0] + (AREA[1] - AREA[0]) * torch.rand(n, generator=generator)
    boxes = geometry.boxes(areas, RATIO, height, width, generator)
    erased = pixels.copy()
    for i in chosen.nonzero()[:, 0].tolist():
        top, left, bottom, right = map(int, boxes[i])
        noise = torch.randint(256, (bottom - top, right - left, 3), dtype=torch.uint8, generator=generator)
        erased[i, top:bottom, left:right] = noise.numpy()
    return erased
