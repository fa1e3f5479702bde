"""Histograms of oriented gradients: what described images before networks learnt to (Dalal and Triggs 2005,
doi 10.1109/CVPR.2005.177), as a trunk without parameters, so that it is trained, exported and served as they are."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.networks.classifier import Classifier

ORIENTATIONS = 9  # of 20 degrees each, without sign
CELL = 4  # pixels; the paper's 8 would leave 3 cells of 28 pixels, 4 leave 7 of 28 and 8 of 32
BLOCK = 2  # cells
CLIP = 0.2
EPSILON = 1e-5
MARGIN = 1 + 1e-4  # lengths that differ by rounding alone count as equal


class Hog(nn.Module):
    """(n, 3, h, w) -> (n, 2 * 2 * 9, h / 4 - 1, w / 4 - 1) in steps of a cell: 2x2 cells of 9 orientations, normalised
    by L2-Hys. The channels are the values of a block in the order of skimage.feature.hog, which computes the same.

    Everything is done in float32, in halves the small gradients would vanish.
    """

    def forward(self, images: Tensor) -> Tensor:
        down, right = strongest(*gradients(images.float()))
        cells = functional.avg_pool2d(votes(down, right), CELL)
        rows, columns = cells.shape[2] - BLOCK + 1, cells.shape[3] - BLOCK + 1
        offsets = [(i, j) for i in range(BLOCK) for j in range(BLOCK)]
        blocks = torch.cat([cells[:, :, i : i + rows, j : j + columns] for i, j in offsets], 1)
        return to_unit_length(to_unit_length(blocks).clamp(max=CLIP)).to(images.dtype)


def gradients(images: Tensor) -> tuple[Tensor, Tensor]:
    """Differences of the two neighbours, down and to the right; 0 at the edges."""
    down = functional.pad(images[:, :, 2:] - images[:, :, :-2], (0, 0, 1, 1))
    right = functional.pad(images[:, :, :, 2:] - images[:, :, :, :-2], (1, 1))
    return down, right


def strongest(down: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Of each pixel the gradient of the channel where it is longest, (n, 1, h, w); of equal ones the first."""
    squares = square_sum(down, right)
    longest, y, x = squares[:, :1], down[:, :1], right[:, :1]
    for c in range(1, squares.shape[1]):
        longer = squares[:, c : c + 1] > MARGIN * longest
        longest = torch.where(longer, squares[:, c : c + 1], longest)
        y, x = torch.where(longer, down[:, c : c + 1], y), torch.where(longer, right[:, c : c + 1], x)
    return y, x


def square_sum(x: Tensor, y: Tensor) -> Tensor:
    return x * x - y * -y  # no addition, which an int8 graph would round


def votes(down: Tensor, right: Tensor) -> Tensor:
    """The length of each gradient (n, 1, h, w) in the channel of its orientation, (n, 9, h, w).

    A gradient is turned into the upper half plane; its orientation is then the number of borders between orientations
    that it lies on or beyond. That takes no angle, which would be rounded differently elsewhere.
    """
    length = square_sum(down, right).sqrt()
    turned = (down < 0) | ((down == 0) & (right < 0))
    y, x = torch.where(turned, -down, down), torch.where(turned, -right, right)
    angles = [math.pi * i / ORIENTATIONS for i in range(1, ORIENTATIONS)]
    cosines, sines = (torch.tensor([f(a) for a in angles], device=y.device).reshape(-1, 1, 1) for f in (math.cos, math.sin))
    passed = (y * cosines >= x * sines).float()
    at_least = functional.pad(passed, (0, 0, 0, 0, 1, 0), value=1.0)
    beyond = functional.pad(passed, (0, 0, 0, 0, 0, 1))
    return length * (at_least - beyond)


def to_unit_length(blocks: Tensor) -> Tensor:
    """A block of zeros stays one. skimage adds EPSILON squared under the root instead, which an export would drop as nothing."""
    return blocks / (blocks * blocks).sum(1, keepdim=True).sqrt().clamp(min=EPSILON)


def hog(side: int, classes: int) -> Classifier:
    """The descriptor of images of side x side pixels and a linear classifier on it: 1,296 features of 28 pixels, 1,764 of
    32. No stages."""
    blocks = side // CELL - BLOCK + 1
    features = BLOCK * BLOCK * ORIENTATIONS * blocks * blocks
    return Classifier(nn.Sequential(Hog()), nn.Flatten(), nn.Linear(features, classes))
