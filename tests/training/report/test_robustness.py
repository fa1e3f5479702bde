"""training/report/robustness.py: every disturbance does what its name says, and accuracy is counted on what it made."""

import numpy as np
import pytest
from numpy.typing import NDArray
from torch import nn

from tests.factories import make_picture
from tests.training.factories import make_images, make_recipe
from training.data.dataset import ImageSet
from training.evaluation import evaluate
from training.loop.checkpoint import Checkpoint
from training.networks.classifier import Classifier
from training.report import robustness

PICTURE = np.asarray(make_picture(48, 32))
CHECKPOINT = Checkpoint(make_recipe(), ("class-0", "class-1"), [127.5] * 3, [64.0] * 3)


def difference(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    return float(np.abs(a.astype(int) - b).mean())


@pytest.mark.parametrize("kind", robustness.KINDS, ids=lambda kind: kind.name)
def test_a_disturbed_image_has_its_size_and_is_another_one(kind: robustness.Kind) -> None:
    for value in kind.values:
        disturbed = kind.change(PICTURE, value)
        assert (disturbed.shape, disturbed.dtype) == (PICTURE.shape, np.uint8)
        assert difference(disturbed, PICTURE) > 0


def test_a_lower_quality_loses_more() -> None:
    assert difference(robustness.compress(PICTURE, 10), PICTURE) > 2 * difference(robustness.compress(PICTURE, 90), PICTURE)


def test_blur_takes_contrast_and_keeps_the_light() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (32, 48, 3)).astype(np.uint8)

    weak, strong = robustness.blur(noise, 2), robustness.blur(noise, 8)

    assert noise.std() > 1.5 * weak.std() > 3 * strong.std()
    assert strong.mean() == pytest.approx(noise.mean(), abs=2)


def test_brightness_multiplies_and_stops_at_white() -> None:
    pixels = np.array([[[10, 100, 200]]], np.uint8)

    assert robustness.brighten(pixels, 2).tolist() == [[[20, 200, 255]]]
    assert robustness.brighten(pixels, 0.5).tolist() == [[[5, 50, 100]]]


def test_right_angles_turn_every_pixel_counter_clockwise() -> None:
    square = PICTURE[:, :32]

    np.testing.assert_array_equal(robustness.rotate(square, 90), np.rot90(square))
    np.testing.assert_array_equal(robustness.rotate(PICTURE, 180), np.rot90(PICTURE, 2))


def test_a_small_turn_leaves_the_middle_and_fills_the_corners_with_the_image() -> None:
    white = np.full((31, 31, 3), 255, np.uint8)
    white[15, 15] = 0

    turned = robustness.rotate(white, 30)

    assert turned[15, 15].max() < 100
    assert turned[[0, 0, -1, -1], [0, -1, 0, -1]].min() == 255


def test_a_shift_moves_right_and_down_and_mirrors_at_the_edge() -> None:
    shifted = robustness.shift(PICTURE, 12.5)  # 4 of 32 rows, 6 of 48 columns

    np.testing.assert_array_equal(shifted[4:, 6:], PICTURE[:-4, :-6])
    np.testing.assert_array_equal(shifted[3, 6:], PICTURE[0, :-6])


def brightness_classifier() -> Classifier:
    """Class 1 is what is lighter than mid-grey."""
    head = nn.Linear(3, 2)
    head.weight.data[0], head.weight.data[1] = -1, 1
    head.bias.data.zero_()
    return Classifier(nn.Identity(), nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), head)


def answer(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    images = ImageSet(pixels, np.zeros(len(pixels), np.int64), CHECKPOINT.classes, ("",) * len(pixels), ())
    return evaluate.logits_of(brightness_classifier(), CHECKPOINT, images, say=False)


def test_accuracy_is_that_of_the_disturbed_images() -> None:
    images = make_images([10, 30])
    images.pixels[:][:10], images.pixels[:][10:] = 40, 150

    found = robustness.measure(answer, images, rate=1e9)

    assert (found["samples"], found["plain"]) == (40, 1)
    by_name = {kind["name"]: {p["value"]: p["accuracy"] for p in kind["points"]} for kind in found["kinds"]}
    assert by_name["brightness"] == {0.25: 0.25, 0.5: 0.25, 0.75: 0.25, 1.5: 1, 2: 1}  # dark ones are all class 0
    assert set(by_name["rotation"].values()) == set(by_name["JPEG quality"].values()) == {1}


@pytest.mark.parametrize(("rate", "expected"), [(0.1, 100), (1e9, 300), (7 * 5, 200)])
def test_a_slow_network_is_asked_of_fewer_images(rate: float, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(robustness, "MOST_IMAGES", 300)
    monkeypatch.setattr(robustness, "KINDS", robustness.KINDS[:1])  # six strengths and the plain images

    assert robustness.measure(answer, make_images([200, 200]), rate)["samples"] == expected


def test_the_images_taken_are_of_all_classes_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(robustness, "KINDS", ())
    images = make_images([300, 100])
    images.pixels[:][:300], images.pixels[:][300:] = 150, 150  # so class 0 is answered wrongly

    found = robustness.measure(answer, images, rate=1)

    assert found["plain"] == pytest.approx(0.25, abs=0.01)
