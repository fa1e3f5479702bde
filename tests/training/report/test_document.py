"""training/report/document.py: report.html and report.json of a run, and when there are none."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.package.manifest import REPORT
from models.package.precision import CPU
from tests.training.conftest import Journey
from tests.training.factories import make_recipe
from training.__main__ import main
from training.data import dataset
from training.errors import CheckpointError
from training.evaluation import evaluate
from training.loop import checkpoint as checkpoints
from training.loop import train
from training.publishing import export
from training.report import document, examples, facts, filters, robustness, speed


@pytest.fixture
def quick(drawn_before: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "SECONDS", 0)
    monkeypatch.setattr(export, "installed", lambda: [CPU])
    monkeypatch.setattr(robustness, "KINDS", ())


def test_both_files_tell_the_same_and_the_second_has_no_pictures(journey: Journey) -> None:
    told: dict[str, Any] = json.loads((journey.run / facts.FILE).read_text())
    html = (journey.run / REPORT).read_text()

    assert told["evaluation"] == json.loads((journey.run / evaluate.FILE).read_text())
    assert told["epoch"] == 4
    assert told["history"][-1]["epoch"] == 4
    assert told["mistakes"]["count"] == 3
    assert {"coverage", "robustness", "filters", "feature_maps", "patches", "class_activation", "exported"} <= told.keys()
    assert "data:image" not in json.dumps(told)
    assert html.count('src="data:image') > 50
    assert told["run"]["data"]["training_sha256"] in html
    assert (journey.run / REPORT).stat().st_size < 2_000_000


def test_the_command_answers_with_both_or_with_the_data(journey: Journey) -> None:
    assert json.loads(journey.said["report"]) == json.loads((journey.run / facts.FILE).read_text())


def copied(journey: Journey, tmp_path: Path) -> tuple[Path, Path]:
    shutil.copytree(journey.run, tmp_path / "run")
    shutil.copytree(journey.data, tmp_path / "colours")
    return tmp_path / "run", tmp_path / "colours"


@pytest.mark.usefixtures("quick")
def test_without_images_no_file_of_the_data_is_named_or_shown(journey: Journey, tmp_path: Path) -> None:
    run, source = copied(journey, tmp_path)
    (source / "test" / "red" / "private.png").write_bytes(b"no picture")

    told = document.report(run, source, with_images=False)

    html = (run / REPORT).read_text()
    for text in (html, json.dumps(told)):
        assert "private" not in text
        assert "wrong.png" not in text
    assert html.count('src="data:image') == 1  # the filters
    assert told["skipped"] == {"count": 1, "files": []}
    assert all(told[name] == examples.PRIVATE for name in examples.NAMES)


@pytest.mark.usefixtures("quick")
def test_files_that_were_left_out_are_named_within_the_data(journey: Journey, tmp_path: Path) -> None:
    run, source = copied(journey, tmp_path)
    (source / "test" / "red" / "broken.png").write_bytes(b"no picture")

    (line,) = document.report(run, source)["skipped"]["files"]

    assert line.startswith("test/red/broken.png: ")
    assert str(tmp_path) not in json.dumps(json.loads((run / facts.FILE).read_text())["skipped"])


def not_evaluated(run: Path, source: Path) -> None:
    (run / evaluate.FILE).unlink()


def of_another_epoch(run: Path, source: Path) -> None:
    result = json.loads((run / evaluate.FILE).read_text())
    (run / evaluate.FILE).write_text(json.dumps(result | {"epoch": 3}))


def of_other_images(run: Path, source: Path) -> None:
    (source / "test" / "red" / "wrong.png").unlink()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (not_evaluated, "run '.*hubel evaluate .* DATA' first"),
        (of_another_epoch, "run '.*hubel evaluate .*' again"),
        (of_other_images, "evaluated on other images than"),
    ],
)
def test_a_run_that_is_not_ready_has_no_report(
    change: Callable[[Path, Path], None], reason: str, journey: Journey, tmp_path: Path
) -> None:
    run, source = copied(journey, tmp_path)
    (run / REPORT).unlink()
    change(run, source)

    with pytest.raises(CheckpointError, match=reason):
        document.report(run, source)

    assert not (run / REPORT).exists()


@pytest.mark.parametrize("n", [1, 18, 40])
def test_a_run_that_was_not_exported_answers_any_number_of_images(n: int, journey: Journey) -> None:
    checkpoint, model, _ = checkpoints.load(journey.run)
    images = dataset.load_test(journey.data, checkpoint.recipe.input, checkpoint.classes)
    assert images is not None
    own = images.pixels[:]
    pixels = np.resize(own, (n, *own.shape[1:]))

    answer = document.answering(journey.run, checkpoint, model, images, {"left_out": "not exported"})

    assert answer(pixels).argmax(axis=1).tolist() == np.resize(answer(own).argmax(axis=1), n).tolist()


def test_the_network_as_it_began_is_made_again(journey: Journey, tmp_path: Path) -> None:
    recipe = make_recipe(epochs=1, learning_rate=1e-9, input={"height": 16, "width": 16, "resize": 16})
    train.train(journey.data, tmp_path / "run", recipe, say=False)
    checkpoint, model, _ = checkpoints.load(tmp_path / "run")

    assert filters.show(model, document.begun(checkpoint))["unlearnt"] == pytest.approx(1, abs=1e-3)


def test_a_report_that_fails_says_so_in_a_line_and_keeps_the_whole_error(
    journey: Journey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, source = copied(journey, tmp_path)
    monkeypatch.setattr(document, "gather", lambda *_: {}["picture\nof"])  # pyright: ignore

    assert main(["report", str(run), str(source)]) == 1

    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"error: the report cannot be made (KeyError: 'picture\\nof'): {run / document.ERROR} says where"
    assert "Traceback" in (run / document.ERROR).read_text()
