"""The receptive field: which pixels of the image an element of a feature map depends on.

A stage is copied with weights that are all positive, so that nothing cancels out. Where an input is zero but for one row,
exactly the rows of the output that depend on this one are not zero, whatever the stage is made of: paths side by side, strides,
pooling. The stages' answers, put one after the other, give the pixels; borders clip them by themselves.
"""

from collections.abc import Sequence
from copy import deepcopy
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Rows = NDArray[np.bool_]  # (rows of the feature map, rows of the image)
BATCH = 16
ENOUGH = 32  # elements across: what is along the other axis does not matter, if no kernel is longer


class Field(NamedTuple):
    """What each row and each column of a feature map sees of the image: (h, height) and (w, width) bool."""

    rows: Rows
    columns: Rows

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, in pixels, of what the element that sees most sees."""
        return int(np.ptp(_ends(self.rows), axis=1).max()), int(np.ptp(_ends(self.columns), axis=1).max())

    def box(self, row: int, column: int) -> tuple[int, int, int, int]:
        """top, bottom, left and right, in pixels, of what an element sees; bottom and right are just outside."""
        return *_ends(self.rows)[row], *_ends(self.columns)[column]


def fields(stages: Sequence[nn.Module], height: int, width: int) -> list[Field]:
    """Of each stage of a trunk, for images (3, height, width).

    Raises:
        ValueError: a stage gives something for nothing, so that what it gives for a row would prove nothing.
    """
    before = Field(np.eye(height, dtype=bool), np.eye(width, dtype=bool))
    channels, found = 3, list[Field]()
    for stage in stages:
        positive = made_positive(stage)
        with torch.inference_mode():
            nothing = positive(torch.zeros(1, channels, len(before.rows), len(before.columns)))
        if nothing.any():
            raise ValueError("a layer gives something else than 0 for 0")
        rows = _reached(positive, channels, len(before.rows), min(len(before.columns), ENOUGH), axis=2)
        columns = _reached(positive, channels, min(len(before.rows), ENOUGH), len(before.columns), axis=3)
        before, channels = Field(rows @ before.rows, columns @ before.columns), nothing.shape[1]
        found.append(before)
    return found


def made_positive(stage: nn.Module) -> nn.Module:
    """A copy on the CPU that adds up, with positive weights, what the stage looks at."""
    copy = deepcopy(stage).cpu().eval()
    with torch.no_grad():
        for name, value in copy.named_parameters():
            inputs = value[0].numel() if value.ndim > 1 else 1
            value.fill_(0 if name.endswith("bias") else 1 / inputs)
        for name, value in copy.named_buffers():
            value.fill_(1 if name.endswith("running_var") else 0)
    return copy


@torch.inference_mode()
def _reached(stage: nn.Module, channels: int, height: int, width: int, axis: int) -> Rows:
    """(out, in) bool along ``axis`` of (1, channels, height, width): does an output depend on an input?"""
    length = (height, width)[axis - 2]
    parts: list[Tensor] = []
    for begin in range(0, length, BATCH):
        ones = torch.zeros(min(BATCH, length - begin), channels, height, width)
        for i, one in enumerate(ones):
            one.select(axis - 1, begin + i).fill_(1)
        parts.append((stage(ones) != 0).any(dim=1).any(dim=4 - axis))  # (n, out)
    return torch.cat(parts).numpy().T


def _ends(seen: Rows) -> NDArray[np.int64]:
    """First pixel and the one after the last that each element sees, (n, 2); (0, 0) where it sees none."""
    first, last = seen.argmax(axis=1), seen.shape[1] - seen[:, ::-1].argmax(axis=1)
    return np.where(seen.any(axis=1, keepdims=True), np.stack([first, last], axis=1), 0)
