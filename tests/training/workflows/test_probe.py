"""hubel probe: a linear layer on the features of a service, of a run and of a package."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.factories import make_image
from tests.training.conftest import Journey
from tests.training.factories import make_folder, make_run
from tests.training.feature_server import Script, serving
from training.__main__ import main
from training.data import dataset
from training.loop import checkpoint as checkpoints
from training.loop.linear_head import fit_head
from training.publishing import package


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "colours", each=10)


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    """What the command answers."""
    capsys.readouterr()
    assert main(["probe", *map(str, arguments), "--json"]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def test_the_features_of_a_service_are_fitted_and_measured_on_images_of_their_own(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(Script()) as url:
        answer = run(capsys, "--service", url, source, "--validation-share", 0.3)

    figures = {key: answer[key] for key in ("model", "dimensions", "c", "left_out")}
    assert figures == {"model": "fake:1", "dimensions": 3, "c": 0.1, "left_out": []}
    assert answer["train_images"] + answer["val_images"] == 30
    assert answer["val_images"] >= 3
    assert answer["val_top1"] == 1.0  # the mean colour tells colours apart


def test_what_is_held_out_is_what_a_training_would_hold_out(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two classes of which one picture each has the colour of the other: which are wrong tells where they went."""
    for name, other in (("red", "blue"), ("blue", "red")):
        (source / name / "005.png").write_bytes(make_image("PNG", 16, 16, seed=9, color=other))
    spec = make_run(source.parent / "run", source)[0].recipe.input
    with serving(Script()) as url:
        for seed in range(2):
            answer = run(capsys, "--service", url, source, "--seed", seed, "--c", 10)
            training, validation = dataset.load_training(source, spec, 0.1, seed)
            colours = [images.pixels[:].mean((1, 2)).astype(np.float32) for images in (training, validation)]
            weight, bias = fit_head(colours[0], training.targets, 3, 10)
            right = [
                ((part @ weight.T + bias).argmax(1) == images.targets).mean()
                for part, images in zip(colours, (training, validation), strict=True)
            ]
            assert [answer["train_top1"], answer["val_top1"]] == pytest.approx(right, abs=1e-4)


def test_validation_and_test_folders_are_reported_and_bad_files_named(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    source.rename(whole / "train")
    make_folder(whole / "val", each=3, seed=300)
    make_folder(whole / "test", ("red", "blue"), each=2, seed=600)
    (whole / "test" / "red" / "wrong.png").write_bytes((whole / "test" / "blue" / "000.png").read_bytes())
    (whole / "train" / "red" / "note.png").write_text("no picture")
    with serving(Script()) as url:
        answer = run(capsys, "--service", url, whole)

    assert (answer["train_images"], answer["val_images"], answer["test_images"]) == (30, 9, 5)
    assert (answer["val_top1"], answer["test_top1"]) == (1.0, 0.8)
    assert answer["left_out"] == [f"{whole / 'train' / 'red' / 'note.png'}: the file is no image"]


def test_a_key_comes_from_the_environment(
    source: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(Script(key="secret")) as url:
        monkeypatch.setenv("HUBEL_API_KEY", "secret")
        assert run(capsys, "--service", url, source)["val_top1"] == 1.0
        monkeypatch.delenv("HUBEL_API_KEY")
        assert main(["probe", "--service", url, str(source)]) == 1

    assert "HUBEL_API_KEY" in capsys.readouterr().err


def test_a_run_is_probed_and_its_checkpoint_with_the_fitted_head_can_be_evaluated_and_published(
    journey: Journey, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = make_folder(tmp_path / "other", ("black", "white"), each=8)
    make_folder(tmp_path / "other" / "train", ("black", "white"), each=8)
    make_folder(tmp_path / "other" / "test", ("black", "white"), each=4, seed=400)
    out = tmp_path / "probed"

    answer = run(capsys, "--run", journey.run, source, "--out", out)

    (checkpoint, model, _), (_, trained, _) = checkpoints.load(out), checkpoints.load(journey.run)
    assert checkpoint.classes == ("black", "white")
    assert all(torch.equal(v, model.state_dict()[n]) for n, v in trained.state_dict().items() if not n.startswith("head."))
    assert answer["dimensions"] == 240
    assert answer["val_top1"] == checkpoint.history[0]["validation_accuracy"]
    assert main(["evaluate", str(out), str(source), "--json"]) == 0
    evaluation = json.loads(capsys.readouterr().out)
    assert (evaluation["split"], evaluation["top1"]) == ("test", answer["test_top1"])
    assert run(capsys, "--run", journey.run, source)["test_top1"] == answer["test_top1"]  # without a checkpoint


def test_a_package_and_its_run_have_the_same_features(
    journey: Journey, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = make_folder(tmp_path / "other", ("black", "purple", "white", "yellow"), each=10)

    of_run = run(capsys, "--run", journey.run, source)
    of_folder = run(capsys, "--run", journey.package, source)
    of_name = run(capsys, "--run", "colours:1", source, "--store", journey.store)

    assert of_folder == of_name == of_run | {"model": "colours:1"}


def test_a_package_with_weights_can_become_a_checkpoint(
    journey: Journey, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    package.publish(journey.run, tmp_path / "store", "colours", with_weights=True)
    source = make_folder(tmp_path / "other", ("black", "white"), each=4)

    run(capsys, "--run", "colours", source, "--store", tmp_path / "store", "--out", tmp_path / "probed")

    assert checkpoints.load(tmp_path / "probed")[0].provenance["started_from"]["package"] == "colours:1"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--service", "http://127.0.0.1:9", "{data}"], "no service answers at http://127.0.0.1:9"),
        (["--service", "http://127.0.0.1:9", "{data}", "--out", "{tmp}/x"], "a service gives no weights"),
        (["--run", "{package}", "{data}", "--out", "{tmp}/x"], "no weights to train on"),
        (["--run", "{tmp}/none", "{data}"], "no checkpoint in"),
        (["--run", "{run}", "{tmp}/none"], "is not a folder"),
        (["--run", "{run}", "{data}", "--out", "{run}"], "holds a checkpoint already"),
        (["--run", "{run}", "{data}", "--c", "0"], "> 0"),
        (["--run", "{run}", "{data}", "--validation-share", "1"], "<= 0.9"),
    ],
)
def test_what_cannot_be_probed_is_one_line(
    arguments: list[str], reason: str, journey: Journey, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"data": source, "tmp": tmp_path, "run": journey.run, "package": journey.package}
    before = sorted(path.name for path in journey.run.iterdir())

    assert main(["probe", *(argument.format(**places) for argument in arguments)]) == 1

    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: ")
    assert reason in last
    assert sorted(path.name for path in journey.run.iterdir()) == before
    assert not (tmp_path / "x").exists()


def test_a_class_without_one_good_image_is_named(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (source / "red").iterdir():
        path.write_text("no picture")
    with serving(Script()) as url:
        assert main(["probe", "--service", url, str(source)]) == 1

    assert "no usable image of the class red" in capsys.readouterr().err
