"""training/evaluation/faithfulness.py: a right map scores above the baselines, a wrong one below, whatever the image is."""

import numpy as np
import pytest
from numpy.typing import NDArray

from training.evaluation import faithfulness
from training.evaluation.faithfulness import CENTRE, MAP, RANDOM, Scores, centre, likeness, masks, road

SIDE, N = 28, 24
Pixels = NDArray[np.uint8]


def spots() -> tuple[Pixels, NDArray[np.float32]]:
    """Grey images with a red spot somewhere, and maps (7, 7) of where."""
    random = np.random.default_rng(0)
    images, maps = np.full((N, SIDE, SIDE, 3), 100, np.uint8), np.zeros((N, 7, 7), np.float32)
    for image, found in zip(images, maps, strict=True):
        y, x = random.integers(0, 6, 2)
        image[4 * y : 4 * y + 8, 4 * x : 4 * x + 8] = (255, 0, 0)
        found[y : y + 2, x : x + 2] = 3.0
    return images, maps


def redness(pixels: Pixels) -> NDArray[np.floating]:
    """Class 0 by how much red there is; class 1 is the rest."""
    values = pixels.astype(float)
    red = (values[..., 0] - values[..., 1]).clip(0).mean((1, 2)) / (255 * 64 / SIDE**2)
    return np.stack([red, 1 - red], axis=1)


def told(maps: NDArray[np.float32]) -> dict[str, dict[str, float]]:
    return road(redness, spots()[0], maps, [0] * N).told()


def test_a_map_of_the_evidence_is_far_above_both_baselines() -> None:
    found = told(spots()[1])
    assert found[MAP]["score"] > 0.4
    for kind in (CENTRE, RANDOM):
        above = found[f"above_{kind}"]
        assert above["score"] == pytest.approx(found[MAP]["score"] - found[kind]["score"], abs=2e-4)
        assert above["score"] > 3 * above["error"] > 0


def test_a_map_of_everything_else_is_far_below_them() -> None:
    found = told(3 - spots()[1])
    assert found[MAP]["score"] < -0.4
    assert found["above_random"]["score"] < -3 * found["above_random"]["error"]


def test_an_empty_map_is_no_better_than_chance() -> None:
    found = told(np.zeros((N, 7, 7), np.float32))
    assert abs(found["above_random"]["score"]) < 3 * found["above_random"]["error"]


def test_the_same_is_found_again() -> None:
    assert told(spots()[1]) == told(spots()[1])


def test_as_many_pixels_are_taken_out_as_is_said_of_either_end() -> None:
    values = np.arange(49, dtype=np.float32).reshape(7, 7)
    taken = masks(values, (SIDE, SIDE))
    shares = faithfulness.REMOVED
    assert [round(float(mask.mean()), 2) for mask in taken] == [*shares, *shares]
    assert taken[0][-4:].all()  # the last rows are of the highest numbers
    assert not taken[0][:4].any()
    assert taken[2][:4].all()
    assert not (taken[0] & taken[2]).any()


def test_the_centre_is_the_middle() -> None:
    found = centre((7, 5))
    assert np.unravel_index(found.argmax(), found.shape) == (3, 2)
    assert found[0, 0] == found[-1, -1] == found.min() == pytest.approx(0)
    assert centre((1, 1)).tolist() == [[1.0]]


def test_one_image_has_no_error() -> None:
    assert Scores({MAP: [0.5], CENTRE: [0.1], RANDOM: [0.0]}).told()["above_centre"] == {"score": 0.4, "error": 0.0}


def test_likeness_is_1_of_the_same_map_and_less_of_others() -> None:
    random = np.random.default_rng(0)
    first, second = random.random((5, 7, 7)), random.random((5, 7, 7))
    assert likeness(first, 3 * first + 1) == 1  # type: ignore[arg-type]
    assert likeness(first, -first) == -1  # type: ignore[arg-type]
    assert abs(likeness(first, second) or 1) < 0.3  # type: ignore[arg-type]
    assert likeness(np.zeros((2, 3, 3), np.float32), np.ones((2, 3, 3), np.float32)) is None
