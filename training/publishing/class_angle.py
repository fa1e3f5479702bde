"""How far an image points away from every class of a network: a distance for novelty where there are no training images.

The features less their mean, and what the head looks for in each class, less what it looks for in all, are directions; of an
image of a known class one of the angles between them is small. Cosines come of the logits, so nothing is multiplied twice.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.evaluation.novelty import TINY, Floats
from training.publishing.novelty import Nodes


@dataclass(frozen=True)
class ClassAngle:
    """mean: of features (d,). shared: (d,), the mean weight. offsets, scales: (classes,), which make products of directions of
    logits."""

    mean: NDArray[np.float32]
    shared: NDArray[np.float32]
    offsets: NDArray[np.float32]
    scales: NDArray[np.float32]

    def distance(self, logits: Floats, features: Floats) -> Floats:
        """Of logits (n, classes) and features (n, d): (n,), 1 less the largest cosine, 0 to 2."""
        products = (logits + self.offsets - (features @ self.shared)[:, None]) * self.scales
        return 1 - products.max(1) / np.linalg.norm(features - self.mean, axis=1).clip(TINY)


def of_head(weight: NDArray[np.float32], bias: NDArray[np.float32], mean: NDArray[np.float32]) -> ClassAngle:
    """Of the head's weight (classes, d) and bias (classes,), with the mean of features (d,)."""
    exact = weight.astype(np.float64)
    shared = exact.mean(0)
    offsets = shared @ mean - exact @ mean - bias
    scales = 1 / np.linalg.norm(exact - shared, axis=1).clip(TINY)
    return ClassAngle(mean.astype(np.float32), *(array.astype(np.float32) for array in (shared, offsets, scales)))


def class_distance(nodes: Nodes, angle: ClassAngle) -> str:
    """(batch, 1): ClassAngle.distance of the graph's logits and features."""
    length = nodes.add("ReduceL2", nodes.add("Sub", "features", angle.mean), [1])
    shared = nodes.add("MatMul", "features", angle.shared[:, None])
    products = nodes.add("Mul", nodes.add("Sub", nodes.add("Add", "logits", angle.offsets), shared), angle.scales)
    largest = nodes.add("ReduceMax", products, [1])
    return nodes.add("Sub", np.array(1.0), nodes.add("Div", largest, nodes.add("Max", length, np.array(TINY))))
