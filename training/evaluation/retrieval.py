"""What features are worth for finding images again: of each, are the nearest others of its class?"""

import numpy as np
from numpy.typing import NDArray

from training.evaluation.novelty import unit

MAX_IMAGES = 5000  # that are compared with one another, evenly out of all
AT_ONCE = 256


def retrieval(features: NDArray[np.float32], targets: NDArray[np.int64]) -> dict[str, float]:
    """Of features (n, d), by their cosine, each image asked for among all others: the share whose nearest is of its class, and
    the mean average precision (Manning et al. 2008, Introduction to Information Retrieval, section 8.4). Images that are alone in
    their class are not asked for; nothing where that is all of them."""
    chosen = np.arange(0, len(targets), -(-len(targets) // MAX_IMAGES) or 1)
    vectors, labels = unit(features[chosen]).astype(np.float32), targets[chosen]
    first, precision = list[bool](), list[float]()
    for begin in range(0, len(labels), AT_ONCE):
        rows = np.arange(begin, min(begin + AT_ONCE, len(labels)))
        alike = vectors[rows] @ vectors.T
        alike[np.arange(len(rows)), rows] = -np.inf
        order = np.argsort(-alike, axis=1, kind="stable")[:, :-1]
        right = labels[order] == labels[rows, None]
        right = right[right.any(axis=1)]
        precisions = right.cumsum(axis=1) / np.arange(1, len(labels))
        first += right[:, 0].tolist()
        precision += ((precisions * right).sum(axis=1) / right.sum(axis=1)).tolist()
    if not first:
        return {}
    return {"recall_at_1": round(float(np.mean(first)), 4), "mean_average_precision": round(float(np.mean(precision)), 4)}
