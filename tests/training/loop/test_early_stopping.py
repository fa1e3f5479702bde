"""training/loop/early_stopping.py: which epoch is the best, and when a run has waited long enough."""

from pathlib import Path

import pytest
import torch

from tests.training.factories import interrupt_at, make_folder, make_recipe
from training.__main__ import main
from training.loop import checkpoint as checkpoints
from training.loop import early_stopping, train
from training.loop.checkpoint import Checkpoint

CHAOS = {"schedule": "constant", "warmup_share": 0.0, "learning_rate": 0.05}  # the first epoch is the best


def checkpoint_of(figures: list[tuple[float, float]], waits: int) -> Checkpoint:
    """A run that saw these validation accuracies and losses, and kept what it should."""
    checkpoint = Checkpoint(make_recipe(epochs=99, patience=waits), ("a", "b"), [0.0] * 3, [1.0] * 3)
    for accuracy, loss in figures:
        checkpoint.epoch += 1
        checkpoint.history.append({"validation_accuracy": accuracy, "validation_loss": loss})
        if early_stopping.improved(checkpoint):
            checkpoint.kept_epoch = checkpoint.epoch
    return checkpoint


@pytest.mark.parametrize(
    ("figures", "kept"),
    [
        pytest.param([(0.5, 1.0)], 1, id="the first"),
        pytest.param([(0.5, 1.0), (0.6, 1.0)], 2, id="more right"),
        pytest.param([(0.5, 1.0), (0.6, 9.0)], 2, id="more right at a higher loss"),
        pytest.param([(0.5, 1.0), (0.4, 0.1)], 1, id="less right at a lower loss"),
        pytest.param([(0.5, 1.0), (0.5, 0.9)], 2, id="as right at a lower loss"),
        pytest.param([(0.5, 1.0), (0.5, 1.0)], 1, id="the same again"),
        pytest.param([(0.5, 1.0), (0.7, 1.0), (0.6, 0.1)], 2, id="the best of three"),
    ],
)
def test_the_best_epoch_is_the_one_that_is_right_most_often_and_then_that_of_the_lowest_loss(
    figures: list[tuple[float, float]], kept: int
) -> None:
    assert checkpoint_of(figures, waits=5).kept_epoch == kept


def test_without_patience_the_last_epoch_is_kept_and_the_run_is_never_over() -> None:
    checkpoint = checkpoint_of([(0.9, 0.1), (0.1, 9.0), (0.1, 9.0)], waits=0)

    assert checkpoint.kept_epoch == 3
    assert not early_stopping.is_over(checkpoint)
    assert list(early_stopping.outcome(checkpoint, Path("run"))) == []


@pytest.mark.parametrize(("worse", "over"), [(0, False), (1, False), (2, True)])
def test_a_run_is_over_after_as_many_epochs_without_a_better_one_as_it_has_patience(worse: int, over: bool) -> None:
    assert early_stopping.is_over(checkpoint_of([(0.4, 1.0), (0.5, 1.0), *[(0.5, 2.0)] * worse], waits=2)) is over


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "colours")


def test_a_run_that_gets_worse_stops_and_keeps_the_best_weights(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stopped = train.train(source, tmp_path / "stopped", make_recipe(epochs=9, patience=2, **CHAOS))
    said = capsys.readouterr().err
    train.train(source, tmp_path / "short", make_recipe(epochs=stopped.kept_epoch, **CHAOS), say=False)

    assert stopped.epoch == stopped.kept_epoch + 2 < 9
    assert f"stopped early after epoch {stopped.epoch}: none of the last 2 was better than epoch {stopped.kept_epoch}" in said
    checkpoint, model, content = checkpoints.load(tmp_path / "stopped")
    assert checkpoint == stopped
    best = checkpoints.load(tmp_path / "short")[1].state_dict()
    assert all(torch.equal(value, best[name]) for name, value in model.state_dict().items())
    assert not all(torch.equal(value, best[name]) for name, value in content["model"].items())


def test_a_run_that_was_stopped_early_is_not_resumed_but_says_so(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    stopped = train.train(source, run, make_recipe(epochs=9, patience=1, **CHAOS), say=False)

    with interrupt_at(1):
        assert main(["train", str(source), "--out", str(run), "--resume"]) == 0

    said = capsys.readouterr()
    assert f"stopped early after epoch {stopped.epoch}" in said.err
    assert f"another run with --start-from {run}" in said.err
    answer = dict(line.split(": ") for line in said.out.splitlines())
    assert (answer["epochs"], answer["kept_epoch"]) == (str(stopped.epoch), str(stopped.kept_epoch))
    kept = stopped.history[stopped.kept_epoch - 1]
    assert answer["validation_accuracy"] == str(kept["validation_accuracy"])


def test_a_run_that_ends_before_its_patience_does_keeps_the_best_and_says_so(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = train.train(source, tmp_path / "run", make_recipe(epochs=2, patience=5, **CHAOS))

    assert checkpoint.epoch == 2
    assert f"the weights of epoch {checkpoint.kept_epoch}, the best, are kept" in capsys.readouterr().err
