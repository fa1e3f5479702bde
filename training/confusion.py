"""Which classes are taken for which: the confusion matrix and what follows from it for each class.

A matrix here is (classes, classes) int64: row the label that an image has, column the answer it got.
Neighbours: evaluate.py counts, report/ shows.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.int64]


def confusion_matrix(targets: NDArray[np.int64], answers: NDArray[np.int64], classes: int) -> Matrix:
    """targets and answers: (n,) indices of classes."""
    return np.bincount(targets * classes + answers, minlength=classes**2).reshape(classes, classes)


def figures(matrix: Matrix, names: Sequence[str]) -> list[dict[str, Any]]:
    """Precision, recall, F1 and support (images of the class) of each class.

    None where it is undefined: precision of a class that was never the answer, recall of one without images.
    """
    right, support, answered = matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)
    return [
        {
            "label": name,
            "precision": _share(right[c], answered[c]),
            "recall": _share(right[c], support[c]),
            "f1": _share(2 * right[c], support[c] + answered[c]),
            "support": int(support[c]),
        }
        for c, name in enumerate(names)
    ]


def macro_f1(matrix: Matrix) -> float:
    """Mean F1 of the classes that have images, whatever their number."""
    right, support, answered = matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)
    there = support > 0
    return round(float((2 * right[there] / (support + answered)[there]).mean()), 4)


def most_confused(matrix: Matrix, names: Sequence[str], most: int) -> list[dict[str, Any]]:
    """The ``most`` commonest errors, commonest first: label, answer, count, and their share of the label's images."""
    errors = matrix * ~np.eye(len(matrix), dtype=bool)
    order = np.argsort(-errors, axis=None, kind="stable")[:most]
    pairs = [(int(i) // len(matrix), int(i) % len(matrix)) for i in order]
    return [
        {"label": names[c], "answer": names[a], "count": int(errors[c, a]), "share": _share(errors[c, a], matrix[c].sum())}
        for c, a in pairs
        if errors[c, a]
    ]


def _share(part: np.int64, whole: np.int64) -> float | None:
    return round(float(part / whole), 4) if whole else None
