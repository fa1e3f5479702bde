"""training/loop/distributed.py: processes that torchrun starts learn what one does, and survive the death of one of them."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import psutil
import pytest
import torch
from torch import Tensor

import training
from tests.training import children
from tests.training.factories import make_folder, make_recipe, make_run, write_recipe
from training.__main__ import main
from training.data import dataset
from training.errors import RecipeError
from training.loop import checkpoint as checkpoints
from training.loop import distributed, epoch, train
from training.loop.device import Device
from training.loop.distributed import Processes

pytestmark = [
    pytest.mark.usefixtures("networks"),
    pytest.mark.skipif(torch.cuda.is_available(), reason="processes would take a GPU each"),
]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("data") / "colours")


def together(source: Path, folder: Path, changes: dict[str, Any] | None, size: int = 2) -> None:
    runs = [children.begin(source, folder, changes, environment=environment) for environment in children.together(size)]
    assert [children.finish(run) for run in runs] == [0] * size


def weights(folder: Path) -> dict[str, Tensor]:
    return checkpoints.load(folder)[1].state_dict()


@pytest.mark.parametrize(
    ("changes", "size"),
    [
        pytest.param({"architecture": "plain"}, 2, id="two halves"),
        pytest.param({"architecture": "plain", "batch_size": 7, "cutmix": 0.5, "ema": 0.5}, 3, id="parts of unlike size"),
        pytest.param({"architecture": "plain", "accumulate": 2, "clip_norm": 0.1}, 2, id="gradients added up and clipped"),
    ],
)
def test_several_processes_learn_what_one_does(changes: dict[str, Any], size: int, source: Path, tmp_path: Path) -> None:
    changes = changes | {"epochs": 2, "cutout": 2}
    one = train.train(source, tmp_path / "one", make_recipe(**changes), say=False)

    together(source, tmp_path / "several", changes, size)

    several = checkpoints.load(tmp_path / "several")[0]
    for entry, expected in zip(several.history, one.history, strict=True):
        for key in ("loss", "accuracy", "validation_loss", "validation_accuracy", "learning_rate"):
            assert entry[key] == pytest.approx(expected[key], abs=1.01e-4), key  # they are rounded to 4 places
    expected = weights(tmp_path / "one")
    for name, value in weights(tmp_path / "several").items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-4, msg=name)
    assert several.provenance["processes"] == size


@pytest.mark.parametrize("ema", [0.0, 0.5])
def test_processes_with_batch_norm_measure_the_network_that_is_kept(ema: float, source: Path, tmp_path: Path) -> None:
    together(source, tmp_path / "run", {"architecture": "normed", "epochs": 2, "ema": ema})

    checkpoint, model, state = checkpoints.load(tmp_path / "run")
    _, validation = dataset.load_training(source, checkpoint.recipe.input, checkpoint.recipe.validation_share, 0)
    loss, accuracy = epoch.evaluate(model, checkpoint, validation, Device("cpu", None))
    assert checkpoint.history[-1]["validation_loss"] == pytest.approx(loss, abs=1e-4)
    assert checkpoint.history[-1]["validation_accuracy"] == pytest.approx(accuracy, abs=1e-4)
    assert state["model"]["trunk.1.num_batches_tracked"] == 6


def average(folder: Path) -> None:
    with distributed.joined() as group:
        mean = torch.tensor([1.0, 2.0]) + 4 * group.rank
        group.average([mean])
        torch.save(mean, folder / f"{group.rank}.pt")


def test_the_average_is_that_of_all_processes(tmp_path: Path) -> None:
    pair = [children.call(average, tmp_path, environment=environment) for environment in children.together(2)]

    assert [children.finish(process) for process in pair] == [0, 0]
    assert all(torch.load(tmp_path / f"{rank}.pt").tolist() == [3, 4] for rank in range(2))


def test_processes_that_are_started_anew_go_on_to_where_undisturbed_ones_end(source: Path, tmp_path: Path) -> None:
    """One dies; the other one notices, and torchrun starts both again, with the store in which the first two met."""
    changes = {"architecture": "dropping"}
    together(source, tmp_path / "whole", changes)
    store = cast(Any, torch.distributed).TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    agent = {"TORCHELASTIC_USE_AGENT_STORE": "True", "MASTER_PORT": str(store.port)}
    pair = [
        children.begin(source, tmp_path / "run", changes, ("at a step", 5) if rank else None, environment)
        for rank, environment in enumerate(children.together(2, **agent, TORCHELASTIC_RESTART_COUNT="0"))
    ]  # of 3 steps in an epoch
    assert children.finish(pair[1]) == children.KILLED
    assert children.finish(pair[0]) != 0
    assert checkpoints.load(tmp_path / "run")[0].epoch == 1

    again = children.together(2, **agent, TORCHELASTIC_RESTART_COUNT="1")
    pair = [children.begin(source, tmp_path / "run", None, environment=again[0])]
    time.sleep(0.5)  # time to find in the store what the dead one left there
    pair.append(children.begin(source, tmp_path / "run", None, environment=again[1]))
    assert [children.finish(process) for process in pair] == [0, 0]

    expected = weights(tmp_path / "whole")
    assert all(torch.equal(value, expected[name]) for name, value in weights(tmp_path / "run").items())


def test_a_restart_goes_on_with_the_checkpoint_of_the_same_recipe(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = write_recipe(tmp_path / "tiny.toml", architecture="plain")
    arguments = ["train", str(source), "--recipe", str(recipe), "--out", str(tmp_path / "run")]
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")

    assert main(arguments) == 0  # there was nothing to go on with
    before = checkpoints.load(tmp_path / "run")[0]
    assert main(arguments) == 0

    assert checkpoints.load(tmp_path / "run")[0] == before


def test_a_restart_does_not_go_on_with_a_run_of_another_recipe(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path / "run", source, architecture="plain")
    recipe = write_recipe(tmp_path / "tiny.toml", architecture="plain", seed=5)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")

    assert main(["train", str(source), "--recipe", str(recipe), "--out", str(tmp_path / "run")]) == 1

    assert "holds a checkpoint already" in capsys.readouterr().err


@pytest.mark.parametrize(("n", "size"), [(6, 2), (7, 3), (128, 5), (3, 3)])
def test_the_parts_make_up_the_whole_and_differ_by_one_at_most(n: int, size: int) -> None:
    parts = [range(n)[Processes(rank, size).part(n)] for rank in range(size)]

    assert [i for part in parts for i in part] == list(range(n))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_more_processes_than_images_in_a_batch_are_refused(source: Path, tmp_path: Path) -> None:
    checkpoint, _ = make_run(tmp_path / "run", source, architecture="plain", batch_size=5)

    with pytest.raises(
        RecipeError, match="a batch has 5 images for 3 processes, each of which needs 2: raise batch_size or start fewer"
    ):
        train.check_processes(checkpoint, Device("cpu", None), Processes(0, 3))
    with pytest.raises(
        RecipeError, match="a batch has 5 images for 6 processes, each of which needs 1: raise batch_size or start fewer"
    ):
        train.check_processes(checkpoint, Device("cuda", None), Processes(0, 6))


def test_only_the_first_process_says_something(capsys: pytest.CaptureFixture[str]) -> None:
    for rank in range(2):
        with Processes(rank, 2).speech():
            sys.stderr.write(f"I am {rank}\n")

    assert capsys.readouterr().err == "I am 0\n"


def disagree(said: dict[int, str], agreed: Path) -> None:
    with distributed.joined() as group:
        (agreed / f"{group.rank} {group.agree(said[group.rank])}").touch()


@pytest.mark.parametrize(("said", "agreed"), [({0: "yes", 1: "yes"}, True), ({0: "yes", 1: "no"}, False)])
def test_processes_know_whether_they_all_say_the_same(said: dict[int, str], agreed: bool, tmp_path: Path) -> None:
    pair = [children.call(disagree, said, tmp_path, environment=environment) for environment in children.together(2)]

    assert [children.finish(process) for process in pair] == [0, 0]
    assert {path.name for path in tmp_path.iterdir()} == {f"0 {agreed}", f"1 {agreed}"}


Launch = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def torchrun(source: Path, tmp_path: Path) -> Iterator[Launch]:
    """``torchrun(folder, restarts=2, epochs=3)`` begins two processes. What they say is in folder.out and folder.err."""
    started: list[subprocess.Popen[bytes]] = []

    def launch(folder: Path, restarts: int = 0, **changes: Any) -> subprocess.Popen[bytes]:
        recipe = write_recipe(folder.with_suffix(".toml"), **changes)
        launcher = ["--standalone", "--nproc-per-node", "2", "--max-restarts", str(restarts), "-m", "training"]
        command = ["train", str(source), "--recipe", str(recipe), "--out", str(folder), "--json"]
        with open(folder.with_suffix(".out"), "wb") as out, open(folder.with_suffix(".err"), "wb") as err:
            process = subprocess.Popen(
                [sys.executable, "-m", "torch.distributed.run", *launcher, *command],
                cwd=Path(training.__file__).parent.parent,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
                stdout=out,
                stderr=err,
            )
        started.append(process)
        return process

    yield launch
    for process in started:
        process.terminate()
        process.wait(60)


@pytest.mark.long
def test_torchrun_trains_with_two_processes_of_which_one_speaks(torchrun: Launch, source: Path, tmp_path: Path) -> None:
    without_norm = {"architecture": "vgg11-small", "input": {"height": 32, "width": 32, "resize": 32}}
    assert torchrun(tmp_path / "run", epochs=2, **without_norm).wait(300) == 0

    assert json.loads((tmp_path / "run.out").read_text())["epochs"] == 2
    said = (tmp_path / "run.err").read_text()
    assert said.count("epoch 1  loss ") == said.count("epoch 2  loss ") == 1
    one = train.train(source, tmp_path / "one", make_recipe(epochs=2, **without_norm), say=False)
    loss, expected = (checkpoint.history[0]["loss"] for checkpoint in (checkpoints.load(tmp_path / "run")[0], one))
    assert loss == pytest.approx(expected, abs=1e-3)


@pytest.mark.long
@pytest.mark.parametrize("victim", [0, 1])
def test_torchrun_replaces_a_process_that_died_and_the_run_ends_the_same(victim: int, torchrun: Launch, tmp_path: Path) -> None:
    whole = torchrun(tmp_path / "whole", epochs=30)
    assert whole.wait(300) == 0
    process = torchrun(tmp_path / "run", restarts=2, epochs=30)
    while not (tmp_path / "run" / checkpoints.SIDECAR).exists():
        time.sleep(0.02)
        assert process.poll() is None
    ranks = {int(child.environ()["RANK"]): child for child in psutil.Process(process.pid).children()}
    ranks[victim].send_signal(signal.SIGKILL)
    stopped_at = checkpoints.load(tmp_path / "run")[0].epoch

    assert process.wait(300) == 0

    assert stopped_at < 30
    assert checkpoints.load(tmp_path / "run")[0].epoch == 30
    expected = weights(tmp_path / "whole")
    assert all(torch.equal(value, expected[name]) for name, value in weights(tmp_path / "run").items())
