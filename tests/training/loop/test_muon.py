"""training/loop/muon.py: which weights move by orthogonal matrices, where to, and that a run of them is one like any other."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.training import children
from tests.training.factories import make_folder, make_recipe, same, write_recipe
from training.__main__ import main
from training.loop import checkpoint as checkpoints
from training.loop.muon import Muon, orthogonal
from training.loop.optimizer import make_optimizer, set_rate
from training.networks import catalogue

STEPS_AN_EPOCH = 3  # of 18 pictures in batches of 6


@pytest.mark.parametrize("shape", [(8, 8), (8, 40), (40, 8), (1, 5)])
def test_a_matrix_keeps_its_directions_and_loses_their_sizes(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)

    sizes = left.T @ orthogonal(matrix) @ right.T

    torch.testing.assert_close(sizes, sizes.diagonal().diag(), atol=1e-5, rtol=0)
    assert (sizes.diagonal() > 0.2).all()
    assert (sizes.diagonal() < 1.3).all()


def test_a_gradient_of_nothing_moves_nothing() -> None:
    assert orthogonal(torch.zeros(3, 4)).abs().max() == 0


def test_hidden_kernels_move_by_muon_and_all_else_by_sgd() -> None:
    with torch.device("meta"):
        model = catalogue.build("vgg8-small", 3)
    names = {id(value): name for name, value in model.named_parameters()}
    moving = make_optimizer(model, make_recipe(optimizer="muon", learning_rate=0.3, muon_rate=0.06, weight_decay=0.01))

    set_rate(moving, 0.15, 0.9)

    by_muon, decayed, kept = ({names[id(p)] for p in group["params"]} for group in moving.param_groups)
    kernels = {name for name, value in model.named_parameters() if value.ndim == 4}
    assert by_muon == kernels - {"trunk.0.weight"}
    assert decayed == {"trunk.0.weight", "head.weight"}
    assert by_muon | decayed | kept == set(names.values())
    assert [group["lr"] for group in moving.param_groups] == pytest.approx([0.03, 0.15, 0.15])
    assert [group["weight_decay"] for group in moving.param_groups] == [0, 0.01, 0]


def test_a_kernel_for_each_channel_alone_moves_by_sgd() -> None:
    layer = nn.Conv2d(8, 8, 3, groups=8, bias=False)

    assert [len(group["params"]) for group in make_optimizer(layer, make_recipe(optimizer="muon")).param_groups] == [0, 1, 0]


def turn(layer: nn.Conv2d, gradients: list[Tensor]) -> None:
    moving = make_optimizer(layer, make_recipe(optimizer="muon", learning_rate=0.2, muon_rate=0.1, weight_decay=0.5))
    assert isinstance(moving, Muon)
    for gradient in gradients:
        layer.weight.grad = gradient.clone()
        set_rate(moving, 0.2, 0.5)
        moving.step()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_kernel_gets_its_length_and_goes_against_nesterovs_momentum(layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(5, 4, 3, bias=False).to(memory_format=layout)  # type: ignore[call-overload]
    weight, first, second = layer.weight.detach().clone(), torch.randn(4, 5, 3, 3), torch.randn(4, 5, 3, 3)

    turn(layer, [first, second])

    for direction in (first + 0.5 * first, second + 0.5 * (0.5 * first + second)):
        weight = 2 * weight / weight.norm()
        weight = weight - 0.1 * orthogonal(direction.reshape(4, 45)).reshape(4, 5, 3, 3)
    torch.testing.assert_close(layer.weight.detach(), weight, atol=1e-6, rtol=1e-5)


def test_a_frozen_kernel_keeps_its_length() -> None:
    layer = nn.Conv2d(5, 4, 3)
    before = layer.weight.detach().clone()
    moving = make_optimizer(layer, make_recipe(optimizer="muon"))
    assert layer.bias is not None
    layer.bias.grad = torch.ones(4)

    moving.step()

    assert torch.equal(layer.weight, before)


@pytest.mark.usefixtures("networks")
@pytest.mark.skipif(torch.cuda.is_available(), reason="sums on a GPU may come in another order")
def test_a_run_that_was_killed_goes_on_to_the_very_same_weights(tmp_path: Path) -> None:
    source, changes = make_folder(tmp_path / "colours"), {"architecture": "normed", "optimizer": "muon"}
    assert children.finish(children.begin(source, tmp_path / "whole", changes)) == 0
    place = ("at a step", STEPS_AN_EPOCH + 2)
    assert children.finish(children.begin(source, tmp_path / "run", changes, place)) == children.KILLED

    assert children.finish(children.begin(source, tmp_path / "run", None)) == 0

    assert same(remembered(tmp_path / "whole"), remembered(tmp_path / "run"))


def remembered(run: Path) -> dict[str, Tensor]:
    """The weights of a run and the momentum of each."""
    _, model, content = checkpoints.load(run)
    momentum = {f"momentum of {key}": value["momentum_buffer"] for key, value in content["optimizer"]["state"].items()}
    assert len(momentum) == len(list(model.parameters()))
    return model.state_dict() | momentum


def test_a_run_by_muon_is_exported_and_its_package_names_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, run, store = tmp_path / "colours", tmp_path / "run", tmp_path / "store"
    make_folder(data / "train", each=12)
    make_folder(data / "test", each=3, seed=500)
    recipe = write_recipe(tmp_path / "muon.toml", optimizer="muon", input={"height": 16, "width": 16, "resize": 16})

    for command in (["train", data, "--recipe", recipe, "--out", run], ["evaluate", run, data], ["export", run, data]):
        assert main([*map(str, command), "--json"]) == 0
    assert main(["publish", str(run), "--name", "colours", "--store", str(store), "--json"]) == 0

    capsys.readouterr()
    manifest = json.loads((store / "colours" / "1" / "manifest.json").read_text())
    assert manifest["provenance"]["recipe"]["optimizer"] == "muon"
