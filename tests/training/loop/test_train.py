"""training/loop/train.py: the rate, the optimizer, the loop, and what happens when it is stopped half-way."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.modules.module import register_module_forward_pre_hook

import training
from models.image.spec import InputSpec
from tests.factories import make_image
from tests.training.conftest import Journey
from tests.training.factories import EVERYTHING, interrupt_at, make_folder, make_recipe, make_run, same, timeless, write_recipe
from training.__main__ import main
from training.data import dataset
from training.data.lineage import unpack
from training.errors import CheckpointError, DivergenceError
from training.loop import checkpoint as checkpoints
from training.loop import train
from training.networks.classifier import Classifier

STEPS_AN_EPOCH = 3  # of the pictures below: 24, of which 6 to validate, in batches of 6


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "colours")


def weights(run: Path) -> dict[str, torch.Tensor]:
    return checkpoints.load(run)[1].state_dict()


def test_a_run_learns_its_training_images_better_than_by_chance(journey: Journey) -> None:
    history = checkpoints.load(journey.run)[0].history

    assert [entry["epoch"] for entry in history] == [1, 2, 3, 4]
    assert history[-1]["validation_accuracy"] > 0.6  # chance is 1/3
    assert history[-1]["loss"] < history[0]["loss"]


def test_a_run_in_bf16_keeps_float32_weights(source: Path, tmp_path: Path) -> None:
    checkpoint = train.train(source, tmp_path / "run", make_recipe(epochs=1, precision="bf16"), say=False)

    assert np.isfinite(checkpoint.history[0]["validation_loss"])
    assert {value.dtype for value in weights(tmp_path / "run").values()} == {torch.float32, torch.int64}


def test_the_sidecar_says_what_was_trained_on(source: Path, tmp_path: Path) -> None:
    (source / "red" / "note.png").write_text("no picture")
    returned = train.train(source, tmp_path / "run", make_recipe(epochs=1), say=False)

    checkpoint = checkpoints.load(tmp_path / "run")[0]

    assert checkpoint == returned
    training_images, validation = dataset.load_training(source, make_recipe().input, 0.25, 0)
    assert checkpoint.data == {
        "folder": "colours",
        "training_images": 18,
        "validation_images": 6,
        "training_sha256": dataset.fingerprint(training_images),
        "validation_sha256": dataset.fingerprint(validation),
        "skipped": list(training_images.skipped),
    }
    assert len(training_images.skipped) == 1
    assert checkpoint.provenance.keys() >= {"command", "git_commit", "libraries", "hardware"}
    assert checkpoint.seconds > 0


def test_progress_and_files_left_out_are_told_on_standard_error(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (source / "red" / "note.png").write_text("no picture")
    train.train(source, tmp_path / "run", make_recipe(epochs=1))

    said = capsys.readouterr()

    assert said.out == ""
    assert f"left out: {source / 'red' / 'note.png'}: the file looks like text" in said.err
    assert "18 training and 6 validation images of 3 classes" in said.err
    assert "epoch 1  loss " in said.err


@pytest.mark.parametrize(
    ("step", "epoch"),
    [
        pytest.param(STEPS_AN_EPOCH + 1, 1, id="at the start of the second epoch"),
        pytest.param(2 * STEPS_AN_EPOCH, 1, id="at the end of the second epoch"),
        pytest.param(3 * STEPS_AN_EPOCH, 2, id="at the last step"),
    ],
)
@pytest.mark.parametrize("changes", [{"cutout": 2, "cutmix": 0.5}, EVERYTHING], ids=["cutmix", "everything"])
@pytest.mark.skipif(torch.cuda.is_available(), reason="sums on a GPU may come in another order")
def test_a_run_that_was_stopped_and_resumed_ends_with_the_very_same_weights(
    step: int, epoch: int, changes: dict[str, Any], source: Path, tmp_path: Path
) -> None:
    recipe = make_recipe(**changes)
    whole = train.train(source, tmp_path / "whole", recipe, say=False)
    with interrupt_at(step), pytest.raises(KeyboardInterrupt):
        train.train(source, tmp_path / "stopped", recipe, say=False)
    assert checkpoints.load(tmp_path / "stopped")[0].epoch == epoch
    torch.manual_seed(99)  # as another process would have

    resumed = train.train(source, tmp_path / "stopped", None, say=False)

    assert same(weights(tmp_path / "stopped"), weights(tmp_path / "whole"))
    assert timeless(resumed) == timeless(whole)


def test_the_seed_decides_the_weights(source: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train.train(source, tmp_path / name, make_recipe(epochs=1, seed=seed), say=False)

    first, again, other = (checkpoints.load(tmp_path / name)[0].history[0]["loss"] for name in "abc")
    assert first == pytest.approx(again, rel=1e-3)
    assert first != pytest.approx(other, rel=1e-3)


def test_every_epoch_shows_the_same_images_in_another_order(source: Path, tmp_path: Path) -> None:
    shown: list[bytes] = []

    def watch(module: object, images: tuple[torch.Tensor]) -> None:
        if isinstance(module, Classifier) and module.training:
            shown.extend(image.cpu().numpy().tobytes() for image in images[0])

    handle = register_module_forward_pre_hook(watch)
    train.train(source, tmp_path / "run", make_recipe(epochs=2, crop_padding=0, flip=False), say=False)
    handle.remove()

    first, second = shown[:18], shown[18:]
    assert sorted(first) == sorted(second)
    assert first != second


def test_the_network_trains_at_growing_sizes_and_is_evaluated_at_that_of_the_input(source: Path, tmp_path: Path) -> None:
    shown: list[tuple[bool, int, int]] = []

    def watch(module: object, images: tuple[torch.Tensor]) -> None:
        if isinstance(module, Classifier):
            height, width = images[0].shape[2:]
            shown.append((module.training, height, width))

    recipe = make_recipe(input={"height": 16, "width": 24, "resize": 24}, sizes=(8, 16), scale=0.5)
    handle = register_module_forward_pre_hook(watch)
    train.train(source, tmp_path / "run", recipe, say=False)
    handle.remove()

    trained = [(height, width) for training, height, width in shown if training]
    assert trained == [(8, 12)] * 2 * STEPS_AN_EPOCH + [(16, 24)] * STEPS_AN_EPOCH
    assert {(height, width) for training, height, width in shown if not training} == {(16, 24)}


def test_a_run_with_crops_remembers_the_larger_images_and_leaves_the_validation_images(source: Path, tmp_path: Path) -> None:
    for name, scale in (("whole", 1.0), ("crops", 0.25)):
        train.train(source, tmp_path / name, make_recipe(epochs=1, scale=scale), say=False)

    whole, crops = (checkpoints.load(tmp_path / name)[0].data for name in ("whole", "crops"))
    training, _ = dataset.load_training(source, InputSpec(16, 16, 16), 0.25, 0)
    assert crops["training_sha256"] == dataset.fingerprint(training) != whole["training_sha256"]
    assert crops["validation_sha256"] == whole["validation_sha256"]


def test_weights_of_the_classes_reach_the_loss(tmp_path: Path) -> None:
    source = make_folder(tmp_path / "colours", ("red", "blue"), each=4)
    make_folder(source, ("red",), each=30)
    losses: list[float] = []
    for balance in ("none", "weights"):
        recipe = make_recipe(epochs=1, balance=balance, batch_size=4, learning_rate=1e-6)
        losses.append(train.train(source, tmp_path / balance, recipe, say=False).history[0]["loss"])

    assert abs(losses[0] - losses[1]) > 1e-3


def test_a_finished_run_is_resumed_without_another_step(source: Path, tmp_path: Path) -> None:
    train.train(source, tmp_path / "run", make_recipe(epochs=1), say=False)
    before = weights(tmp_path / "run")

    with interrupt_at(1):
        checkpoint = train.train(source, tmp_path / "run", None, say=False)

    assert checkpoint.epoch == 1
    assert same(weights(tmp_path / "run"), before)


def test_a_run_that_starts_from_another_begins_with_its_weights_and_normalisation(source: Path, tmp_path: Path) -> None:
    before, trained = make_run(tmp_path / "before", source, seed=7)
    other = make_folder(tmp_path / "other", seed=300)

    started = train.train(
        other, tmp_path / "run", make_recipe(epochs=1, learning_rate=1e-9), say=False, start_from=tmp_path / "before"
    )

    for name, value in checkpoints.load(tmp_path / "run")[1].named_parameters():
        torch.testing.assert_close(value, trained.get_parameter(name), rtol=0, atol=1e-6)
    assert (started.mean, started.std) == (before.mean, before.std)
    assert started.provenance["started_from"] == {
        "command": before.provenance["command"],
        "git_commit": before.provenance["git_commit"],
        "epochs": 0,
        "training_seconds": 0,
        "training_sha256": before.data["training_sha256"],
    }


def test_a_run_that_starts_from_one_of_other_classes_gets_a_head_of_its_own(source: Path, tmp_path: Path) -> None:
    _, trained = make_run(tmp_path / "before", source, seed=7)
    other = make_folder(tmp_path / "other", ("black", "white", "yellow"))
    images = dataset.load_training(other, make_recipe().input, 0.25, 0)

    _, model = train.start(tmp_path / "run", other, make_recipe(), *images, tmp_path / "before")

    differing = {name for name, value in model.named_parameters() if not torch.equal(value, trained.get_parameter(name))}
    assert differing == {"head.weight", "head.bias"}


def test_a_run_that_starts_from_one_of_other_classes_keeps_the_rows_of_those_that_both_know(source: Path, tmp_path: Path) -> None:
    before, trained = make_run(tmp_path / "before", source, seed=7)
    make_folder(source, ("black",), seed=5000)
    shutil.rmtree(source / "green")
    images = dataset.load_training(source, make_recipe().input, 0.25, 0)

    checkpoint, model = train.start(tmp_path / "run", source, make_recipe(), *images, tmp_path / "before")

    assert (before.classes, checkpoint.classes) == (("blue", "green", "red"), ("black", "blue", "red"))
    assert torch.equal(model.head.weight[1:], trained.head.weight[[0, 2]])
    assert torch.equal(model.head.bias[1:], trained.head.bias[[0, 2]])
    assert not any(torch.equal(model.head.weight[0], row) for row in trained.head.weight)


def test_what_a_run_held_out_stays_held_out_in_one_that_starts_from_it(source: Path, tmp_path: Path) -> None:
    """Whatever the seed; the other way round, its weights would be measured on what they know."""
    before, _ = make_run(tmp_path / "before", source, seed=7)
    make_folder(tmp_path / "more", each=6, seed=5000)
    for path in (tmp_path / "more").rglob("*.png"):
        path.rename(source / path.parent.name / f"more-{path.name}")

    after = train.train(source, tmp_path / "run", make_recipe(epochs=1, seed=8), say=False, start_from=tmp_path / "before")
    beside = train.train(source, tmp_path / "beside", make_recipe(epochs=1, seed=8), say=False, after=tmp_path / "before")

    for run in (after, beside):
        trained, held_out = (set(unpack(stored)) for stored in (run.trained, run.held_out))
        assert set(unpack(before.held_out)) <= held_out
        assert set(unpack(before.trained)) <= trained
        assert not trained & held_out
        assert len(trained | held_out) == 24 + 18


def test_auxiliary_heads_are_saved_and_begin_anew_for_other_classes(source: Path, tmp_path: Path) -> None:
    recipe = {"architecture": "googlenet", "input": {"height": 32, "width": 32, "resize": 32}}
    _, trained = make_run(tmp_path / "before", source, seed=7, **recipe)
    other = make_folder(tmp_path / "other", ("black", "white"), each=2)
    images = dataset.load_training(other, make_recipe(**recipe).input, 0.25, 0)
    assert checkpoints.load(tmp_path / "before")[1].state_dict()["auxiliary.8.fc2.weight"].shape == (3, 1024)

    _, model = train.start(tmp_path / "run", other, make_recipe(**recipe), *images, tmp_path / "before")

    weights = model.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in trained.state_dict().items() if name.startswith("trunk."))
    assert weights["auxiliary.8.fc2.weight"].shape == weights["auxiliary.11.fc2.weight"].shape == (2, 1024)


@pytest.mark.parametrize(
    ("start_from", "reason"),
    [("none", "no checkpoint in"), ("before", "before is a resnet10-small, the recipe asks for a resnet18")],
)
def test_a_run_does_not_start_from_what_does_not_fit(start_from: str, reason: str, source: Path, tmp_path: Path) -> None:
    make_run(tmp_path / "before", source)

    with pytest.raises(CheckpointError, match=reason):
        train.train(source, tmp_path / "run", make_recipe(architecture="resnet18"), say=False, start_from=tmp_path / start_from)

    assert not (tmp_path / "run").exists()


def test_a_run_is_not_overwritten(source: Path, tmp_path: Path) -> None:
    make_run(tmp_path / "run", source)
    before = weights(tmp_path / "run")

    with pytest.raises(CheckpointError, match=f"{tmp_path / 'run'} holds a checkpoint already: add --resume"):
        train.train(source, tmp_path / "run", make_recipe(seed=5), say=False)

    assert same(weights(tmp_path / "run"), before)


def test_there_is_nothing_to_resume_in_an_empty_folder(source: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint in"):
        train.train(source, tmp_path / "run", None, say=False)


def replace_picture(source: Path) -> None:
    (source / "red" / "001.png").write_bytes(make_image("PNG", seed=99, color="red"))


def add_picture(source: Path) -> None:
    (source / "red" / "more.png").write_bytes(make_image("PNG", seed=99, color="red"))


def rename_class(source: Path) -> None:
    (source / "red").rename(source / "rouge")


@pytest.mark.parametrize("change", [replace_picture, add_picture, rename_class])
def test_a_run_is_not_resumed_on_other_images(change: Callable[[Path], None], source: Path, tmp_path: Path) -> None:
    for name in ("train", "val"):  # so that no change can hide among the validation images
        shutil.copytree(source, tmp_path / "data" / name)
    make_run(tmp_path / "run", tmp_path / "data")
    change(tmp_path / "data" / "train")
    if change is rename_class:
        change(tmp_path / "data" / "val")

    with pytest.raises(CheckpointError, match=f"{tmp_path / 'run'} was trained on other images or classes"):
        train.train(tmp_path / "data", tmp_path / "run", None, say=False)


def test_a_loss_that_is_no_number_ends_the_run_and_spares_the_checkpoint_before(source: Path, tmp_path: Path) -> None:
    _, model = make_run(tmp_path / "run", source, learning_rate=1e30)
    before = (tmp_path / "run" / checkpoints.SIDECAR).read_bytes()

    with pytest.raises(DivergenceError, match=r"epoch 1 .* lower learning rate than 1e\+30"):
        train.train(source, tmp_path / "run", None, say=False)

    assert (tmp_path / "run" / checkpoints.SIDECAR).read_bytes() == before
    assert same(weights(tmp_path / "run"), model.state_dict())


def start(*arguments: str) -> subprocess.Popen[str]:
    """hubel, from the checkout."""
    return subprocess.Popen(
        [sys.executable, "-m", "hubel", *arguments],
        cwd=Path(training.__file__).parent.parent,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_ctrl_c_exits_130_keeps_the_last_epoch_and_tells_the_command_that_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = make_folder(tmp_path / "my colours", each=20)
    recipe = write_recipe(tmp_path / "tiny.toml", epochs=12)
    with start("train", str(source), "--recipe", str(recipe), "--out", str(tmp_path / "my run")) as process:
        assert process.stderr
        lines = iter(process.stderr)
        next(line for line in lines if line.startswith("epoch 1  "))
        process.send_signal(signal.SIGINT)
        said = "".join(lines)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    stopped_at = checkpoints.load(tmp_path / "my run")[0].epoch
    assert 1 <= stopped_at < 12

    again = shlex.split(said[said.index("Go on with: ") :].removeprefix("Go on with: "))
    assert main([*again[again.index("train") :], "--json"]) == 0

    assert json.loads(capsys.readouterr().out)["epochs"] == 12
    history = checkpoints.load(tmp_path / "my run")[0].history
    assert [entry["epoch"] for entry in history] == list(range(1, 13))
