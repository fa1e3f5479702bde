"""hubel run, train and so on: help, answers on standard output, errors in one line on standard error."""

import json
import shlex
import shutil
from pathlib import Path

import pytest

from tests.training.conftest import Journey
from tests.training.factories import interrupt_at, make_folder, make_run, write_recipe
from training.__main__ import main
from training.loop import checkpoint as checkpoints

COMMANDS = ("train", "evaluate", "export", "report", "publish")
EXPLAINED = ("run", "inspect", *COMMANDS)


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])

    assert caught.value.code == 0
    said = capsys.readouterr().out
    assert said.startswith("usage: hubel")
    assert all(f"\n    {command} " in said for command in EXPLAINED)


@pytest.mark.parametrize("command", EXPLAINED)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])

    assert caught.value.code == 0
    said = capsys.readouterr().out
    assert said.startswith(f"usage: hubel {command}")
    assert "--json" in said


@pytest.mark.parametrize("arguments", [[], ["bake"], ["train"], ["train", "data"], ["run"], ["publish", "run"]], ids=shlex.join)
def test_a_command_line_that_makes_no_sense_exits_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)

    assert caught.value.code == 2
    assert "usage: hubel" in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_json_is_all_that_a_command_prints_on_standard_output(command: str, journey: Journey) -> None:
    assert isinstance(json.loads(journey.said[command]), dict)


def test_training_answers_with_the_checkpoint_and_its_last_figures(journey: Journey) -> None:
    answer = json.loads(journey.said["train"])

    assert answer["checkpoint"] == str(journey.run)
    assert answer["epochs"] == 4
    assert answer["validation_accuracy"] == checkpoints.load(journey.run)[0].history[-1]["validation_accuracy"]


def test_publishing_answers_with_the_package_and_its_folder(journey: Journey) -> None:
    assert json.loads(journey.said["publish"]) == {"published": "colours:1", "folder": str(journey.package)}


def test_without_json_the_answer_is_one_line_for_each_fact(
    journey: Journey, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["publish", str(journey.run), "--name", "again", "--store", str(tmp_path)]) == 0

    assert capsys.readouterr().out == f"published: again:1\nfolder: {tmp_path / 'again' / '1'}\n"


def test_options_of_the_command_line_go_before_the_recipe(tmp_path: Path) -> None:
    source = make_folder(tmp_path / "colours", each=4)
    recipe = write_recipe(tmp_path / "tiny.toml")
    make_run(tmp_path / "before", source, seed=7)
    options = {
        "--start-from": str(tmp_path / "before"),
        "--epochs": "1",
        "--batch-size": "5",
        "--learning-rate": "0.01",
        "--seed": "8",
        "--size": "10",
    }

    arguments = ["train", str(source), "--recipe", str(recipe), "--out", str(tmp_path / "run"), "--no-flip"]
    assert main([*arguments, *(word for option in options.items() for word in option)]) == 0

    checkpoint = checkpoints.load(tmp_path / "run")[0]
    followed = checkpoint.recipe
    assert (followed.epochs, followed.batch_size, followed.learning_rate, followed.seed) == (1, 5, 0.01, 8)
    assert (followed.input.height, followed.flip) == (10, False)
    assert checkpoint.provenance["started_from"]["epochs"] == 0


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        pytest.param(["train", "{tmp}/none", "--out", "{tmp}/new"], "none is not a folder", id="no data"),
        pytest.param(["train", "{data}", "--out", "{tmp}/new", "--recipe", "none"], "no recipe 'none'", id="no recipe"),
        pytest.param(["train", "{data}", "--out", "{tmp}/new", "--epochs", "0"], ">= 1", id="no epochs"),
        pytest.param(["train", "{data}", "--out", "{run}", "--recipe", "{recipe}"], "add --resume", id="a run in the way"),
        pytest.param(["train", "{data}", "--out", "{tmp}/new", "--resume"], "no checkpoint in", id="nothing to resume"),
        pytest.param(
            ["train", "{data}", "--out", "{run}", "--resume", "--epochs", "9"],
            "leave the other options out",
            id="resume by another recipe",
        ),
        pytest.param(["evaluate", "{tmp}/none", "{data}"], "no checkpoint in", id="nothing to evaluate"),
        pytest.param(["evaluate", "{run}", "{tmp}/none"], "not a folder", id="no data to evaluate on"),
        pytest.param(["export", "{tmp}/none", "{data}"], "no checkpoint in", id="nothing to export"),
        pytest.param(["publish", "{run}", "--name", "x", "--store", "{tmp}/store"], "hubel evaluate", id="not evaluated"),
        pytest.param(["evaluate", "{damaged}", "{data}"], "damaged", id="a damaged checkpoint"),
    ],
)
def test_what_went_wrong_is_one_line_on_standard_error(
    arguments: list[str], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_folder(tmp_path / "colours", each=2)
    make_run(tmp_path / "run", data)
    shutil.copytree(tmp_path / "run", tmp_path / "damaged")
    (tmp_path / "damaged" / "weights-0000.pt").write_bytes(b"no weights")
    recipe = write_recipe(tmp_path / "tiny.toml")
    places = {"tmp": tmp_path, "data": data, "run": tmp_path / "run", "damaged": tmp_path / "damaged", "recipe": recipe}
    capsys.readouterr()

    assert main([argument.format(**places) for argument in arguments]) == 1

    said = capsys.readouterr()
    assert said.out == ""
    assert "Traceback" not in said.err
    last = said.err.splitlines()[-1]  # after progress bars
    assert last.startswith("error: ")
    assert reason in last


def test_a_name_that_is_not_allowed_is_an_error_too(journey: Journey, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["publish", str(journey.run), "--name", "Not Allowed", "--store", str(tmp_path)]) == 1

    assert capsys.readouterr().err.splitlines()[-1].startswith("error: the package cannot be published")


def test_a_stop_before_the_first_epoch_is_whole_promises_no_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = make_folder(tmp_path / "colours")
    recipe = write_recipe(tmp_path / "tiny.toml")

    with interrupt_at(2):
        code = main(["train", str(source), "--recipe", str(recipe), "--out", str(tmp_path / "run")])

    assert code == 130
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines()[-1] == "stopped before the first epoch was whole; nothing was saved"
    assert "--resume" not in said.err
