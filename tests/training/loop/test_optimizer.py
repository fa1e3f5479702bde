"""training/loop/optimizer.py: who decays, and how each optimizer moves a weight."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.training.factories import make_recipe
from training.loop.optimizer import make_optimizer, set_rate
from training.networks import catalogue


@pytest.mark.parametrize("architecture", ["resnet10-small", "resnet18", "vgg11_bn"])
def test_weights_of_layers_decay_and_biases_and_norms_do_not(architecture: str) -> None:
    with torch.device("meta"):
        model = catalogue.build(architecture, 3)
    decayed, kept = make_optimizer(model, make_recipe(weight_decay=0.01)).param_groups

    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert {id(p) for p in decayed["params"]} == {id(layer.weight) for layer in layers}
    assert {id(p) for p in kept["params"]} == {id(p) for p in model.parameters()} - {id(layer.weight) for layer in layers}
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.01, 0)


def test_a_recipe_without_momentum_has_an_optimizer() -> None:
    optimizer = make_optimizer(nn.Linear(2, 2), make_recipe(momentum=0.0))

    assert (optimizer.defaults["momentum"], optimizer.defaults["nesterov"]) == (0, False)


def test_all_weights_decay_where_the_recipe_says_so() -> None:
    with torch.device("meta"):
        model = catalogue.build("resnet10-small", 3)

    groups = make_optimizer(model, make_recipe(weight_decay=0.01, decay_norms=True)).param_groups

    assert {group["weight_decay"] for group in groups} == {0.01}
    assert {id(p) for group in groups for p in group["params"]} == {id(p) for p in model.parameters()}


def path_of(gradients: list[float], **changes: Any) -> list[float]:
    """Where one weight that begins at 1 goes, step by step, at rate 0.01."""
    layer = nn.Linear(1, 1, bias=False)
    nn.init.ones_(layer.weight)
    optimizer = make_optimizer(layer, make_recipe(weight_decay=0.0, **changes))
    path: list[float] = []
    for gradient in gradients:
        layer.weight.grad = torch.tensor([[gradient]])
        set_rate(optimizer, 0.01, changes.get("momentum", 0.9))
        optimizer.step()
        path.append(layer.weight.item())
    return path


GRADIENTS = [0.5, -2.0, 1e-5, 3.0]


@pytest.mark.parametrize("nesterov", [True, False])
def test_sgd_has_the_momentum_of_the_recipe(nesterov: bool) -> None:
    weight, speed, expected = 1.0, 0.0, list[float]()
    for gradient in GRADIENTS:
        speed = 0.9 * speed + gradient
        weight -= 0.01 * (gradient + 0.9 * speed if nesterov else speed)
        expected.append(weight)

    assert path_of(GRADIENTS, nesterov=nesterov) == pytest.approx(expected, rel=1e-5)


def test_rmsprop_is_that_of_keras() -> None:
    """keras.optimizers.RMSprop() of TensorFlow 2.0 to 2.10: rho 0.9, epsilon 1e-7 beside the root, no momentum."""
    weight, square, expected = 1.0, 0.0, list[float]()
    for gradient in GRADIENTS:
        square = 0.9 * square + 0.1 * gradient**2
        weight -= 0.01 * gradient / (np.sqrt(square) + 1e-7)
        expected.append(weight)

    assert path_of(GRADIENTS, optimizer="rmsprop", momentum=0.0) == pytest.approx(expected, rel=1e-5)


def test_adamw_corrects_its_averages_and_decays_apart_from_them() -> None:
    weight, mean, square, expected = 1.0, 0.0, 0.0, list[float]()
    for step, gradient in enumerate(GRADIENTS, 1):
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        weight -= 0.01 * (mean / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
        expected.append(weight)

    assert path_of(GRADIENTS, optimizer="adamw") == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop", "adamw", "muon"])
def test_a_rate_of_nothing_moves_nothing_and_every_group_takes_it(optimizer: str) -> None:
    model = nn.Linear(2, 2)
    before = {name: value.clone() for name, value in model.named_parameters()}
    moving = make_optimizer(model, make_recipe(optimizer=optimizer))
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)

    set_rate(moving, 0.0, 0.5)
    moving.step()

    assert all(torch.equal(value, before[name]) for name, value in model.named_parameters())
    assert {group["betas"][0] if optimizer == "adamw" else group["momentum"] for group in moving.param_groups} == {0.5}


@pytest.mark.usefixtures("networks")
def test_each_part_learns_at_a_share_of_the_rate_of_the_next() -> None:
    model = catalogue.build("helped", 3)
    moving = make_optimizer(model, make_recipe(architecture="helped", layer_decay=0.5, weight_decay=0.01))

    set_rate(moving, 0.8, 0.9)

    rates = {id(p): group["lr"] for group in moving.param_groups for p in group["params"]}
    decays = {id(p): group["weight_decay"] for group in moving.param_groups for p in group["params"]}
    assert {name: pytest.approx(rates[id(p)]) for name, p in model.named_parameters() if name.endswith("weight")} == {
        "trunk.0.weight": 0.1,
        "trunk.1.weight": 0.1,
        "trunk.3.weight": 0.2,
        "trunk.4.weight": 0.2,
        "neck.2.weight": 0.4,
        "head.weight": 0.8,
        "auxiliary.1.2.weight": 0.8,
    }
    assert {decays[id(p)] for p in model.parameters() if p.ndim > 1} == {0.01}
    assert {decays[id(p)] for p in model.parameters() if p.ndim == 1} == {0}


def test_an_optimizer_of_old_without_shares_takes_the_rate_as_it_is() -> None:
    moving = make_optimizer(nn.Linear(2, 2), make_recipe())
    for group in moving.param_groups:
        del group["rate_share"]

    set_rate(moving, 0.3, 0.9)

    assert {group["lr"] for group in moving.param_groups} == {0.3}
