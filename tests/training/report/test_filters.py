"""training/report/filters.py: the first layer's weights as pictures, whatever that layer is."""

import numpy as np
import pytest
import torch
from torch import nn

from tests.training.report.uri import decoded
from training.networks import catalogue
from training.networks.classifier import Classifier
from training.report import filters


def network(*trunk: nn.Module, neck: nn.Module | None = None) -> Classifier:
    return Classifier(nn.Sequential(*trunk), neck or nn.Flatten(), nn.Linear(4, 2))


def filled(layer: nn.Module, values: torch.Tensor) -> nn.Module:
    with torch.no_grad():
        for weight in layer.parameters():
            weight.copy_(values)
            break
    return layer


def test_a_weight_is_light_or_dark_and_zero_is_grey() -> None:
    weights = torch.tensor([[[[4.0, 0.0]], [[0.0, 0.0]], [[0.0, -4.0]]]])  # red on the left, no blue on the right

    shown = filters.show(network(filled(nn.Conv2d(3, 1, (1, 2)), weights)))

    _, pixels = decoded(shown["picture"])
    assert shown["shape"] == [1, 3, 1, 2]
    assert pixels.shape == (14, 28, 4)
    assert pixels[0, 0].tolist() == [255, 128, 128, 255]
    assert pixels[0, -1].tolist() == [128, 128, 0, 255]


def test_filters_of_grey_images_are_grey() -> None:
    _, pixels = decoded(filters.show(network(nn.Conv2d(1, 5, 3)))["picture"])

    assert (pixels[..., 0] == pixels[..., 2]).all()
    assert np.ptp(pixels[..., 0]) > 50


def test_of_many_filters_the_first_are_shown() -> None:
    shown = filters.show(network(nn.Conv2d(3, 100, 7)))

    assert (shown["shape"], shown["shown"]) == ([100, 3, 7, 7], 64)
    assert decoded(shown["picture"])[1].shape[:2] == (8 * 32 - 4, 8 * 32 - 4)


def test_units_that_look_at_a_whole_grey_image_are_shown_as_one() -> None:
    perceptron = network(nn.Identity(), neck=nn.Sequential(nn.Flatten(), nn.Linear(36, 4)))

    assert filters.show(perceptron)["shape"] == [4, 1, 6, 6]


@pytest.mark.parametrize("first", [nn.Conv2d(2, 4, 3), nn.Sequential(nn.Flatten(), nn.Linear(35, 4))])
def test_what_cannot_be_shown_is_left_out_with_the_reason(first: nn.Module) -> None:
    assert "grey" in filters.show(network(first))["left_out"]


def test_a_whole_network_shows_its_first_convolution() -> None:
    assert filters.show(catalogue.build("resnet10-small", 3))["shape"] == [32, 3, 3, 3]


def test_filters_that_learnt_nothing_are_the_noise_that_they_began_with() -> None:
    random = np.random.default_rng(0)
    begun, other = random.normal(size=(2, 16, 3, 5, 5)).astype(np.float32)

    assert filters.unlearnt(begun + 0.3, begun) == pytest.approx(1)  # a colour that all pixels have is no pattern
    assert filters.unlearnt(3 * begun, begun) == pytest.approx(1)
    assert filters.unlearnt(begun + other, begun) == pytest.approx(0.5, abs=0.05)
    assert filters.unlearnt(other, begun) == pytest.approx(0, abs=0.01)


def test_what_began_as_no_noise_or_has_no_pattern_is_not_judged() -> None:
    smooth = np.repeat(np.linspace(-1, 1, 5, dtype=np.float32)[None], 5, axis=0)[None, None]

    assert filters.unlearnt(smooth, smooth) is None
    assert filters.unlearnt(np.ones((2, 3, 1, 1), np.float32), np.ones((2, 3, 1, 1), np.float32)) is None
    assert filters.unlearnt(smooth, None) is None
