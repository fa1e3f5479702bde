"""training/loop/fit_head.py and features.py: a head fitted at once, to what the rest of the network says of plain images."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from tests.training.conftest import Journey
from tests.training.factories import interrupt_at, make_folder, make_recipe, make_run
from training.data import dataset
from training.loop import checkpoint as checkpoints
from training.loop import train
from training.loop.device import Device
from training.loop.features import features_of
from training.loop.linear_head import fit_head

CPU = Device("cpu", None)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "colours")  # 18 pictures to train on and 6 to validate


def make_stripes(root: Path, each: int = 12) -> Path:
    """Grey pictures of stripes of random width, lying in one class and standing in the other."""
    random = np.random.default_rng(3)
    for name in ("lying", "standing"):
        (root / name).mkdir(parents=True)
        for i in range(each):
            wave = 127 + 120 * np.sin(np.arange(28) * random.uniform(0.5, 1.2) + random.uniform(0, 6))
            picture: NDArray[np.uint8] = (np.tile(wave, (28, 1)) + random.normal(0, 10, (28, 28))).clip(0, 255).astype(np.uint8)
            Image.fromarray(picture.T if name == "lying" else picture).save(root / name / f"{i}.png")
    return root


@pytest.mark.parametrize("changes", [{"mirror": True}, {"ema": 0.9}, {"linear_c": 3.0}], ids=str)
def test_a_linear_fit_changes_the_head_alone_to_that_of_plain_training_images(
    changes: dict[str, Any], source: Path, tmp_path: Path
) -> None:
    _, before = make_run(tmp_path / "before", source, seed=7)
    recipe = make_recipe(fit="linear", epochs=9, cutout=4, scale=0.5, seed=7, **changes)

    returned = train.train(source, tmp_path / "run", recipe, say=False, start_from=tmp_path / "before")

    checkpoint, model, _ = checkpoints.load(tmp_path / "run")
    differing = {name for name, value in model.state_dict().items() if not torch.equal(value, before.state_dict()[name])}
    assert differing == {"head.weight", "head.bias"}
    images, validation = dataset.load_training(source, recipe.input, recipe.validation_share, recipe.seed)
    found = features_of(before, checkpoint, images.pixels, CPU, say=False)
    weight, bias = fit_head(found, images.targets, 3, recipe.linear_c)
    answers = model.head(torch.from_numpy(found)).detach().numpy()
    np.testing.assert_allclose(answers, found @ weight.T + bias, rtol=0, atol=0.02)
    assert np.abs(answers).max() > 1
    (entry,) = checkpoint.history
    right = (found @ weight.T + bias).argmax(1) == images.targets
    assert entry["accuracy"] == pytest.approx(right.mean(), abs=1e-4)
    held_out = (features_of(before, checkpoint, validation.pixels, CPU, say=False) @ weight.T + bias).argmax(1)
    assert entry["validation_accuracy"] == pytest.approx((held_out == validation.targets).mean(), abs=1e-4)
    assert (entry["epoch"], entry["learning_rate"], checkpoint.epoch, checkpoint.kept_epoch) == (1, 0.0, 1, 1)
    assert checkpoint == returned


def test_features_are_those_of_the_network_for_images_as_they_are(source: Path, tmp_path: Path) -> None:
    checkpoint, model = make_run(tmp_path / "run", source, mirror=True)
    pixels = np.random.default_rng(0).integers(0, 256, (130, 8, 8, 3)).astype(np.uint8)

    found = features_of(model, checkpoint, pixels, CPU, say=False)

    assert (found.shape, found.dtype) == ((130, 240), np.float32)
    turned = features_of(model, checkpoint, np.ascontiguousarray(pixels[:, :, ::-1]), CPU, say=False)
    np.testing.assert_allclose(found, turned, rtol=1e-4, atol=1e-5)
    assert np.abs(found[0] - found[1]).max() > 1e-2


def test_a_network_whose_trunk_has_nothing_to_learn_is_fitted_and_right(tmp_path: Path) -> None:
    source = make_stripes(tmp_path / "stripes")
    geometry = {"height": 28, "width": 28, "resize": 28}
    recipe = make_recipe(architecture="hog-28", input=geometry, fit="linear", linear_c=0.001)

    checkpoint = train.train(source, tmp_path / "run", recipe, say=False)

    assert checkpoint.history[-1]["validation_accuracy"] == 1.0
    assert checkpoint.history[-1]["loss"] < 0.5


def test_a_fitted_run_is_finished(source: Path, tmp_path: Path) -> None:
    recipe = make_recipe(fit="linear")
    train.train(source, tmp_path / "run", recipe, say=False)
    before = checkpoints.load(tmp_path / "run")[1].state_dict()

    with interrupt_at(1):
        checkpoint = train.train(source, tmp_path / "run", None, say=False)

    assert checkpoint.epoch == 1
    assert all(torch.equal(value, before[name]) for name, value in checkpoints.load(tmp_path / "run")[1].state_dict().items())


def test_features_of_a_trained_network_tell_its_classes_apart(journey: Journey, tmp_path: Path) -> None:
    recipe = make_recipe(input={"height": 16, "width": 16, "resize": 16}, fit="linear")

    checkpoint = train.train(journey.data, tmp_path / "run", recipe, say=False, start_from=journey.run)

    assert checkpoint.history[0]["validation_accuracy"] > 0.6  # chance is 1/3
