"""training/evaluation/class_activation.py: maps against their definition, and that they point at what was put there."""

import numpy as np
import pytest
import torch
from torch import nn

from tests.training.factories import make_recipe
from training.evaluation.class_activation import class_activation_maps
from training.loop.checkpoint import Checkpoint
from training.networks import catalogue
from training.networks.classifier import Classifier
from training.report import network

CHECKPOINT = Checkpoint(make_recipe(), ("a", "b"), [0.0] * 3, [255.0] * 3)


def test_after_global_pooling_the_map_is_the_head_times_the_feature_map() -> None:
    torch.manual_seed(0)
    model = catalogue.build("resnet10-small", 2).eval()
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
    classes = np.array([0, 1, 1])

    maps = class_activation_maps(model, CHECKPOINT, pixels, classes)

    with torch.inference_mode():
        feature_map = model.trunk(network.inputs(model, CHECKPOINT, pixels))
        expected = torch.einsum("nc,nchw->nhw", model.head.weight[torch.from_numpy(classes)], feature_map).relu() / 16
    assert maps.shape == (3, 4, 4)
    np.testing.assert_allclose(maps, expected.numpy(), rtol=1e-3, atol=1e-6)
    assert maps.max() > 0


def red_and_blue(neck: nn.Module, dimensions: int) -> Classifier:
    """Class 0 is what is red, class 1 what is blue: the feature map holds both colours."""
    see = nn.Conv2d(3, 2, 1, bias=False)
    head = nn.Linear(dimensions, 2, bias=False)
    with torch.no_grad():
        see.weight.copy_(torch.tensor([[1.0, -1, -1], [-1, -1, 1]])[..., None, None])
        head.weight.copy_(torch.eye(2).repeat_interleave(dimensions // 2, dim=1))
    return Classifier(nn.Sequential(see, nn.ReLU()), neck, head).eval()


@pytest.mark.parametrize(
    ("neck", "dimensions"),
    [
        pytest.param(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), 2, id="global pooling"),
        pytest.param(nn.Flatten(), 2 * 8 * 8, id="a head on every place"),
        pytest.param(nn.Sequential(nn.ReLU(inplace=True), nn.Flatten()), 2 * 8 * 8, id="a layer that writes into its input"),
    ],
)
def test_the_evidence_lies_where_the_colour_is(neck: nn.Module, dimensions: int) -> None:
    pixels = np.zeros((1, 8, 8, 3), np.uint8)
    pixels[0, 1, 2] = (255, 0, 0)
    pixels[0, 6, 5] = (0, 0, 255)
    model = red_and_blue(neck, dimensions)

    red, blue = class_activation_maps(model, CHECKPOINT, pixels[[0, 0]], np.array([0, 1]))

    assert np.argwhere(red > 0).tolist() == [[1, 2]]
    assert np.argwhere(blue > 0).tolist() == [[6, 5]]
    assert red[1, 2] == pytest.approx(blue[6, 5])


def test_without_evidence_the_map_is_empty() -> None:
    model = red_and_blue(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), 2)

    maps = class_activation_maps(model, CHECKPOINT, np.zeros((1, 8, 8, 3), np.uint8), np.array([0]))

    assert (maps == 0).all()
