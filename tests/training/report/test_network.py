"""training/report/network.py: the stages of every kind of trunk, one after the other, are the trunk."""

import numpy as np
import pytest
import torch
from torch import nn

from tests.training.factories import make_recipe
from training.loop.checkpoint import Checkpoint
from training.networks import catalogue
from training.report import network


@pytest.mark.parametrize(
    ("architecture", "side", "expected"),
    [
        pytest.param("resnet10-small", 32, [(32, 32), (64, 16), (192, 8), (240, 4)], id="resnet10-small"),
        pytest.param("resnet18", 64, [(64, 16), (64, 16), (128, 8), (256, 4), (512, 2)], id="resnet18"),
        pytest.param("vgg11", 64, [(64, 32), (128, 16), (256, 8), (512, 4), (512, 2)], id="vgg11"),
        pytest.param("vgg16_bn", 64, [(64, 32), (128, 16), (256, 8), (512, 4), (512, 2)], id="vgg16_bn"),
    ],
)
def test_the_stages_are_the_trunk_cut_where_the_sides_shrink(
    architecture: str, side: int, expected: list[tuple[int, int]]
) -> None:
    with torch.device("meta"):
        model = catalogue.build(architecture, 3)
    x = torch.empty(1, 3, side, side, device="meta")
    found: list[tuple[int, int]] = []
    for stage in model.stages():
        x = stage(x)
        found.append((x.shape[1], x.shape[2]))

    assert found == expected
    assert isinstance(model.trunk, nn.Sequential)
    assert [layer for stage in model.stages() for layer in stage] == list(model.trunk)


def test_what_the_stages_put_out_ends_with_the_feature_map() -> None:
    torch.manual_seed(0)
    model = catalogue.build("resnet10-small", 3).eval()
    checkpoint = Checkpoint(make_recipe(), ("a", "b", "c"), [120.0] * 3, [60.0] * 3)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3)).astype(np.uint8)

    outputs = network.outputs(model, checkpoint, pixels)

    with torch.inference_mode():
        expected = model.trunk(network.inputs(model, checkpoint, pixels))
        first = nn.Sequential(*list(model.trunk.children())[:3])(network.inputs(model, checkpoint, pixels))
    torch.testing.assert_close(outputs[-1], expected)
    torch.testing.assert_close(outputs[0], first)  # not overwritten by the stages after it
