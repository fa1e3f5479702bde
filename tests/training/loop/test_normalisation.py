"""training/loop/normalisation.py: pixels on the scale that networks learn best on."""

import pytest
import torch

from tests.training.factories import make_images, make_recipe
from training.data import dataset
from training.loop.checkpoint import Checkpoint
from training.loop.normalisation import normalise


def test_normalised_training_images_have_mean_zero_and_deviation_one() -> None:
    images = make_images([20, 20], height=8, width=6)
    checkpoint = Checkpoint(make_recipe(), images.classes, *dataset.channel_statistics(images))

    normalised = normalise(torch.from_numpy(images.pixels), checkpoint)

    assert normalised.shape == (40, 3, 8, 6)
    assert normalised.dtype == torch.float32
    assert normalised.mean((0, 2, 3)).tolist() == pytest.approx([0, 0, 0], abs=1e-3)
    assert normalised.std((0, 2, 3)).tolist() == pytest.approx([1, 1, 1], abs=1e-2)
    pixel = (images.pixels[5, 7, 2, 1] - checkpoint.mean[1]) / checkpoint.std[1]
    assert normalised[5, 1, 7, 2].item() == pytest.approx(pixel)
