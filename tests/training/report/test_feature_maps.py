"""training/report/feature_maps.py: pictures of what the first stages put out."""

import numpy as np
import torch
from torch import nn

from tests.training.factories import make_recipe
from tests.training.report.uri import decoded
from training.loop.checkpoint import Checkpoint
from training.networks import catalogue
from training.networks.classifier import Classifier
from training.report import feature_maps

CHECKPOINT = Checkpoint(make_recipe(), ("a", "b"), [0.0] * 3, [255.0] * 3)


def test_the_first_channels_of_the_first_three_stages_are_shown() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8)

    shown = feature_maps.show(catalogue.build("resnet10-small", 2).eval(), CHECKPOINT, pixels)

    assert [(stage["channels"], stage["size"], stage["shown"]) for stage in shown] == [
        (32, [16, 16], 16),
        (64, [8, 8], 16),
        (192, [4, 4], 16),
    ]
    assert all(decoded(stage["picture"])[1].shape[:2] == (2 * 65 - 1, 8 * 65 - 1) for stage in shown)


def test_a_map_is_bright_where_its_channel_answers() -> None:
    copy = nn.Conv2d(3, 2, 1, bias=False)
    with torch.no_grad():
        copy.weight.copy_(torch.eye(2, 3)[..., None, None])
    model = Classifier(nn.Sequential(copy), nn.Flatten(), nn.Linear(4, 2), (1,))
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:, 4:, 0] = 200  # red on the right
    pixels[4:, :, 1] = 100  # green below

    (stage,) = feature_maps.show(model, CHECKPOINT, pixels)

    _, picture = decoded(stage["picture"])
    red, green = picture[:64, :64, 0], picture[:64, 65:, 0]
    assert (red[:, :32] == 0).all()
    assert (red[:, 32:] == 255).all()
    assert (green[:32] == 0).all()
    assert (green[32:] == 255).all()


def test_without_stages_there_is_nothing_to_show() -> None:
    model = Classifier(nn.Identity(), nn.Flatten(), nn.Linear(4, 2))

    assert feature_maps.show(model, CHECKPOINT, np.zeros((8, 8, 3), np.uint8)) == []
