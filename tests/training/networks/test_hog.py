"""training/networks/hog.py: the same histograms as skimage's, in torch and in an exported graph."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from skimage.feature import hog as reference
from torch import Tensor

from tests.factories import run_onnx
from tests.training.factories import make_recipe
from training.loop.checkpoint import Checkpoint
from training.loop.normalisation import normalise
from training.networks import catalogue
from training.networks.hog import Hog
from training.publishing import export

Floats = NDArray[np.float32]


def noise(side: int) -> Floats:
    return np.random.default_rng(side).integers(0, 256, (20, side, side, 3)).astype(np.float32)


def grey_noise(side: int) -> Floats:
    return np.repeat(noise(side)[..., :1], 3, 3)


def waves(side: int) -> Floats:
    """Smooth images, whole numbers as pixels are, with all orientations and flat parts."""
    y, x = np.mgrid[:side, :side] / side
    angles = np.linspace(0, 2 * np.pi, 20)[:, None, None]
    wave = np.sin(9 * (x * np.cos(angles) + y * np.sin(angles)) ** 2).clip(-0.7, 0.7)
    return np.stack([(127 + scale * wave).round() for scale in (90, 120, 60)], 3).astype(np.float32)


def described(images: Floats) -> Tensor:
    """By the trunk: (n, 36, rows, columns)."""
    return Hog()(torch.from_numpy(images).permute(0, 3, 1, 2))


def expected(images: Floats) -> Tensor:
    """By skimage, in the same layout."""
    blocks = [
        reference(image.astype(np.float64), 9, (4, 4), (2, 2), "L2-Hys", feature_vector=False, channel_axis=2) for image in images
    ]
    found = torch.from_numpy(np.stack(blocks))  # (n, rows, columns, 2, 2, 9)
    return found.flatten(3).permute(0, 3, 1, 2).float()


@pytest.mark.parametrize("side", [28, 32])
@pytest.mark.parametrize("make", [noise, grey_noise, waves])
def test_the_descriptor_is_that_of_skimage(make: Callable[[int], Floats], side: int) -> None:
    images = make(side)

    found = described(images)

    assert found.shape == (20, 36, side // 4 - 1, side // 4 - 1)
    torch.testing.assert_close(found, expected(images), rtol=0, atol=1e-4)
    assert found.std() > 0.05


def test_cells_that_do_not_fill_the_image_are_left_out_as_skimage_does() -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 31, 22, 3)).astype(np.float32)

    torch.testing.assert_close(described(images), expected(images), rtol=0, atol=1e-4)


@pytest.mark.parametrize("side", [28, 32])
def test_normalised_pixels_have_the_descriptor_of_the_pixels(side: int) -> None:
    images = waves(side)

    torch.testing.assert_close(described((images - np.float32(120.7)) / np.float32(61.3)), described(images), rtol=0, atol=1e-3)


def test_a_gradient_votes_for_its_orientation_alone_whichever_way_it_points() -> None:
    """Ramps in 18 directions, 10 degrees beyond a border between orientations and so in the middle of one."""
    y, x = np.mgrid[:12, :12].astype(np.float32)
    for step in range(18):
        angle = np.deg2rad(20 * step + 10)
        ramp = np.repeat((x * np.cos(angle) + y * np.sin(angle))[..., None], 3, 2).astype(np.float32)

        cell = described(ramp[None])[0, :, 0, 0].reshape(4, 9)[3]  # the cell in the middle of the image

        assert cell.argmax() == step % 9
        assert cell.count_nonzero() == 1


def test_a_flat_image_is_described_by_zeros() -> None:
    assert described(np.full((1, 28, 28, 3), 7, np.float32)).count_nonzero() == 0


def test_halves_are_described_as_floats_are_and_answered_in_halves() -> None:
    images = torch.from_numpy(waves(28)).permute(0, 3, 1, 2) / 64

    found = Hog()(images.half())

    assert found.dtype == torch.float16
    torch.testing.assert_close(found, Hog()(images.half().float()).half())


def test_the_trunk_has_nothing_to_learn() -> None:
    model = catalogue.build("hog-28", 3)

    assert list(model.trunk.state_dict()) == []
    assert set(model.state_dict()) == {"head.weight", "head.bias"}
    assert model.stages() == []


@torch.inference_mode()
def test_a_graph_describes_all_images_as_torch_does(tmp_path: Path) -> None:
    """Flat ones and such with equal channels among them, where rounding could decide."""
    recipe = make_recipe(architecture="hog-28", input={"height": 28, "width": 28, "resize": 28})
    checkpoint = Checkpoint(recipe, ("a", "b", "c"), [125.3, 123.0, 113.9], [63.0, 62.1, 66.7])
    model = checkpoint.build().eval()
    pixels = np.concatenate([f(28) for f in (noise, grey_noise, waves)]).astype(np.uint8)
    pixels[3], pixels[4, :, 5:] = 255, 0

    export.write_onnx(model, checkpoint, tmp_path / "model.onnx")

    outputs = run_onnx(tmp_path / "model.onnx", pixels)
    logits, features, feature_map = model.outputs(normalise(torch.from_numpy(pixels), checkpoint))
    np.testing.assert_allclose(outputs["feature_map"], feature_map.numpy(), rtol=0, atol=1e-4)
    np.testing.assert_allclose(outputs["features"], features.numpy(), rtol=0, atol=1e-4)
    np.testing.assert_allclose(outputs["logits"], logits.numpy(), rtol=0, atol=1e-4)
