"""What is left of a run that is killed at any moment, and that it goes on to the very same weights."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
import torch
from torch import Tensor

import training
from tests.training import children
from tests.training.factories import make_folder, write_recipe
from training.data import contents
from training.errors import CheckpointError
from training.loop import checkpoint as checkpoints
from training.loop import lock, train
from training.loop.checkpoint import Checkpoint

pytestmark = [
    pytest.mark.usefixtures("networks"),
    pytest.mark.skipif(torch.cuda.is_available(), reason="sums on a GPU may come in another order"),
]
STEPS_AN_EPOCH = 3  # of 18 pictures in batches of 6
ALL_OF_IT: dict[str, Any] = {  # that a run has to remember: dropout, averages, momentum, augmentation, the best epoch
    "architecture": "dropping",
    "ema": 0.9,
    "cutout": 2,
    "cutmix": 0.5,
    "accumulate": 2,
    "clip_norm": 1.0,
    "patience": 3,
    "schedule": "onecycle",
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("data") / "colours")


def content(run: Path) -> tuple[list[dict[str, float]], dict[str, Tensor]]:
    """The history, but for what depends on the clock, and every tensor that a checkpoint holds."""
    checkpoint, model, state = checkpoints.load(run)
    tensors: dict[str, Tensor] = {}

    def walk(path: str, value: Any) -> None:
        if isinstance(value, Tensor):
            tensors[path] = value
        elif isinstance(value, dict):
            for key, part in value.items():
                walk(f"{path}.{key}", part)

    walk("", {"answering": model.state_dict(), "state": state})
    return timeless(checkpoint), tensors


def timeless(checkpoint: Checkpoint) -> list[dict[str, float]]:
    return [entry | {"seconds": 0, "images_per_second": 0} for entry in checkpoint.history]


def assert_same(run: Path, other: Path) -> None:
    (history, tensors), (expected_history, expected) = content(run), content(other)
    assert history == expected_history
    assert tensors.keys() == expected.keys()
    assert [name for name in tensors if not torch.equal(tensors[name], expected[name])] == []


@pytest.fixture(scope="module")
def whole(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing disturbed."""
    run = tmp_path_factory.mktemp("whole") / "run"
    assert children.finish(children.begin(source, run, ALL_OF_IT)) == 0
    return run


@pytest.mark.parametrize(
    ("place", "epoch"),
    [
        (("at a step", 2), 0),
        (("at a step", STEPS_AN_EPOCH + 2), 1),
        (("half-way through the weights", 1), 0),
        (("half-way through the weights", 2), 1),
        (("before the weights are renamed", 2), 1),
        (("between weights and sidecar", 2), 1),
        (("before the sidecar is renamed", 2), 1),
        (("after the sidecar is renamed", 2), 2),
        (("after saving", 3), 3),
    ],
    ids=lambda value: f"{value[0]} {value[1]}" if isinstance(value, tuple) else None,
)
def test_a_run_that_was_killed_goes_on_to_the_very_same_weights(
    place: children.Place, epoch: int, source: Path, whole: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert children.finish(children.begin(source, run, ALL_OF_IT, place)) == children.KILLED
    assert (checkpoints.load(run)[0].epoch if (run / checkpoints.SIDECAR).exists() else 0) == epoch

    assert children.finish(children.begin(source, run, None if epoch else ALL_OF_IT)) == 0

    assert_same(run, whole)
    left = {path.name for path in run.iterdir()} - {checkpoints.SIDECAR, "tensorboard", lock.FILE, contents.FILE}
    assert left == {checkpoints.load(run)[0].weights}


def test_a_run_that_remembers_less_does_not_end_the_same(source: Path, whole: Path, tmp_path: Path) -> None:
    """What the test above sees: the state of the run matters."""
    run = tmp_path / "run"
    assert children.finish(children.begin(source, run, ALL_OF_IT, ("after saving", 2))) == children.KILLED
    checkpoint, model, state = checkpoints.load(run)
    state["average"] = state["model"]
    checkpoints.save(run, checkpoint, model.state_dict(), state)

    assert children.finish(children.begin(source, run, None)) == 0

    with pytest.raises(AssertionError):
        assert_same(run, whole)


def test_two_processes_do_not_train_into_one_folder(source: Path, tmp_path: Path) -> None:
    with lock.held(tmp_path / "run"), pytest.raises(CheckpointError, match=f"process {os.getpid()} trains into"):
        train.train(source, tmp_path / "run", None, say=False)


@pytest.mark.long
def test_a_run_that_was_killed_at_ten_random_moments_goes_on_to_the_very_same_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """hubel train itself, each time killed at another moment of its run and resumed to the end."""
    source = make_folder(tmp_path / "colours")
    recipe = write_recipe(tmp_path / "tiny.toml", epochs=40, ema=0.9, cutmix=0.5)
    moments = random.Random(1962)
    assert command(source, tmp_path / "whole", recipe).wait() == 0
    seconds = mean(entry["seconds"] for entry in checkpoints.load(tmp_path / "whole")[0].history)
    epochs: list[int] = []
    for number in range(10):
        run = tmp_path / f"run-{number}"
        process = command(source, run, recipe)
        wait_for(run, moments.randrange(40), process)
        time.sleep(moments.uniform(0, 1) * seconds)
        process.send_signal(signal.SIGKILL)
        process.wait()
        saved = (run / checkpoints.SIDECAR).exists()
        epochs.append(checkpoints.load(run)[0].epoch if saved else 0)

        assert command(source, run, None if saved else recipe).wait() == 0

        assert_same(run, tmp_path / "whole")
    with capsys.disabled():
        sys.stdout.write(f"killed after epochs {epochs} of 40\n")
    assert len(set(epochs)) > 5


def wait_for(run: Path, epochs: int, process: subprocess.Popen[bytes]) -> None:
    """Until so many epochs are saved; 0 is the moment when the run takes its folder."""
    file = run / (checkpoints.SIDECAR if epochs else lock.FILE)
    while not file.exists() or (epochs and len(json.loads(file.read_bytes())["history"]) < epochs):
        assert process.poll() is None
        time.sleep(0.002)


def command(source: Path, run: Path, recipe: Path | None) -> subprocess.Popen[bytes]:
    more = ["--recipe", str(recipe)] if recipe else ["--resume"]
    return subprocess.Popen(
        [sys.executable, "-m", "training", "train", str(source), "--out", str(run), *more],
        cwd=Path(training.__file__).parent.parent,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
