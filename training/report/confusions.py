"""The confusions made most often, as pictures: what images of one class look like that are taken for another."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from training.data.dataset import ImageSet
from training.evaluation.calibration import Answers
from training.report import mistakes

PAIRS, EACH = 6, 4  # of classes, and images of each, that are shown


def show(images: ImageSet, answers: Answers, pairs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first PAIRS of ``pairs`` (confusion.most_confused), each with ``images``: of those that have its label and got its
    answer the EACH with the highest probability, as ``mistakes.show`` tells them."""
    wrong = mistakes.worst(answers)
    found: list[dict[str, Any]] = []
    for pair in pairs[:PAIRS]:
        label, answer = (images.classes.index(pair[name]) for name in ("label", "answer"))
        these = wrong[(images.targets[wrong] == label) & (answers.predicted[wrong] == answer)][:EACH]
        found.append(pair | {"images": [mistakes.show(images, answers, int(i)) for i in np.asarray(these)]})
    return found
