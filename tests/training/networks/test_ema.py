"""training/networks/ema.py: an average that is exact, starts fast and touches nothing else."""

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.training.stand_ins import normed
from training.networks.ema import Average


def walk(steps: int, decay: float) -> tuple[list[dict[str, Tensor]], Average]:
    """The weights after every step of a network that changes at random, and their average."""
    model = normed(3)
    average = Average(model, decay)
    path = [{name: value.clone() for name, value in model.state_dict().items()}]
    for step in range(steps):
        with torch.no_grad():
            for value in model.parameters():
                value.add_(torch.randn_like(value))
            model.train()(torch.randn(4, 3, 8, 8))  # moves the running statistics
        average.update(step)
        path.append({name: value.clone() for name, value in model.state_dict().items()})
    return path, average


@pytest.mark.parametrize("decay", [0.05, 0.5, 0.9])
def test_weights_and_running_statistics_are_averaged_with_the_decay_that_the_beginning_allows(decay: float) -> None:
    path, average = walk(20, decay)

    for name, value in average.model.state_dict().items():
        expected = path[0][name].double()
        for step, weights in enumerate(path[1:]):
            kept = min(decay, (1 + step) / (10 + step))
            expected = kept * expected + (1 - kept) * weights[name].double()
        if value.is_floating_point():
            np.testing.assert_allclose(value.numpy(), expected.numpy(), rtol=1e-4, atol=1e-5)


def test_counters_are_copied() -> None:
    assert walk(5, 0.9)[1].model.state_dict()["trunk.1.num_batches_tracked"] == 5


def test_the_average_is_another_network_that_nothing_trains() -> None:
    model = normed(3)
    average = Average(model, 0.9)
    weights = {id(p) for p in model.parameters()} | {p.data_ptr() for p in model.parameters()}

    assert not any(p.requires_grad for p in average.model.parameters())
    assert not any(id(p) in weights or p.data_ptr() in weights for p in average.model.parameters())
