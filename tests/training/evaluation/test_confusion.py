"""training/evaluation/confusion.py: what is taken for what, counted by hand and as scikit-learn counts it."""

import json
from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from training.evaluation import confusion

sklearn: Any = metrics  # its types know no nan
NAMES = ("ant", "bee", "cat")
ROWS = [[3, 1, 0], [2, 0, 0], [0, 0, 0]]  # of cats there is no image
MATRIX = confusion.of({"confusion": ROWS, "classes": NAMES})


def test_rows_are_labels_and_columns_answers() -> None:
    targets, answers = np.array([0, 0, 0, 1, 2]), np.array([0, 2, 2, 1, 0])

    matrix = confusion.confusion_matrix(targets, answers, 4)

    assert confusion.written(matrix) == [[1, 0, 2, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]


def test_precision_recall_and_f1_are_those_found_by_hand() -> None:
    ant, bee, cat = confusion.figures(MATRIX, NAMES)

    assert ant == {"label": "ant", "precision": 0.6, "recall": 0.75, "f1": pytest.approx(2 / 3, abs=1e-4), "support": 4}
    assert bee == {"label": "bee", "precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 2}
    assert cat == {"label": "cat", "precision": None, "recall": None, "f1": None, "support": 0}


def test_the_mean_f1_is_over_the_classes_that_have_images() -> None:
    assert confusion.macro_f1(MATRIX) == pytest.approx((2 / 3 + 0) / 2, abs=1e-4)


@pytest.mark.parametrize("classes", [2, 7, 120])
def test_all_figures_are_those_of_scikit_learn(classes: int) -> None:
    random = np.random.default_rng(classes)
    targets = np.concatenate([np.arange(classes), random.integers(0, classes, 900)])
    answers = np.where(random.uniform(size=len(targets)) < 0.7, targets, random.integers(0, classes, len(targets)))
    names = [str(c) for c in range(classes)]

    matrix = confusion.confusion_matrix(targets, answers, classes)

    expected = sklearn.precision_recall_fscore_support(targets, answers, labels=range(classes), zero_division=np.nan)
    for row, *values in zip(confusion.figures(matrix, names), *expected, strict=True):
        found = [np.nan if row[key] is None else row[key] for key in ("precision", "recall", "f1", "support")]
        assert found == pytest.approx(values, abs=1e-4, nan_ok=True)
    assert confusion.written(matrix) == sklearn.confusion_matrix(targets, answers).tolist()
    assert confusion.macro_f1(matrix) == pytest.approx(sklearn.f1_score(targets, answers, average="macro"), abs=1e-4)


def test_the_most_confused_come_first_and_right_answers_never() -> None:
    assert confusion.most_confused(MATRIX, NAMES, 9) == [
        {"label": "bee", "answer": "ant", "count": 2, "share": 1.0},
        {"label": "ant", "answer": "bee", "count": 1, "share": 0.25},
    ]
    assert len(confusion.most_confused(MATRIX, NAMES, 1)) == 1


def test_what_a_class_is_taken_for_is_its_commonest_error() -> None:
    assert confusion.taken_for(MATRIX, 0) == (1, 1)
    assert confusion.taken_for(MATRIX, 1) == (0, 2)
    assert confusion.taken_for(MATRIX, 2) == (2, 0)


@pytest.mark.parametrize("classes", [3, 200, 201, 5000])
def test_a_matrix_is_read_as_it_was_written(classes: int) -> None:
    random = np.random.default_rng(classes)
    targets, answers = random.integers(0, classes, (2, 400))
    matrix = confusion.confusion_matrix(targets, answers, classes)

    written = json.loads(json.dumps(confusion.written(matrix)))
    read = confusion.of({"confusion": written, "classes": range(classes)})

    assert read.classes == classes
    for before, after in zip(matrix[1:], read[1:], strict=True):
        assert np.array_equal(before, after)
    assert len(json.dumps(written)) < 130_000
    assert (matrix.support().sum(), matrix.right().sum()) == (400, (targets == answers).sum())
