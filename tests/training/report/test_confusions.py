"""training/report/confusions.py: of each pair of classes the images that were taken for one another, and no others."""

from typing import Any

import numpy as np

from tests.training.factories import make_images
from tests.training.report.uri import decoded
from training.evaluation import calibration, confusion
from training.report import confusions

IMAGES = make_images([4, 3, 1])  # labels 0, 0, 0, 0, 1, 1, 1, 2
PREDICTED = [1, 1, 0, 1, 0, 2, 1, 2]
SURE = [0.6, 0.9, 0.8, 0.7, 0.5, 0.95, 0.9, 0.9]


def answers_of(predicted: list[int]) -> calibration.Answers:
    shares = np.array([[s if c == p else (1 - s) / 2 for c in range(3)] for p, s in zip(predicted, SURE, strict=True)])
    return calibration.answers(np.log(shares), IMAGES.targets)


def pairs_of(answers: calibration.Answers) -> list[dict[str, Any]]:
    matrix = confusion.confusion_matrix(IMAGES.targets, answers.predicted, 3)
    return confusion.most_confused(matrix, IMAGES.classes, 30)


def test_a_pair_shows_its_own_images_the_surest_first() -> None:
    answers = answers_of(PREDICTED)

    shown = confusions.show(IMAGES, answers, pairs_of(answers))

    assert [(pair["label"], pair["answer"], pair["count"]) for pair in shown] == [
        ("class-0", "class-1", 3),
        ("class-1", "class-0", 1),
        ("class-1", "class-2", 1),
    ]
    assert [[image["file"] for image in pair["images"]] for pair in shown] == [
        ["class-0/1.png", "class-0/3.png", "class-0/0.png"],
        ["class-1/4.png"],
        ["class-1/5.png"],
    ]
    assert [image["probability"] for image in shown[0]["images"]] == [0.9, 0.7, 0.6]


def test_the_picture_is_that_of_the_image() -> None:
    answers = answers_of(PREDICTED)

    first = confusions.show(IMAGES, answers, pairs_of(answers))[0]["images"][0]

    assert np.array_equal(decoded(first["picture"])[1], IMAGES.pixels[1])
    assert {(first["label"], first["answer"])} == {("class-0", "class-1")}


def test_only_the_commonest_pairs_and_some_images_of_each_are_shown() -> None:
    answers = answers_of([1] * 8)
    pairs = pairs_of(answers)

    shown = confusions.show(IMAGES, answers, pairs * confusions.PAIRS)

    assert len(shown) == confusions.PAIRS
    assert pairs[0]["count"] == 4
    assert len(confusions.show(make_images([9, 0, 1]), calibration.answers(_surely(1, 10), _labels()), pairs)[0]["images"]) == 4


def _surely(answer: int, n: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.tile(np.eye(3)[answer], (n, 1))


def _labels() -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.array([0] * 9 + [2])


def test_where_all_is_right_there_is_nothing_to_show() -> None:
    assert confusions.show(IMAGES, answers_of(IMAGES.targets.tolist()), []) == []
