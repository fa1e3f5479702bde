"""Which classes are taken for which: the confusion matrix and what follows from it for each class.

A matrix has a row for the label that an image has and a column for the answer that it got. Of n images at most n of its cells
are not 0, so these are kept alone: of 20,000 classes it would have 400 million.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

WHOLE_UP_TO = 200  # classes, of which the matrix is written whole

Ints = NDArray[np.int64]


class Matrix(NamedTuple):
    """The cells of a confusion matrix that are not 0, by label and answer: label, answer and images, each (cells,)."""

    classes: int
    label: Ints
    answer: Ints
    images: Ints

    def right(self) -> Ints:
        """Images of each class that were answered so."""
        same = self.label == self.answer
        return self._summed(self.label[same], self.images[same])

    def support(self) -> Ints:
        """Images of each class."""
        return self._summed(self.label, self.images)

    def answered(self) -> Ints:
        """Images that got each class for an answer."""
        return self._summed(self.answer, self.images)

    def _summed(self, where: Ints, images: Ints) -> Ints:
        sums = np.zeros(self.classes, np.int64)
        np.add.at(sums, where, images)
        return sums


def confusion_matrix(targets: Ints, answers: Ints, classes: int) -> Matrix:
    """targets and answers: (n,) indices of classes."""
    cells, images = np.unique(targets * classes + answers, return_counts=True)
    return Matrix(classes, cells // classes, cells % classes, images)


def written(matrix: Matrix) -> list[list[int]] | dict[str, list[int]]:
    """As plain data: rows, or of more than WHOLE_UP_TO classes the columns ``label``, ``answer`` and ``count`` of the cells."""
    if matrix.classes > WHOLE_UP_TO:
        return {"label": matrix.label.tolist(), "answer": matrix.answer.tolist(), "count": matrix.images.tolist()}
    whole = np.zeros((matrix.classes, matrix.classes), np.int64)
    whole[matrix.label, matrix.answer] = matrix.images
    return whole.tolist()


def of(evaluation: Mapping[str, Any]) -> Matrix:
    """The matrix that ``written`` wrote into an evaluation."""
    found, classes = evaluation["confusion"], len(evaluation["classes"])
    if isinstance(found, Mapping):
        return Matrix(classes, *(np.array(found[key], np.int64) for key in ("label", "answer", "count")))
    whole = np.array(found, np.int64).reshape(classes, classes)
    label, answer = np.nonzero(whole)
    return Matrix(classes, label, answer, whole[label, answer])


def figures(matrix: Matrix, names: Sequence[str]) -> list[dict[str, Any]]:
    """Precision, recall, F1 and support (images of the class) of each class.

    None where it is undefined: precision of a class that was never the answer, recall of one without images.
    """
    right, support, answered = matrix.right(), matrix.support(), matrix.answered()
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
    right, support, answered = matrix.right(), matrix.support(), matrix.answered()
    there = support > 0
    return round(float((2 * right[there] / (support + answered)[there]).mean()), 4)


def most_confused(matrix: Matrix, names: Sequence[str], most: int) -> list[dict[str, Any]]:
    """The ``most`` commonest errors, commonest first: label, answer, count, and their share of the label's images."""
    errors, support = np.flatnonzero(matrix.label != matrix.answer), matrix.support()
    order = errors[np.argsort(-matrix.images[errors], kind="stable")[:most]]
    cells = [(int(matrix.label[i]), int(matrix.answer[i]), int(matrix.images[i])) for i in order]
    return [{"label": names[c], "answer": names[a], "count": n, "share": _share(n, support[c])} for c, a, n in cells]


def taken_for(matrix: Matrix, c: int) -> tuple[int, int]:
    """What images of the class ``c`` are most often taken for, and how many; the class itself and 0 where that is nothing."""
    errors = np.flatnonzero((matrix.label == c) & (matrix.answer != c))
    if not len(errors):
        return c, 0
    worst = errors[matrix.images[errors].argmax()]
    return int(matrix.answer[worst]), int(matrix.images[worst])


def _share(part: int, whole: int) -> float | None:
    return round(float(part / whole), 4) if whole else None
