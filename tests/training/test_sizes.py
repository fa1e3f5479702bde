"""training/sizes.py: which size an epoch has, and which networks take it."""

import pytest
import torch
from torch import nn

from models.input import InputSpec
from training import sizes
from training.architectures.classifier import Classifier

SQUARE = InputSpec(128, 128, 144)


@pytest.mark.parametrize("epochs", [1, 7])
def test_without_sides_every_epoch_has_the_size_of_the_input(epochs: int) -> None:
    assert {sizes.at(InputSpec(32, 48, 48), (), epoch, epochs) for epoch in range(epochs)} == {(32, 48)}


@pytest.mark.parametrize(("epochs", "counts"), [(3, [1, 1, 1]), (30, [10, 10, 10]), (31, [11, 10, 10]), (5, [2, 2, 1])])
def test_the_epochs_are_shared_out_equally_in_the_order_of_the_sides(epochs: int, counts: list[int]) -> None:
    sides = [sizes.at(SQUARE, (96, 112, 128), epoch, epochs)[0] for epoch in range(epochs)]

    assert sides == [96] * counts[0] + [112] * counts[1] + [128] * counts[2]


@pytest.mark.parametrize(
    ("spec", "size"), [(InputSpec(60, 90, 90), (40, 60)), (InputSpec(90, 60, 90), (60, 40)), (SQUARE, (40, 40))]
)
def test_a_side_is_the_shorter_one_and_the_shape_stays(spec: InputSpec, size: tuple[int, int]) -> None:
    assert sizes.at(spec, (40,), 0, 1) == size


@pytest.mark.parametrize("architecture", ["resnet10-small", "resnet18", "vgg11_bn", "googlenet"])
def test_networks_that_pool_what_is_left_take_any_size(architecture: str) -> None:
    sizes.check(architecture, InputSpec(64, 80, 80), (32, 50, 64), 3)


def test_a_network_for_one_size_alone_is_refused() -> None:
    with torch.device("meta"):
        model = Classifier(nn.Conv2d(3, 2, 1), nn.Flatten(), nn.Linear(2 * 8 * 8, 3))
    sizes.try_on(model, InputSpec(8, 8, 8), (8,))

    with pytest.raises(ValueError, match=r"takes no images of 6x6, as sizes asks for: .*; leave sizes out"):
        sizes.try_on(model, InputSpec(8, 8, 8), (6, 8))


@pytest.mark.parametrize("architecture", ["mlp-512", "lenet5", "convnet-32-64-128"])
def test_the_networks_for_digits_are_refused(architecture: str) -> None:
    with pytest.raises(ValueError, match=r"takes no images of 20x20, .*; leave sizes out"):
        sizes.check(architecture, InputSpec(28, 28, 28), (20, 28), 2)


def test_a_side_too_small_for_the_network_is_refused() -> None:
    with pytest.raises(ValueError, match=r"takes no images of 16x16.*choose larger sides"):
        sizes.check("vgg11", SQUARE, (16, 128), 2)


def test_to_try_a_network_costs_no_random_number() -> None:
    before = torch.get_rng_state()

    sizes.check("vgg11_bn", SQUARE, (64, 128), 2)

    assert torch.equal(torch.get_rng_state(), before)
