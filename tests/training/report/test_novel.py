"""training/report/novel.py: which images are shown as novel, and where the threshold lies among the others."""

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.training.factories import make_images
from training.evaluation import calibration, novelty
from training.report import novel

IMAGES = make_images([20, 20])
RANDOM = np.random.default_rng(0)
REFERENCE = novelty.fit(*(RANDOM.normal([8, 0, 0, 0], 1, (200, 4)).astype(np.float32) for _ in range(2)))
ODD = [3, 30, 7]  # which lie away from all others, the furthest first
ANSWERS = calibration.answers(np.array([[1.0, 0.0]] * 40), IMAGES.targets)  # the first 20 are right


def features() -> NDArray[np.float32]:
    found = RANDOM.normal([8, 0, 0, 0], 0.5, (40, 4)).astype(np.float32)
    found[ODD] = [[-8, 0, 0, 0], [-1, 8, 0, 0], [3, 8, 0, 0]]
    return found


def test_the_furthest_images_are_shown_with_how_novel_they_are() -> None:
    shown = novel.show(REFERENCE, features(), IMAGES, ANSWERS)

    assert [image["file"] for image in shown["images"][:3]] == [IMAGES.paths[i] for i in ODD]
    assert len(shown["images"]) == novel.MOST
    values = [image["novelty"] for image in shown["images"]]
    assert values == sorted(values, reverse=True)
    assert values[2] > novelty.THRESHOLD > values[3]
    assert (shown["count"], shown["right"]) == (3, pytest.approx(2 / 3, abs=1e-4))
    assert shown["right_of_others"] == pytest.approx(18 / 37, abs=1e-4)


def test_the_histogram_counts_every_image_once_and_parts_at_the_threshold() -> None:
    shown = novel.show(REFERENCE, features(), IMAGES, ANSWERS)

    found, limit = shown["histogram"], shown["distance"]
    assert (sum(found["right"]), sum(found["wrong"])) == (20, 20)
    assert len(found["edges"]) == len(found["right"]) + 1
    assert limit == pytest.approx(found["edges"][novel.BINS], abs=2e-4)
    assert sum(found["right"][novel.BINS :]) + sum(found["wrong"][novel.BINS :]) == 3
    assert REFERENCE is not None
    assert REFERENCE.curve.novelty(np.array([limit]))[0] == pytest.approx(novelty.THRESHOLD, abs=1e-3)


def test_an_image_far_off_does_not_press_the_rest_together() -> None:
    distances = np.array([0.9, 1.0, 1.1, 500.0])

    found = novel.histogram(distances, np.ones(4, np.bool_), 1.2)

    assert found["edges"][-1] <= 1.5 + 1e-4
    assert (sum(found["right"]), found["right"][-1]) == (4, 1)


@pytest.mark.parametrize("distances", [[2.0, 2.0], [0.1], [5.0, 9.0]])
def test_there_is_a_histogram_whatever_the_distances(distances: list[float]) -> None:
    found = novel.histogram(np.array(distances), np.zeros(len(distances), np.bool_), 1.0)

    assert sum(found["wrong"]) == len(distances)
    assert (np.diff(found["edges"]) > 0).all()


def test_without_images_the_figures_stay() -> None:
    shown = novel.show(REFERENCE, features(), IMAGES, ANSWERS, with_images=False)

    assert (shown["count"], shown["images"]) == (3, [])


def test_what_was_not_learnt_is_left_out() -> None:
    assert "too few" in novel.show(None, features(), IMAGES, ANSWERS)["left_out"]
