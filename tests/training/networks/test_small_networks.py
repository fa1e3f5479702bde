"""training/architectures: what the networks for small images compute, beside their sizes (test_architectures.py)."""

from itertools import product

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.training.networks.factories import build_filled, build_unfilled
from training.networks import catalogue
from training.networks.cifar import Block
from training.networks.grayscale import Grey
from training.networks.lenet import PartialConvolution, Subsampling
from training.networks.small import patch_filters

TINY = ("mlp-512", "convnet-32-64-128", "lenet1", "lenet5", "convnet-cifar", "resnet20", "plain20")


def side_of(architecture: str) -> int:
    return catalogue.ONE_SIDE.get(architecture, 16)


def test_a_grey_image_as_rgb_stays_what_it_is() -> None:
    grey = torch.randn(2, 1, 5, 4)

    torch.testing.assert_close(Grey()(grey.expand(2, 3, 5, 4)), grey)
    assert Grey()(torch.tensor([3.0, 6.0, 9.0]).reshape(1, 3, 1, 1)).item() == pytest.approx(6)


@torch.inference_mode()
def test_a_perceptron_is_its_matrices_with_relu_between_them() -> None:
    model = build_filled("mlp-800-400", 7)
    images = torch.randn(3, 1, 28, 28).expand(3, 3, 28, 28)
    (first, second), head = [layer for layer in model.neck.modules() if isinstance(layer, nn.Linear)], model.head

    logits, features, feature_map = model.outputs(images)

    pixels = images[:, 0].reshape(3, 784)
    hidden = (pixels @ first.weight.T + first.bias).clamp(min=0)
    expected = (hidden @ second.weight.T + second.bias).clamp(min=0)
    torch.testing.assert_close(feature_map, images[:, :1])
    torch.testing.assert_close(features, expected)
    torch.testing.assert_close(logits, expected @ head.weight.T + head.bias)


@torch.inference_mode()
@pytest.mark.parametrize(("pooled", "suffix"), [(True, ""), (False, "-unpooled")])
def test_a_convnet_is_three_convolutions_and_pools_after_two(pooled: bool, suffix: str) -> None:
    model = build_filled(f"convnet-32-64-128{suffix}", 7)
    x = images = torch.randn(2, 3, 28, 28)

    x = x.mean(1, keepdim=True)
    for i, layer in enumerate([layer for layer in model.trunk.modules() if isinstance(layer, nn.Conv2d)]):
        x = functional.conv2d(x, layer.weight, layer.bias).clamp(min=0)
        x = functional.max_pool2d(x, 2) if pooled and i < 2 else x

    torch.testing.assert_close(model.outputs(images)[2], x)
    torch.testing.assert_close(model(images), x.flatten(1) @ model.head.weight.T + model.head.bias)


@torch.inference_mode()
def test_a_subsampling_weighs_and_shifts_the_means_of_its_channel() -> None:
    layer = Subsampling(2)
    layer.weight.copy_(torch.tensor([2.0, -1.0]))
    layer.bias.copy_(torch.tensor([0.0, 10.0]))

    found = layer(torch.tensor([[1.0, 2.0], [3.0, 6.0]]).expand(1, 2, 2, 2))

    assert found.flatten().tolist() == [6, 7]


@torch.inference_mode()
def test_the_second_convolution_of_lenet1_is_connected_in_part() -> None:
    """20 of 48 connections between maps: 4 maps that see one map before and 8 that see two."""
    layer = PartialConvolution()
    seen = torch.zeros(12, 4, dtype=torch.bool)
    for channel in range(4):
        x = torch.zeros(1, 4, 5, 5)
        before = layer(x)
        x[:, channel] = 1
        seen[:, channel] = (layer(x) != before).flatten()

    assert seen.sum() == 20
    assert sorted(seen.sum(1).tolist()) == [1] * 4 + [2] * 8
    assert {tuple(row.nonzero().flatten().tolist()) for row in seen} == {(0,), (1,), (2,), (3,), (0, 1), (2, 3)}


@torch.inference_mode()
@pytest.mark.parametrize("residual", [True, False])
def test_a_block_that_halves_the_sides_keeps_every_second_pixel_and_appends_zeros(residual: bool) -> None:
    block = Block(2, 5, 2, residual).eval()
    for value in block.parameters():
        value.zero_()  # nothing but the shortcut is left
    x = torch.rand(1, 2, 6, 4)

    found = block(x)

    assert tuple(found.shape) == (1, 5, 3, 2)
    assert found[:, 2:].abs().max() == 0
    for channel, row, column in product(range(2), range(3), range(2)):
        assert found[0, channel, row, column] == (x[0, channel, 2 * row, 2 * column] if residual else 0)


@torch.inference_mode()
def test_a_plain_network_differs_from_a_residual_one_by_its_shortcuts_alone() -> None:
    residual, plain = build_filled("resnet20", 7), build_filled("plain20", 7)
    plain.load_state_dict(residual.state_dict())
    images = torch.randn(2, 3, 16, 16)
    assert not torch.allclose(plain(images), residual(images))

    for block in residual.modules():
        if isinstance(block, Block):
            block.residual = False

    torch.testing.assert_close(plain(images), residual(images))


@pytest.mark.parametrize("architecture", ["resnet20", "plain20", "convnet-cifar", "mlp-512"])
def test_weights_before_a_relu_begin_with_hes_deviation(architecture: str) -> None:
    torch.manual_seed(0)
    model = catalogue.build(architecture, 10)
    layers = [m for part in (model.trunk, model.neck) for m in part.modules() if isinstance(m, nn.Conv2d | nn.Linear)]

    for layer in layers:
        inputs = layer.weight[0].numel()
        assert layer.weight.std().item() == pytest.approx((2 / inputs) ** 0.5, rel=0.15)
        assert layer.bias is None or layer.bias.abs().max() == 0


@pytest.mark.parametrize("architecture", TINY)
def test_a_few_steps_of_training_lower_the_loss(architecture: str) -> None:
    """Every parameter learns: it is changed by the steps."""
    torch.manual_seed(0)
    model = catalogue.build(architecture, 3).train()
    images, targets = torch.randn(6, 3, side_of(architecture), side_of(architecture)), torch.arange(6) % 3
    before = {name: value.clone() for name, value in model.named_parameters()}
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)

    losses: list[float] = []
    for _ in range(10):
        parts = [weight * functional.cross_entropy(logits, targets) for weight, logits in model.weighted_logits(images)]
        loss = torch.stack(parts).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

    assert losses[-1] < 0.8 * losses[0]
    assert not [name for name, value in model.named_parameters() if torch.equal(value, before[name])]


@pytest.mark.parametrize("architecture", sorted(catalogue.ONE_SIDE))
def test_a_network_takes_the_one_size_it_names_and_no_other(architecture: str) -> None:
    model, side = build_unfilled(architecture, 7).eval(), catalogue.ONE_SIDE[architecture]

    assert model(torch.empty(2, 3, side, side, device="meta")).shape == (2, 7)
    with pytest.raises(RuntimeError):
        model(torch.empty(2, 3, side + 8, side + 8, device="meta"))


@pytest.mark.parametrize("architecture", sorted(catalogue.LEAST_SIDE))
def test_a_network_takes_its_least_size_and_none_below(architecture: str) -> None:
    model, side = build_unfilled(architecture, 7).eval(), catalogue.LEAST_SIDE[architecture]

    assert model(torch.empty(2, 3, side, side, device="meta")).shape == (2, 7)
    with pytest.raises(RuntimeError):
        model(torch.empty(2, 3, side - 1, side - 1, device="meta"))


def test_filters_of_patches_come_with_either_sign_and_share_nothing() -> None:
    filters = patch_filters().flatten(1)

    half = filters[:12]
    torch.testing.assert_close(filters[12:], -half)
    unit = half / half.norm(dim=1, keepdim=True)
    torch.testing.assert_close(unit @ unit.T, torch.eye(12))


@torch.inference_mode()
def test_a_flat_patch_excites_the_filters_of_means_alone() -> None:
    first = catalogue.build("vgg8-small", 2).trunk.get_submodule("0")

    answers = first(torch.ones(1, 3, 2, 2)).flatten()

    torch.testing.assert_close(answers[[0, 12]], torch.tensor([1, -1]) * 2 * 3**0.5 / 3.2)
    torch.testing.assert_close(answers[[*range(1, 12), *range(13, 24)]], torch.zeros(22), atol=1e-5, rtol=0)
