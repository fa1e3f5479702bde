"""The golden inputs of a package, and how far a graph is from the answers that it promises."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.data.pixels import Array

IMAGES = 4


def made(height: int, width: int, n: int = IMAGES) -> Array:
    """Smooth random colour fields, (n, height, width, 3) uint8: made, not taken, so that a package passes on nobody's
    pictures. They only have to make every layer work; two runtimes that agree on them compute the same."""
    random = np.random.default_rng(1962)  # Hubel and Wiesel's paper on the cat's visual cortex
    fields = random.integers(0, 256, (n, 6, 6, 3)).astype(np.uint8)
    return np.stack([np.asarray(Image.fromarray(f).resize((width, height), Image.Resampling.BICUBIC)) for f in fields])


def difference(found: NDArray[np.float32], promised: NDArray[np.float32]) -> float:
    """Largest of a logit, relative to the largest logit that was promised, or to 1 where that is smaller."""
    return float(np.abs(found - promised).max() / max(1.0, float(np.abs(promised).max())))
