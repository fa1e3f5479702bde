"""A short stand-in for each vector, from which one reads how alike two vectors can be at most.

Of a vector x it holds its coordinates B x along the few directions in which vectors differ most, and the length of what is
left of it. As what is left of two vectors has at most the product of the lengths for its dot product (Cauchy and Schwarz),
the dot product of two stand-ins is never below that of the vectors. So a search reads a tenth of the memory, and what it
leaves out cannot be among the nearest.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

LEADING = 128  # numbers of a stand-in
FROM_IMAGES = 4096  # fewer vectors are compared as they are
FROM_DIMENSIONS = 4 * LEADING  # and shorter ones
SAMPLE = 20_000  # vectors that the directions are chosen by


def pay_off(images: int, dimensions: int) -> bool:
    """Whether so many vectors are searched faster with them."""
    return images >= FROM_IMAGES and dimensions >= FROM_DIMENSIONS


def basis_of(vectors: Floats) -> Doubles:
    """The directions of greatest variance about 0 of vectors (n, d), as orthonormal rows (LEADING - 1, d)."""
    sample = np.asarray(vectors[:: -(-len(vectors) // SAMPLE)])
    _, directions = np.linalg.eigh((sample.T @ sample).astype(np.float64))  # ascending
    return np.ascontiguousarray(directions[:, :-LEADING:-1].T)


def stand_in(vectors: Floats | Doubles, basis: Doubles) -> Floats:
    """(n, d), (LEADING - 1, d) -> (n, LEADING). In double precision: the root would make much of a rounding error."""
    exact = vectors.astype(np.float64)
    along = exact @ basis.T
    rest = np.sqrt(np.maximum((exact * exact).sum(1) - (along * along).sum(1), 0))
    return np.concatenate([along, rest[:, None]], 1).astype(np.float32)
