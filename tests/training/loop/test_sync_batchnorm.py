"""training/loop/sync_batchnorm.py: statistics and gradients of several processes are those of one with the whole batch."""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.training import children
from tests.training.stand_ins import normed
from training.loop import distributed, sync_batchnorm
from training.loop.sync_batchnorm import SharedBatchNorm

CUTS = {"halves": (0, 4, 8), "unlike parts": (0, 1, 8)}
SHAPES = {"maps": (8, 3, 5, 4), "vectors": (8, 3)}


def sample(shape: Sequence[int]) -> tuple[Tensor, nn.Module, Tensor]:
    """Inputs far from mean 0, a layer that has seen something before, and what its outputs are weighted with in the loss."""
    torch.manual_seed(5)
    layer = (nn.BatchNorm2d if len(shape) > 2 else nn.BatchNorm1d)(shape[1])
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn_like(parameter))
    layer(torch.randn(shape))
    return 3 * torch.randn(shape) + 7, layer, torch.randn(shape)


def pass_through(layer: nn.Module, inputs: Tensor, weights: Tensor) -> dict[str, Any]:
    inputs = inputs.clone().requires_grad_()
    outputs = layer.train()(inputs)
    (outputs * weights).square().sum().backward()
    gradients = {f"gradient of {name}": parameter.grad for name, parameter in layer.named_parameters()}
    answers = layer.eval()(inputs)
    return {"outputs": outputs, "answers": answers, "inputs": inputs.grad, **gradients, **layer.state_dict()}


def compute(folder: Path, cuts: Sequence[int], shape: Sequence[int]) -> None:
    """In one of several processes: write down what the shared layer makes of this process's part."""
    with distributed.joined() as group:
        inputs, layer, weights = sample(shape)
        whole = nn.Sequential(layer)
        sync_batchnorm.share(whole)
        assert isinstance(whole[0], SharedBatchNorm)
        part = slice(cuts[group.rank], cuts[group.rank + 1])
        torch.save(pass_through(whole[0], inputs[part], weights[part]), folder / f"{group.rank}.pt")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there torch's own layer is used")
@pytest.mark.parametrize(("cuts", "shape"), [("halves", "maps"), ("unlike parts", "maps"), ("unlike parts", "vectors")])
def test_two_processes_compute_what_one_does(cuts: str, shape: str, tmp_path: Path) -> None:
    pair = [children.call(compute, tmp_path, CUTS[cuts], SHAPES[shape], environment=e) for e in children.together(2)]
    assert [children.finish(process) for process in pair] == [0, 0]
    parts: list[dict[str, Any]] = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]

    inputs, layer, weights = sample(SHAPES[shape])
    expected = pass_through(layer, inputs, weights)

    assert parts[0].keys() == expected.keys()
    for name, value in expected.items():
        first, second = parts[0][name], parts[1][name]
        if name in ("outputs", "answers", "inputs"):
            found = torch.cat([first, second])
        elif name.startswith("gradient"):
            found = first + second  # of which epoch.py makes the sum
        else:
            assert torch.equal(first, second), name
            found = first
        torch.testing.assert_close(found, value, rtol=1e-4, atol=1e-4, msg=name)


def test_names_and_values_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    model = normed(3)
    before = deepcopy(model.state_dict())

    sync_batchnorm.share(model)

    assert sum(isinstance(layer, SharedBatchNorm) for layer in model.modules()) == 2
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
