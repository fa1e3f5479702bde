"""fit = "both": the head fitted at once, then fine-tuning from there, and the better of the two by the validation images."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.factories import make_folder, make_recipe, make_run
from training.errors import RecipeError
from training.loop import checkpoint as checkpoints
from training.loop import early_stopping, train
from training.loop.checkpoint import Checkpoint
from training.recipe import load

WRECK = {"schedule": "constant", "warmup_share": 0.0, "learning_rate": 50.0, "clip_norm": 1.0}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "colours")


def run_of(source: Path, folder: Path, **changes: Any) -> tuple[Checkpoint, dict[str, torch.Tensor]]:
    """A run that starts from the weights of another, and its weights that answer."""
    before = folder.parent / "before"
    if not before.exists():
        make_run(before, source, seed=7)
    train.train(source, folder, make_recipe(seed=7, **changes), start_from=before)
    checkpoint, model, _ = checkpoints.load(folder)
    return checkpoint, model.state_dict()


def test_its_first_epoch_is_the_head_fitted_at_once_which_stays_where_fine_tuning_is_worse(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    linear, head = run_of(source, tmp_path / "linear", fit="linear")

    both, kept = run_of(source, tmp_path / "both", fit="both", epochs=3, **WRECK)

    figures = ("loss", "accuracy", "validation_loss", "validation_accuracy", "learning_rate")
    assert [both.history[0][key] for key in figures] == [linear.history[0][key] for key in figures]
    assert (both.epoch, both.kept_epoch) == (3, 1)
    assert all(torch.equal(value, head[name]) for name, value in kept.items())
    assert "by fine-tuning: kept is the head fitted at once" in capsys.readouterr().err


def test_fine_tuning_begins_with_the_fitted_head(source: Path, tmp_path: Path) -> None:
    _, head = run_of(source, tmp_path / "linear", fit="linear")

    run_of(source, tmp_path / "both", fit="both", epochs=2, learning_rate=1e-6, freeze="features")

    _, _, content = checkpoints.load(tmp_path / "both")
    assert not torch.equal(content["model"]["head.weight"], head["head.weight"])
    torch.testing.assert_close(content["model"]["head.weight"], head["head.weight"], rtol=0, atol=1e-4)


def test_fine_tuning_keeps_the_statistics_that_the_head_was_fitted_to(source: Path, tmp_path: Path) -> None:
    run_of(source, tmp_path / "both", fit="both", epochs=2)

    before = checkpoints.load(tmp_path / "before")[1].state_dict()
    _, _, content = checkpoints.load(tmp_path / "both")
    moved = {name.rpartition(".")[2] for name, value in content["model"].items() if not torch.equal(value, before[name])}
    assert moved == {"weight", "bias"}


def test_fine_tuning_stays_where_it_is_better(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both, kept = run_of(source, tmp_path / "both", fit="both", linear_c=1e-5, epochs=8)

    assert both.kept_epoch > 1
    assert both.history[both.kept_epoch - 1]["validation_accuracy"] > both.history[0]["validation_accuracy"]
    assert not torch.equal(kept["trunk.0.weight"], checkpoints.load(tmp_path / "before")[1].state_dict()["trunk.0.weight"])
    assert f"by fine-tuning: kept is what epoch {both.kept_epoch} made" in capsys.readouterr().err


def test_epochs_that_go_by_steps_count_stages_and_rates_from_their_own_first(source: Path, tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "freeze": "features",
        "unfreeze_every": 1,
        "schedule": "steps",
        "steps": (0.5,),
        "warmup_share": 0.0,
    }

    both, kept = run_of(source, tmp_path / "both", fit="both", epochs=3, patience=9, **changes)

    assert [entry["learning_rate"] for entry in both.history] == pytest.approx([0.0, 0.05, 0.005])
    assert early_stopping.is_over(both) is False
    frozen, _ = run_of(source, tmp_path / "frozen", fit="both", epochs=2, **changes)
    assert frozen.epoch == 2
    before = checkpoints.load(tmp_path / "before")[1].state_dict()
    _, _, content = checkpoints.load(tmp_path / "frozen")
    moved = {name for name, value in content["model"].items() if not torch.equal(value, before[name])}
    assert moved == {"head.weight", "head.bias"}
    _, _, content = checkpoints.load(tmp_path / "both")
    moved = {name.split(".")[1] for name, value in content["model"].items() if not torch.equal(value, before[name])}
    assert {"5"} <= moved
    assert "0" not in moved
    assert kept.keys() == before.keys()


def test_one_epoch_is_the_head_alone(source: Path, tmp_path: Path) -> None:
    both, _ = run_of(source, tmp_path / "both", fit="both", epochs=1)

    assert (both.epoch, both.history[0]["learning_rate"]) == (1, 0.0)


@pytest.mark.parametrize("changes", [{"scale": 0.5}, {"sizes": (8,)}], ids=str)
def test_images_in_parts_or_several_sizes_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match=r"fit is both, .* leave scale and sizes out"):
        load("mnist-convnet", fit="both", **changes) if "scale" in changes else load("cifar10", fit="both", size=8, **changes)
