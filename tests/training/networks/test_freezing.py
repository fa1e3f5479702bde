"""training/networks/freezing.py: what is frozen stays as it was, to the last statistic, and a resumed run freezes the same."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training.factories import interrupt_at, make_folder, make_recipe, make_run
from tests.training.networks.factories import build_filled
from training.loop import checkpoint as checkpoints
from training.loop import train
from training.networks import catalogue, freezing

STEPS_AN_EPOCH = 3  # of the pictures below: 24, of which 6 to validate, in batches of 6
FEATURES = freezing.FEATURES


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "colours")


def weights(run: Path) -> dict[str, Tensor]:
    return checkpoints.load(run)[1].state_dict()


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    """What of the network helped is not as it was: its parts, and its heads."""
    stages = dict.fromkeys("012", "stage 1") | dict.fromkeys("345", "stage 2")
    words = [name.split(".") for name in before if not torch.equal(before[name], after[name])]
    return {stages[second] if first == "trunk" else first for first, second, *_ in words}


@pytest.mark.parametrize(
    ("architecture", "side", "count"),
    [
        ("resnet10-small", 8, 2),
        ("resnet20", 8, 3),
        ("lenet5", 28, 1),
        ("convnet-cifar", 32, 3),
        ("mlp-512", 28, 2),
        ("vgg11_bn-small", 32, 4),
        ("resnet18", 32, 5),
        ("googlenet", 32, 3),
        ("googlenet", 32, 4),
    ],
)
def test_frozen_parts_get_no_gradients_and_keep_their_statistics(architecture: str, side: int, count: int) -> None:
    model = build_filled(architecture, 3).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}

    freezing.freeze(model, count)
    parts = model.weighted_logits(torch.randn(4, 3, side, side))
    torch.stack([weight * logits.square().sum() for weight, logits in parts]).sum().backward()

    frozen = {id(p) for part in freezing.parts(model)[:count] for p in freezing.parameters(part)}
    without = {id(p) for p in model.parameters() if p.grad is None}
    extra = {id(p) for p in model.auxiliary.parameters()} if count == 4 else set[int]()  # they hang on the fourth stage
    assert without == frozen | extra
    assert len(parts) == (3 if architecture == "googlenet" and count < 4 else 1)
    statistics = [name for name, value in model.state_dict().items() if not torch.equal(value, before[name])]
    learning = {id(value) for part in freezing.parts(model)[count:] for m in part for value in m.buffers()}
    expected = {name for name, value in model.named_buffers() if id(value) in learning}
    auxiliary = {name for name in statistics if name.startswith("auxiliary")}
    assert set(statistics) - auxiliary == expected
    assert bool(auxiliary) == (architecture == "googlenet" and count < 4)


def test_a_part_that_was_frozen_learns_again() -> None:
    model = catalogue.build("resnet10-small", 3).train()

    freezing.freeze(model, 3)
    freezing.freeze(model, 1)

    learning = [all(p.requires_grad for p in freezing.parameters(part)) for part in freezing.parts(model)]
    assert learning == [False, True, True, True]
    assert [next(part[0].children()).training for part in freezing.parts(model)] == learning


@pytest.mark.parametrize("architecture", ["resnet10-small", "googlenet"])
def test_norms_that_keep_their_statistics_learn_all_the_same(architecture: str) -> None:
    model = build_filled(architecture, 3).train()
    before = {name: value.clone() for name, value in model.named_buffers()}

    freezing.freeze(model, 1, keep_statistics=True)
    parts = model.weighted_logits(torch.randn(4, 3, 32, 32))
    torch.stack([weight * logits.square().sum() for weight, logits in parts]).sum().backward()

    changed = {name for name, value in model.named_buffers() if not torch.equal(value, before[name])}
    assert all(name.startswith("auxiliary") for name in changed)  # which is new, and has none to keep
    assert bool(changed) == (architecture == "googlenet")
    learning = [p for part in freezing.parts(model)[1:] for p in freezing.parameters(part)]
    assert learning
    assert all(p.grad is not None for p in learning)


@pytest.mark.usefixtures("networks")
@pytest.mark.parametrize(
    ("freeze", "every", "frozen"),
    [
        (0, 0, [0, 0, 0, 0, 0, 0, 0]),
        (2, 0, [2, 2, 2, 2, 2, 2, 2]),
        (2, 3, [2, 2, 2, 1, 1, 1, 0]),
        (FEATURES, 0, [3, 3, 3, 3, 3, 3, 3]),
        (FEATURES, 2, [3, 3, 2, 2, 1, 1, 0]),
        (FEATURES, 1, [3, 2, 1, 0, 0, 0, 0]),
    ],
)
def test_one_more_part_learns_every_so_many_epochs(freeze: freezing.Freeze, every: int, frozen: list[int]) -> None:
    model = catalogue.build("staged", 3)

    assert [freezing.frozen_at(epoch, model, freeze, every) for epoch in range(7)] == frozen


@pytest.mark.usefixtures("networks")
@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({}, {"stage 1", "stage 2", "neck", "head", "auxiliary"}),
        ({"freeze": 1}, {"stage 2", "neck", "head"}),
        ({"freeze": 2, "ema": 0.5}, {"neck", "head"}),
        ({"freeze": "features", "optimizer": "adamw"}, {"head"}),
        ({"freeze": "features", "unfreeze_every": 2}, {"neck", "head"}),  # in the third epoch
        ({"freeze": "features", "unfreeze_every": 1}, {"stage 2", "neck", "head"}),
    ],
)
def test_a_run_changes_what_is_not_frozen_alone(changes: dict[str, Any], parts: set[str], source: Path, tmp_path: Path) -> None:
    make_run(tmp_path / "before", source, architecture="helped")
    recipe = make_recipe(architecture="helped", seed=5, weight_decay=0.1, decay_norms=True, **changes)

    train.train(source, tmp_path / "run", recipe, say=False, start_from=tmp_path / "before")

    assert changed(weights(tmp_path / "before"), weights(tmp_path / "run")) == parts


@pytest.mark.usefixtures("networks")
@pytest.mark.parametrize(
    "changes",
    [
        {"freeze": 1},
        {"freeze": "features", "unfreeze_every": 1},
        {"freeze": "features", "unfreeze_every": 1, "optimizer": "adamw", "ema": 0.5},
        {"layer_decay": 0.5},
        {"freeze": 2, "unfreeze_every": 1, "layer_decay": 0.7, "optimizer": "rmsprop"},
    ],
    ids=str,
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="sums on a GPU may come in another order")
def test_a_resumed_run_ends_with_the_very_same_weights(changes: dict[str, Any], source: Path, tmp_path: Path) -> None:
    recipe = make_recipe(architecture="staged", **changes)
    train.train(source, tmp_path / "whole", recipe, say=False)
    with interrupt_at(2 * STEPS_AN_EPOCH + 1), pytest.raises(KeyboardInterrupt):
        train.train(source, tmp_path / "stopped", recipe, say=False)

    train.train(source, tmp_path / "stopped", None, say=False)

    whole, stopped = weights(tmp_path / "whole"), weights(tmp_path / "stopped")
    assert all(torch.equal(whole[name], stopped[name]) for name in whole)
