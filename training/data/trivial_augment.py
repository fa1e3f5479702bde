"""TrivialAugment (Müller and Hutter 2021, arXiv 2103.10158): one random operation of random strength on each image.

The operations and strengths are those of its wide space. Unlike there, what comes into sight from beyond the edges is the image
mirrored, not black.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as colours

from training.data.geometry import Pixels, warp

BINS = 31  # strengths, evenly from none to the largest
SHEAR, TRANSLATION, ROTATION, CHANGE = 0.99, 32, 135, 0.99  # the largest: slope, pixels, degrees, share

Operation = Callable[[Pixels, float, int], Pixels]  # of one image, by a strength between 0 and 1 and a sign


def augment(pixels: Pixels, generator: torch.Generator, finer: float = 1.0) -> Pixels:
    """(n, height, width, 3) uint8 -> the same, each image changed by one operation. Images with ``finer`` times as many pixels
    along each side are moved by as many times the pixels."""
    n = len(pixels)
    operations = torch.randint(len(OPERATIONS), (n,), generator=generator).tolist()
    strengths = torch.randint(BINS, (n,), generator=generator).tolist()
    signs = (1 - 2 * torch.randint(2, (n,), generator=generator)).tolist()
    changed = np.empty_like(pixels)
    for i, (drawn, strength, sign) in enumerate(zip(operations, strengths, signs, strict=True)):
        operation = OPERATIONS[drawn]
        times = finer if operation in (translate_x, translate_y) else 1  # the others know no pixels
        changed[i] = operation(pixels[i], times * strength / (BINS - 1), sign)
    return changed


def identity(image: Pixels, strength: float, sign: int) -> Pixels:
    return image


def shear_x(image: Pixels, strength: float, sign: int) -> Pixels:
    return warp(image, (1, sign * SHEAR * strength, 0), (0, 1, 0))


def shear_y(image: Pixels, strength: float, sign: int) -> Pixels:
    return warp(image, (1, 0, 0), (sign * SHEAR * strength, 1, 0))


def translate_x(image: Pixels, strength: float, sign: int) -> Pixels:
    return warp(image, (1, 0, -sign * int(TRANSLATION * strength)), (0, 1, 0))


def translate_y(image: Pixels, strength: float, sign: int) -> Pixels:
    return warp(image, (1, 0, 0), (0, 1, -sign * int(TRANSLATION * strength)))


def rotate(image: Pixels, strength: float, sign: int) -> Pixels:
    angle = math.radians(sign * ROTATION * strength)
    cos, sin = math.cos(angle), math.sin(angle)
    y, x = image.shape[0] / 2, image.shape[1] / 2  # the centre stays where it is
    return warp(image, (cos, -sin, x - cos * x + sin * y), (sin, cos, y - sin * x - cos * y))


def solarize(image: Pixels, strength: float, sign: int) -> Pixels:
    bright = image >= math.ceil(255 * (1 - strength))
    return image ^ bright * np.uint8(255)  # 255 - value is all bits turned over; much faster than torch's and numpy's where


def photometric(change: Callable[[Tensor, float], Tensor]) -> Operation:
    """One of torchvision's operations on (3, height, width) uint8, given its strength with the sign."""

    def operation(image: Pixels, strength: float, sign: int) -> Pixels:
        planes = torch.from_numpy(image).permute(2, 0, 1).contiguous()  # some are 8 times as slow on a permuted view
        return change(planes, sign * strength).permute(1, 2, 0).numpy()

    return operation


OPERATIONS: tuple[Operation, ...] = (
    identity,
    shear_x,
    shear_y,
    translate_x,
    translate_y,
    rotate,
    photometric(lambda image, strength: colours.adjust_brightness(image, 1 + CHANGE * strength)),
    photometric(lambda image, strength: colours.adjust_saturation(image, 1 + CHANGE * strength)),
    photometric(lambda image, strength: colours.adjust_contrast(image, 1 + CHANGE * strength)),
    photometric(lambda image, strength: colours.adjust_sharpness(image, 1 + CHANGE * strength)),
    photometric(lambda image, strength: colours.posterize(image, 8 - round(6 * abs(strength)))),
    solarize,
    photometric(lambda image, _: colours.autocontrast(image)),
    photometric(lambda image, _: colours.equalize(image)),
)
