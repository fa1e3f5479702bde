"""training/report/mistakes.py: the most confident wrong answers, with what is known of each."""

import numpy as np

from tests.training.factories import make_images
from training.evaluation import calibration
from training.report import mistakes

IMAGES = make_images([2, 3])  # labels 0, 0, 1, 1, 1
SHARES = np.array([[0.6, 0.4], [0.3, 0.7], [0.2, 0.8], [0.9, 0.1], [0.1, 0.9]])
ANSWERS = calibration.answers(np.log(SHARES), IMAGES.targets)


def test_wrong_answers_come_by_their_probability() -> None:
    assert mistakes.worst(ANSWERS).tolist() == [3, 1]


def test_right_answers_come_by_their_probability() -> None:
    assert mistakes.best(ANSWERS).tolist() == [4, 2, 0]


def test_an_answer_is_told_with_file_label_and_both_probabilities() -> None:
    shown = mistakes.show(IMAGES, ANSWERS, 3)

    assert shown.pop("picture").startswith("data:image/png;base64,")
    assert shown == {
        "file": "class-1/3.png",
        "label": "class-1",
        "label_probability": 0.1,
        "answer": "class-0",
        "probability": 0.9,
    }
