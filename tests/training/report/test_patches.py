"""training/report/patches.py: the patches that excite a channel most are the ones that were made to."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tests.training.factories import make_images, make_recipe
from tests.training.report.uri import decoded
from training.data.dataset import ImageSet
from training.loop.checkpoint import Checkpoint
from training.networks.classifier import Classifier
from training.report import patches

CHECKPOINT = Checkpoint(make_recipe(), ("class-0", "class-1"), [0.0] * 3, [255.0] * 3)


def dot_detector(channels: int = 3) -> Classifier:
    """Channel 0 answers to a red dot on black, channel 1 to a blue one, further ones to nothing."""
    see = nn.Conv2d(3, channels, 3, padding=1, bias=False)
    with torch.no_grad():
        see.weight.zero_()
        see.weight[0, 0], see.weight[1, 2] = -0.1, -0.1
        see.weight[0, 0, 1, 1], see.weight[1, 2, 1, 1] = 1, 1
    return Classifier(nn.Sequential(see, nn.ReLU()), nn.Flatten(), nn.Linear(4, 2), (2,))


def dots(*places: tuple[int, int, int, int]) -> ImageSet:
    """One black image for each (row, column, channel, value), 8 x 12 pixels."""
    images = make_images([len(places), 1], height=8, width=12)
    pixels = np.zeros_like(images.pixels)
    for i, (row, column, channel, value) in enumerate(places):
        pixels[i, row, column, channel] = value
    return replace(images, pixels=pixels)


def test_the_strongest_patches_come_first_with_file_and_box() -> None:
    images = dots((4, 5, 0, 100), (2, 7, 0, 250), (6, 3, 2, 200))

    shown = patches.show(dot_detector(), CHECKPOINT, images)

    (stage,) = shown["stages"]
    red, blue, nothing = stage["channels"]
    assert stage["field"] == [3, 3]
    assert red["patches"][:2] == [
        {"file": "class-0/1.png", "top": 1, "bottom": 4, "left": 6, "right": 9},
        {"file": "class-0/0.png", "top": 3, "bottom": 6, "left": 4, "right": 7},
    ]
    assert blue["patches"][0] == {"file": "class-0/2.png", "top": 5, "bottom": 8, "left": 2, "right": 5}
    assert nothing == {"patches": []}


def test_the_picture_shows_the_patches() -> None:
    shown = patches.show(dot_detector(), CHECKPOINT, dots((4, 5, 0, 100), (2, 7, 0, 250)))

    _, pixels = decoded(shown["stages"][0]["channels"][0]["picture"])
    assert pixels.shape[1] == 3 * patches.SIDE + 2
    middle = patches.SIDE // 2
    assert pixels[middle, middle].tolist() == [250, 0, 0]
    assert pixels[middle, patches.SIDE + 1 + middle].tolist() == [100, 0, 0]


def test_a_patch_at_the_border_is_cut_off_there() -> None:
    shown = patches.show(dot_detector(), CHECKPOINT, dots((0, 11, 0, 250)))

    assert shown["stages"][0]["channels"][0]["patches"][0] == {
        "file": "class-0/0.png",
        "top": 0,
        "bottom": 2,
        "left": 10,
        "right": 12,
    }


def test_at_most_nine_patches_of_sixteen_channels_are_shown() -> None:
    images = dots(*((i % 8, i % 12, 0, 10 + i) for i in range(150)))

    shown = patches.show(dot_detector(20), CHECKPOINT, images)

    assert len(shown["stages"][0]["channels"]) == 16
    red = shown["stages"][0]["channels"][0]["patches"]
    assert [patch["file"] for patch in red] == [f"class-0/{i}.png" for i in range(149, 140, -1)]
    assert shown["images"] == 151


def test_when_time_is_over_the_rest_of_the_images_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patches, "SECONDS", 0)
    monkeypatch.setattr(patches, "LEAST_IMAGES", 150)

    assert patches.show(dot_detector(), CHECKPOINT, make_images([200, 200]))["images"] == 200


@pytest.mark.parametrize(
    ("trunk", "ends", "reason"),
    [
        (nn.Sequential(nn.Identity()), (), "no convolutions"),
        (nn.Sequential(nn.Conv2d(3, 2, 3), nn.Sigmoid()), (2,), "cannot be told"),
    ],
)
def test_what_has_no_patches_says_why(trunk: nn.Module, ends: tuple[int, ...], reason: str) -> None:
    model = Classifier(trunk, nn.Flatten(), nn.Linear(4, 2), ends)

    assert reason in patches.show(model, CHECKPOINT, make_images([2, 2]))["left_out"]
