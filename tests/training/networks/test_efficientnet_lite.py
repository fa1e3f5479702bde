"""training/networks/efficientnet_lite.py and pretrained.py: the weights of the installed package, in the network they are for."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from models.imagenet import packaged
from models.imagenet.packaged import Packaged
from tests.training.networks.factories import build_filled
from training.errors import CheckpointError
from training.networks import efficientnet_lite, pretrained
from training.networks.efficientnet_lite import Convolution

CLASSES = 1000


def test_the_weights_in_the_package_are_those_of_the_network_each_once() -> None:
    path = pretrained.find(efficientnet_lite.NAME, pretrained.LITE0)
    model = efficientnet_lite.efficientnet_lite0(CLASSES)

    weights = pretrained.read(efficientnet_lite.NAME, path, CLASSES)

    assert {name: value.shape for name, value in weights.items()} == {n: v.shape for n, v in model.state_dict().items()}
    content = torch.load(path, map_location="cpu", weights_only=True)
    assert sorted(float(v.double().sum()) for v in weights.values()) == sorted(float(v.double().sum()) for v in content.values())
    assert torch.equal(weights["trunk.2.layers.3.weight"], content["_blocks.1._depthwise_conv.weight"])


@torch.inference_mode()
def test_with_these_weights_nothing_in_the_network_is_lost_or_runs_away() -> None:
    """Were a layer's statistics another's, signals would fade or grow from block to block."""
    model = efficientnet_lite.efficientnet_lite0(CLASSES).eval()
    model.load_state_dict(pretrained.read(efficientnet_lite.NAME, pretrained.LITE0_FILE.find(), CLASSES))
    mean, std = pretrained.normalisation(efficientnet_lite.NAME)
    smooth = np.random.default_rng(0).integers(0, 256, (4, 3, 7, 7)).astype(np.float32)
    images = functional.interpolate((torch.from_numpy(smooth) - mean[0]) / std[0], (224, 224), mode="bicubic")

    logits, features, _ = model.outputs(images)

    assert 1 < logits.std() < 4
    assert (features > 0).float().mean() > 0.3


def test_the_head_is_left_out_where_the_classes_are_others() -> None:
    weights = pretrained.read(efficientnet_lite.NAME, pretrained.LITE0_FILE.find())

    assert {name.partition(".")[0] for name in weights} == {"trunk"}


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("side", [7, 8, 9])
def test_a_stride_of_two_looks_at_the_pixels_that_tensorflows_does(kernel: int, side: int) -> None:
    """Of "SAME": as many outputs as pixels by two, rounded up, and the odd one of the padding at the end."""
    layer = Convolution(1, 1, kernel, 2)
    torch.nn.init.ones_(layer.weight)
    places = torch.arange(side, dtype=torch.float32)
    image = 2 ** places[None, None, None, :] * torch.ones(side, 1)

    found = layer(image)[0, 0]

    outputs = (side + 1) // 2
    padding = max((outputs - 1) * 2 + kernel - side, 0)
    begins = [2 * i - padding // 2 for i in range(outputs)]
    seen = [sum(2**x for x in range(side) if begin <= x < begin + kernel) for begin in begins]
    rows = [sum(begin <= y < begin + kernel for y in range(side)) for begin in begins]
    assert found.tolist() == [[float(row * column) for column in seen] for row in rows]


def test_without_the_package_one_line_says_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = Packaged("efficientnet-lite9-pytorch-model", "none.pth", "00" * 32)
    monkeypatch.setattr(pretrained, "LITE0_FILE", missing)

    with pytest.raises(CheckpointError) as caught:
        pretrained.find(efficientnet_lite.NAME, pretrained.LITE0)

    assert "efficientnet-lite9-pytorch-model" in str(caught.value)
    assert "'make setup'" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_damaged_file_in_the_package_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / pretrained.LITE0_FILE.path
    path.parent.mkdir(parents=True)
    shutil.copyfile(pretrained.LITE0_FILE.find(), path)
    with open(path, "r+b") as file:
        file.seek(1000)
        file.write(b"others")

    class Installed:
        def locate_file(self, name: str) -> Path:
            return tmp_path / name

    monkeypatch.setattr(packaged, "distribution", lambda _: Installed())

    with pytest.raises(CheckpointError, match=rf"{path} is damaged .* begins with [0-9a-f]{{8}}, not 57934424; .*'make setup'"):
        pretrained.find(efficientnet_lite.NAME, pretrained.LITE0)

    path.unlink()
    with pytest.raises(CheckpointError, match="lacks its file"):
        pretrained.find(efficientnet_lite.NAME, pretrained.LITE0)


@torch.inference_mode()
def test_features_are_the_mean_of_the_feature_map() -> None:
    model = build_filled(efficientnet_lite.NAME, 3)

    _, features, feature_map = model.outputs(torch.randn(2, 3, 40, 52))

    torch.testing.assert_close(features, feature_map.mean((2, 3)))
