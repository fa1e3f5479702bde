"""benchmarks/transfer.py: the whole experiment on a few pictures, stopped half-way and gone on with."""

import json
from pathlib import Path

import pytest

from benchmarks import transfer
from tests.training.factories import make_folder, write_recipe
from training.loop import checkpoint as checkpoints

pytestmark = pytest.mark.usefixtures("networks")
CLASSES = ("black", "blue", "green", "red")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    make_folder(tmp_path / "colours" / "train", CLASSES, each=14)
    make_folder(tmp_path / "colours" / "test", CLASSES, each=3, seed=700)
    return tmp_path / "colours"


def arguments(data: Path, out: Path, *more: str) -> list[str]:
    recipe = write_recipe(data.parent / "tiny.toml", architecture="normed", epochs=2)
    words = ["--data", str(data), "--out", str(out), "--recipe", str(recipe), "--classes", "blue", "red"]
    return [*words, "--steps", "4", "--images", "3", "--trials", "2", *more]


def test_every_cell_is_measured_once_and_becomes_a_table(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        calls: list[int] = []

        def stop(results: transfer.Results, folder: Path) -> None:
            calls.append(len(results["cells"]))
            if calls[-1] == 3:
                raise KeyboardInterrupt
            keep(results, folder)

        keep = transfer.keep
        patch.setattr(transfer, "keep", stop)
        with pytest.raises(KeyboardInterrupt):
            transfer.main(arguments(data, out))
    kept = json.loads((out / transfer.RESULTS).read_text())["cells"]
    assert len(kept) == 2
    first = (out / transfer.BASE / checkpoints.SIDECAR).read_bytes()
    capsys.readouterr()

    assert transfer.main(arguments(data, out)) == 0

    said = capsys.readouterr().out
    cells = json.loads((out / transfer.RESULTS).read_text())["cells"]
    assert len(cells) == 2 * 4
    assert {name: cells[name] for name in kept} == kept
    assert (out / transfer.BASE / checkpoints.SIDECAR).read_bytes() == first
    assert "| images a class | frozen trunk | fine-tuning | from scratch | linear probe |" in said
    assert [line.count("±") for line in said.splitlines() if line.startswith("| 3 |")] == [4]
    assert "`.venv/bin/python -m benchmarks.transfer --data" in said
    assert checkpoints.load(out / transfer.BASE)[0].classes == ("black", "green")


def test_other_settings_do_not_go_into_the_same_table(data: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / transfer.RESULTS).write_text(json.dumps({"settings": {"steps": "9"}, "cells": {}}))

    with pytest.raises(SystemExit, match="other settings"):
        transfer.main(arguments(data, tmp_path / "out"))


def test_the_images_of_a_trial_are_its_own_and_not_those_to_validate_on(data: Path, tmp_path: Path) -> None:
    for trial in (0, 0, 1):
        transfer.choose(data, ["blue", "red"], 4, trial, tmp_path / f"cell-{len(list(tmp_path.glob('cell-*')))}")

    def chosen(cell: int, part: str) -> list[str]:
        return sorted(path.name for path in (tmp_path / f"cell-{cell}" / part / "red").iterdir())

    assert chosen(0, "train") == chosen(1, "train") != chosen(2, "train")
    assert len(chosen(0, "train")) == 4
    assert not set(chosen(0, "train")) & set(chosen(0, "val"))
    assert len(chosen(0, "test")) == 3


def test_too_few_images_are_told(data: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="holds 14 images; 15 are needed"):
        transfer.choose(data, ["blue", "red"], 5, 0, tmp_path / "cell")


@pytest.mark.parametrize(("images", "batch", "epochs"), [(10, 20, 600), (50, 32, 200), (100, 32, 100), (1000, 32, 10)])
def test_every_cell_takes_about_as_many_steps(images: int, batch: int, epochs: int) -> None:
    keys = transfer.recipe_of(transfer.recipes.load("cifar10"), "fine-tuning", images, 0, 600)

    assert (keys["batch_size"], keys["epochs"]) == (batch, epochs)
