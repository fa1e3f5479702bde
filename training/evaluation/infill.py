"""Pixels taken out of an image and filled from those around them, so that a network is not shown holes, whose outline would tell
what was there.

Each pixel that is taken out becomes the mean of its eight neighbours, those beside it weighing twice as much as those across,
which is one linear equation for each; then a little noise (Rong et al. 2022, arXiv 2202.00449, section 4.2).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.linalg import SuperLU, splu

NEIGHBOURS = [(dy, dx, 1 / 6 if 0 in (dy, dx) else 1 / 12) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)]
NOISE = 2.5  # of 255, standard deviation
Mask = NDArray[np.bool_]


class Infill:
    """taken: (height, width), the pixels that are taken out; not all of them. It can be used for several images."""

    def __init__(self, taken: Mask) -> None:
        self.taken = taken
        self.rows, self.columns = (places + 1 for places in np.nonzero(taken))  # in a frame of one pixel
        self.factors = self._factors()

    def _factors(self) -> SuperLU:
        n = len(self.rows)
        numbers = _framed(np.where(self.taken, self.taken.cumsum().reshape(self.taken.shape) - 1, -1), -1)
        inside = _framed(np.ones(self.taken.shape), 0.0)
        entries, total = [], np.zeros(n)
        for dy, dx, weight in NEIGHBOURS:
            others = numbers[self.rows + dy, self.columns + dx]
            (found,) = np.nonzero(others >= 0)
            entries.append((np.full(len(found), -weight), found, others[found]))
            total += weight * inside[self.rows + dy, self.columns + dx]
        values, of, by = (np.concatenate(part) for part in zip((total, np.arange(n), np.arange(n)), *entries, strict=True))
        matrix = coo_matrix((values, (of, by)), shape=(n, n)).tocsc()
        return splu(matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})

    def fill(self, pixels: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
        """An image (height, width, 3) with other values where pixels were taken out."""
        kept = _framed(np.where(self.taken[..., None], 0.0, pixels), 0.0)
        known = sum(weight * kept[self.rows + dy, self.columns + dx] for dy, dx, weight in NEIGHBOURS)
        values = self.factors.solve(np.asarray(known))
        filled = pixels.copy()
        filled[self.taken] = (values + random.normal(0, NOISE, values.shape)).round().clip(0, 255).astype(np.uint8)
        return filled


def _framed(values: NDArray[Any], around: float) -> NDArray[Any]:
    """With a frame of one pixel around height and width."""
    edges = ((1, 1), (1, 1), *[(0, 0)] * (values.ndim - 2))
    return np.pad(values, edges, constant_values=around)
