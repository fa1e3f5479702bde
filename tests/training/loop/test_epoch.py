"""training/loop/epoch.py: steps, sums of gradients, the average, and what is measured on the way."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from tests.training.factories import make_folder, make_recipe
from training.data import dataset
from training.errors import RecipeError
from training.loop import checkpoint as checkpoints
from training.loop import epoch, train
from training.loop.device import Device
from training.networks.classifier import Classifier

pytestmark = pytest.mark.usefixtures("networks")
AS_THEY_ARE: dict[str, Any] = {"crop_padding": 0, "flip": False}
STILL: dict[str, Any] = {"schedule": "constant", "warmup_share": 0.0, "momentum": 0.0, "weight_decay": 0.0}
CPU = Device("cpu", None)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "colours")  # 18 pictures to train on and 6 to validate


@pytest.fixture
def weights_after(source: Path, tmp_path: Path) -> Callable[..., dict[str, Tensor]]:
    """The weights that a recipe ends with."""

    def run(**changes: Any) -> dict[str, Tensor]:
        folder = tmp_path / f"run-{len(list(tmp_path.iterdir()))}"
        train.train(source, folder, make_recipe(architecture="plain", precision="fp32", **changes), say=False)
        return checkpoints.load(folder)[1].state_dict()

    return run


def distance(first: dict[str, Tensor], second: dict[str, Tensor]) -> float:
    return math.sqrt(sum((first[name] - second[name]).square().sum().item() for name in first))


def test_gradients_of_small_batches_added_up_are_those_of_one_big_batch(weights_after: Callable[..., dict[str, Tensor]]) -> None:
    big = weights_after(batch_size=18, **AS_THEY_ARE)

    assert distance(weights_after(batch_size=6, accumulate=3, **AS_THEY_ARE), big) < 1e-6
    assert distance(weights_after(batch_size=6, **AS_THEY_ARE), big) > 1e-3


def test_a_last_step_of_fewer_batches_is_a_mean_over_these(weights_after: Callable[..., dict[str, Tensor]]) -> None:
    assert distance(weights_after(batch_size=6, accumulate=5), weights_after(batch_size=6, accumulate=3)) == 0


def test_the_losses_of_a_run_that_adds_up_gradients_are_those_of_one_with_big_batches(source: Path, tmp_path: Path) -> None:
    losses = [
        [entry["loss"] for entry in train.train(source, tmp_path / name, make_recipe(**changes), say=False).history]
        for name, changes in {
            "big": {"architecture": "plain", "batch_size": 18, **AS_THEY_ARE},
            "small": {"architecture": "plain", "batch_size": 6, "accumulate": 3, **AS_THEY_ARE},
        }.items()
    ]

    assert losses[0] == pytest.approx(losses[1], abs=1.1e-4)  # they are rounded to 4 places


@pytest.mark.parametrize("limit", [1e-3, 1e-2])
def test_a_long_gradient_is_shortened_to_the_limit(limit: float, weights_after: Callable[..., dict[str, Tensor]]) -> None:
    changes = {"epochs": 1, "batch_size": 18, "learning_rate": 1.0, **STILL}
    before = weights_after(**changes | {"learning_rate": 1e-12})

    assert distance(weights_after(**changes, clip_norm=limit), before) == pytest.approx(limit, rel=1e-2)
    assert distance(weights_after(**changes), before) > 2e-2


def test_a_gradient_below_the_limit_is_left_as_it_is(weights_after: Callable[..., dict[str, Tensor]]) -> None:
    assert distance(weights_after(clip_norm=1e6), weights_after()) == 0


def test_the_average_of_the_weights_is_what_is_validated_and_kept(source: Path, tmp_path: Path) -> None:
    recipe = make_recipe(architecture="plain", ema=0.8)
    train.train(source, tmp_path / "plain", make_recipe(architecture="plain"), say=False)
    train.train(source, tmp_path / "run", recipe, say=False)

    checkpoint, answering, content = checkpoints.load(tmp_path / "run")
    trained = checkpoints.load(tmp_path / "plain")[1].state_dict()

    assert distance(content["model"], trained) == 0
    assert distance(content["average"], answering.state_dict()) == 0
    assert distance(trained, answering.state_dict()) > 1e-3
    validation = dataset.load_training(source, recipe.input, recipe.validation_share, recipe.seed)[1]
    loss, accuracy = epoch.evaluate(answering, checkpoint, validation, CPU)
    assert loss == pytest.approx(checkpoint.history[-1]["validation_loss"], abs=1e-4)
    assert accuracy == pytest.approx(checkpoint.history[-1]["validation_accuracy"], abs=1e-4)


def scaler_of_the_cpu(_: Device) -> torch.GradScaler:
    return torch.GradScaler("cpu", init_scale=2.0**10)


def test_gradients_that_are_scaled_are_clipped_and_taken_at_their_true_size(
    weights_after: Callable[..., dict[str, Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = weights_after(clip_norm=0.05)
    monkeypatch.setattr(Device, "scaler", scaler_of_the_cpu)

    assert distance(weights_after(clip_norm=0.05), expected) < 1e-6


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_run_in_fp16_learns_what_one_in_fp32_does(source: Path, tmp_path: Path) -> None:
    losses = [
        train.train(source, tmp_path / name, make_recipe(architecture="normed", precision=name), say=False).history[-1]["loss"]
        for name in ("fp16", "fp32")
    ]

    assert losses[0] == pytest.approx(losses[1], rel=0.1)


@pytest.mark.parametrize("channels_last", [True, False])
def test_images_and_kernels_lie_in_memory_as_the_recipe_says(channels_last: bool, source: Path, tmp_path: Path) -> None:
    seen: list[bool] = []

    def watch(module: nn.Module, images: tuple[Tensor]) -> None:
        if isinstance(module, nn.Conv2d):
            seen.extend(x.is_contiguous(memory_format=torch.channels_last) for x in (images[0], module.weight))

    handle = register_module_forward_pre_hook(watch)
    train.train(source, tmp_path / "run", make_recipe(architecture="plain", epochs=1, channels_last=channels_last), say=False)
    handle.remove()

    assert set(seen) == {channels_last}


def test_the_layout_in_memory_does_not_change_what_is_learnt(weights_after: Callable[..., dict[str, Tensor]]) -> None:
    assert distance(weights_after(channels_last=False), weights_after()) < 1e-5


class TwoHeaded(Classifier):
    """A second head knows nothing, so its loss is log(classes); it counts a quarter."""

    def parts(self, images: Tensor) -> tuple[list[tuple[float, Tensor]], Tensor]:
        logits, features, _ = self.outputs(images)
        return [(1.0, logits), (0.25, torch.zeros_like(logits))], features


def test_the_loss_is_the_weighted_sum_over_the_heads_and_the_first_one_answers(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.training.stand_ins.Classifier", TwoHeaded)
    recipe = make_recipe(architecture="plain", learning_rate=1e-12, epochs=1, label_smoothing=0.0, **AS_THEY_ARE)

    checkpoint = train.train(source, tmp_path / "run", recipe, say=False)

    images = dataset.load_training(source, recipe.input, recipe.validation_share, recipe.seed)[0]
    loss, accuracy = epoch.evaluate(checkpoints.load(tmp_path / "run")[1], checkpoint, images, CPU)
    assert checkpoint.history[0]["loss"] == pytest.approx(loss + 0.25 * math.log(3), abs=1e-4)
    assert checkpoint.history[0]["accuracy"] == pytest.approx(accuracy, abs=1e-4)


def test_a_compiled_network_is_compiled_once_and_keeps_the_names_of_its_weights(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[object] = []

    def fake(function: Callable[..., object]) -> Callable[..., object]:
        compiled.append(function)
        return lambda images: function(images)

    monkeypatch.setattr(torch, "compile", fake)
    for name, flag in (("plain", False), ("compiled", True)):
        train.train(source, tmp_path / name, make_recipe(architecture="plain", compile=flag), say=False)

    assert len(compiled) == 1
    first, second = (checkpoints.load(tmp_path / name)[1].state_dict() for name in ("plain", "compiled"))
    assert distance(first, second) == 0


@pytest.mark.long
def test_torch_compiles_a_network_that_learns_the_same(source: Path, tmp_path: Path) -> None:
    for name, flag in (("plain", False), ("compiled", True)):
        train.train(source, tmp_path / name, make_recipe(architecture="normed", compile=flag), say=False)

    first, second = (checkpoints.load(tmp_path / name)[1].state_dict() for name in ("plain", "compiled"))
    assert first.keys() == second.keys()
    assert distance(first, second) < 1e-3


def test_precision_that_the_machine_lacks_is_refused_before_the_images_are_read(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has fp16")

    with pytest.raises(RecipeError, match="fp16"):
        train.train(tmp_path / "no such folder", tmp_path / "run", make_recipe(precision="fp16"), say=False)

    assert not (tmp_path / "run").exists()


def test_every_epoch_and_process_drops_other_units_and_the_same_ones_when_it_is_repeated() -> None:
    numbers = [(seed, number, rank) for seed in range(3) for number in range(9) for rank in range(2)]

    seeds = [epoch.seed_of_dropout(*triple) for triple in numbers]

    assert seeds == [epoch.seed_of_dropout(*triple) for triple in numbers]
    assert len(set(seeds)) == len(numbers)
