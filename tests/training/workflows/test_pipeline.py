"""training/workflows/pipeline.py: one call makes a package and a report, and called again it goes on where it was stopped."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.image import preprocess as images
from models.image.spec import InputSpec
from models.package.manifest import CARD, MODEL, REPORT
from models.package.precision import CPU
from models.registry import registry
from models.terminal import program
from tests.factories import make_image, make_package
from tests.training.conftest import Journey
from tests.training.factories import NO_DRAWINGS, interrupt_at, make_folder, make_recipe, make_run, write_recipe
from training.__main__ import main
from training.data import contents as noted
from training.data import dataset
from training.data import decoded as decoding
from training.errors import CheckpointError, RecipeError
from training.evaluation import evaluate
from training.loop import checkpoint as checkpoints
from training.publishing import export, package
from training.report import document, facts, page, robustness, speed
from training.workflows import pipeline
from training.workflows.pipeline import Beginning, Made


def worked_on(said: str) -> list[str]:
    """Names of the stages that were not finished before, of what stands on standard error."""
    lines = [line for line in said.splitlines() if line.startswith("[")]
    names = [line.partition("] ")[2].partition(":")[0] for line in lines]
    assert names == list(pipeline.STAGES[: len(names)])
    return [name for name, line in zip(names, lines, strict=True) if "finished before" not in line]


def test_one_command_leads_from_a_folder_to_a_package_however_often_it_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(speed, "SECONDS", 0)
    monkeypatch.setattr(export, "installed", lambda: [CPU])
    monkeypatch.setattr(robustness, "KINDS", ())
    monkeypatch.setattr(page, "drawn", lambda content: NO_DRAWINGS)  # pyright: ignore
    decoded: list[int] = []

    def decode(file: bytes, spec: InputSpec) -> images.Stored:
        decoded.append(len(file))
        return images.decode(file, spec=spec)

    monkeypatch.setattr(decoding, "decode", decode)
    source, run, store = make_folder(tmp_path / "colours"), tmp_path / "run", tmp_path / "store"
    recipe = write_recipe(tmp_path / "tiny.toml")
    command = ["run", str(source), "--name", "pets", "--out", str(run), "--store", str(store), "--json"]

    with interrupt_at(6):  # in the second of three epochs
        assert main([*command, "--recipe", str(recipe)]) == 130
    stopped = capsys.readouterr()
    assert worked_on(stopped.err) == ["train"]
    assert stopped.err.splitlines()[-1].startswith("stopped at [1/5] train; what was finished before stays")
    assert re.search(r"epoch 1  loss .* about \d+ s left\n", stopped.err)
    assert checkpoints.load(run)[0].epoch == 1

    decoded.clear()
    assert main(command) == 0  # by the recipe of the checkpoint
    done = capsys.readouterr()
    assert len(decoded) == 24  # each image once, for all stages
    decoded.clear()
    assert worked_on(done.err) == list(pipeline.STAGES)
    checkpoint = checkpoints.load(run)[0]
    assert [epoch["epoch"] for epoch in checkpoint.history] == [1, 2, 3]
    assert json.loads(done.out) == {
        "top1": json.loads((run / evaluate.FILE).read_text())["top1"],
        "report": str(run / REPORT),
        "published": "pets:1",
        "folder": str(store / "pets" / "1"),
        "serve": f"HUBEL_STORE={store} HUBEL_MODEL=pets:1 make serve",
    }
    assert REPORT in registry.verify(registry.resolve(store, "pets")).files

    assert main([*command, "--recipe", str(recipe)]) == 0  # as it was first typed
    again = capsys.readouterr()
    assert worked_on(again.err) == []
    assert again.out == done.out
    assert decoded == []
    assert registry.versions(store, "pets") == [1]


@pytest.fixture
def run(journey: Journey, tmp_path: Path) -> Path:
    """A run that is finished, published in the journey's store."""
    return Path(shutil.copytree(journey.run, tmp_path / "run"))


@pytest.fixture
def copied(journey: Journey, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stages between training and publishing that leave again what the finished run has, and do no other work."""

    def leave(*names: str, page: str = "") -> Callable[..., None]:
        def stage(folder: Path, *_: object) -> None:
            for name in names:
                shutil.copyfile(journey.run / name, folder / name)
            if page:
                (folder / REPORT).write_text(page)

        return stage

    monkeypatch.setattr(evaluate, "evaluate", leave(evaluate.FILE))
    monkeypatch.setattr(export, "export", leave(export.FILE, MODEL))
    monkeypatch.setattr(pipeline, "report", leave(facts.FILE, page="made again"))


def is_newer(name: str) -> Callable[[Path], None]:
    def change(run: Path) -> None:
        latest = max(path.stat().st_mtime_ns for path in run.iterdir())
        os.utime(run / name, ns=(latest + 1, latest + 1))

    return change


def is_gone(name: str) -> Callable[[Path], None]:
    return lambda run: (run / name).unlink()


def is_of_another_epoch(name: str) -> Callable[[Path], None]:
    def change(run: Path) -> None:
        times = (run / name).stat()
        (run / name).write_text(json.dumps(json.loads((run / name).read_text()) | {"epoch": 3}))
        os.utime(run / name, ns=(times.st_atime_ns, times.st_mtime_ns))

    return change


def is_damaged(name: str) -> Callable[[Path], None]:
    def change(run: Path) -> None:
        (run / name).write_text('{"epo')

    return change


def nothing(run: Path) -> None:
    pass


@pytest.mark.usefixtures("copied")
@pytest.mark.parametrize(
    ("change", "options", "expected"),
    [
        pytest.param(nothing, {}, [], id="all is finished"),
        pytest.param(is_newer(checkpoints.SIDECAR), {}, ["evaluate", "export", "report", "publish"], id="trained again"),
        pytest.param(is_gone(evaluate.FILE), {}, ["evaluate", "export", "report", "publish"], id="not evaluated"),
        pytest.param(is_of_another_epoch(export.FILE), {}, ["export", "report", "publish"], id="exported before"),
        pytest.param(is_gone(MODEL), {}, ["export", "report", "publish"], id="no graph"),
        pytest.param(nothing, {"fp16": True}, ["export", "report", "publish"], id="fp16 asked for"),
        pytest.param(is_damaged(facts.FILE), {}, ["report", "publish"], id="a damaged report"),
        pytest.param(is_gone(REPORT), {}, ["report", "publish"], id="no page"),
        pytest.param(nothing, {"with_images": False}, ["report", "publish"], id="no images wanted"),
        pytest.param(nothing, {"with_weights": True}, ["publish"], id="weights wanted"),
        pytest.param(nothing, {"name": "others"}, ["publish"], id="another name"),
        pytest.param(nothing, {"store": "elsewhere"}, ["publish"], id="another store"),
    ],
)
def test_a_stage_is_done_again_when_what_it_is_made_of_is_newer(
    change: Callable[[Path], None],
    options: dict[str, Any],
    expected: list[str],
    journey: Journey,
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    change(run)

    store = Path(shutil.copytree(journey.store, tmp_path / "store"))
    name, place = options.get("name", "colours"), tmp_path / options.get("store", "store")
    made = Made(**{key: value for key, value in options.items() if key not in ("name", "store")})
    done = pipeline.run(journey.data, run, name, place, Beginning(None), made)

    assert worked_on(capsys.readouterr().err) == expected
    assert registry.versions(store, "colours") == ([1, 2] if expected and not {"name", "store"} & options.keys() else [1])
    assert registry.verify(Path(done["folder"])).id == done["published"]


def fail(*_: object) -> None:
    raise KeyError("no such field")


@pytest.mark.usefixtures("copied")
def test_a_report_that_cannot_be_made_keeps_no_model_from_being_published(
    journey: Journey, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / REPORT).unlink()
    command = ["run", str(journey.data), "--name", "pets", "--out", str(run), "--store", str(tmp_path / "store"), "--json"]
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "report", document.report)
        patch.setattr(document, "gather", fail)
        assert main(command) == 0

    said = capsys.readouterr()
    assert worked_on(said.err) == ["report", "publish"]
    (warning,) = [line for line in said.err.splitlines() if line.startswith("warning: ")]
    assert "KeyError: 'no such field'" in warning
    assert warning.endswith(f"make it again with: {program.command('report', run, journey.data)}")
    assert "Traceback" not in said.err
    assert "in fail" in (run / document.ERROR).read_text()
    done = json.loads(said.out)
    assert (done["published"], done["report"]) == ("pets:1", None)
    assert "KeyError: 'no such field'" in done["report_error"]
    assert REPORT not in registry.verify(Path(done["folder"])).files
    assert "published without a report" in Path(done["folder"], CARD).read_text()

    assert main(command) == 0  # the report is made, the version that is published stays

    again = capsys.readouterr()
    assert worked_on(again.err) == ["report"]
    assert f"the next version with it: {program.command('publish', run, '--name', 'pets')}" in again.err
    assert json.loads(again.out)["report"] == str(run / REPORT)
    assert registry.versions(tmp_path / "store", "pets") == [1]


@pytest.mark.usefixtures("copied")
@pytest.mark.parametrize("error", [MemoryError(), CheckpointError("the data changed"), OSError("disk full")])
def test_whatever_a_report_fails_of_a_report_of_before_is_not_published(
    error: Exception, journey: Journey, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise error

    monkeypatch.setattr(pipeline, "report", stop)
    is_damaged(facts.FILE)(run)

    done = pipeline.run(journey.data, run, "pets", tmp_path / "store", Beginning(None))

    assert done["report_error"] in (str(error), "MemoryError", "OSError: disk full")
    assert not (run / REPORT).exists()
    assert REPORT not in registry.verify(Path(done["folder"])).files


@pytest.mark.usefixtures("copied")
def test_a_report_that_is_stopped_stops_the_run(
    journey: Journey, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "report", stop)
    (run / REPORT).unlink()

    with pytest.raises(KeyboardInterrupt):
        pipeline.run(journey.data, run, "pets", tmp_path / "store", Beginning(None))

    assert registry.versions(tmp_path / "store", "pets") == []


def test_a_package_without_a_report_is_not_taken_for_one_of_other_figures(
    journey: Journey, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run / REPORT).unlink()
    package.publish(run, tmp_path / "store", "pets")
    monkeypatch.setattr(pipeline, "_is_exported", lambda *_: True)
    monkeypatch.setattr(pipeline, "_is_reported", lambda *_: True)
    told = json.loads((run / evaluate.FILE).read_text()) | {"threshold": 0.9}
    (run / evaluate.FILE).write_text(json.dumps(told))
    (run / facts.FILE).write_text(json.dumps(json.loads((run / facts.FILE).read_text()) | {"evaluation": told}))
    (run / REPORT).write_text("made again")

    done = pipeline.run(journey.data, run, "pets", tmp_path / "store", Beginning(None))

    assert done["published"] == "pets:2"


def test_a_published_report_names_the_version_that_it_is_of(journey: Journey, run: Path, tmp_path: Path) -> None:
    for version in (1, 2):
        package.publish(run, tmp_path / "store", "pets")
        page = (tmp_path / "store" / "pets" / str(version) / REPORT).read_text()
        assert f"<title>pets:{version} \u00b7 resnet10-small on colours, " in page
        assert f'<h1><span id="name">pets:{version}</span></h1>' in page
    assert '<span id="name">run</span>' in (run / REPORT).read_text()


def contents(run: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


def test_a_damaged_package_is_not_taken_for_the_published_one(
    journey: Journey, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Path(shutil.copytree(journey.store, tmp_path / "store"))
    (store / "colours" / "1" / "manifest.json").write_text("{")

    assert pipeline.run(journey.data, run, "colours", store, Beginning(None))["published"] == "colours:2"

    assert worked_on(capsys.readouterr().err) == ["publish"]


def test_a_stage_that_fails_is_named_and_those_before_stay(
    journey: Journey, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = Path(shutil.copytree(journey.data, tmp_path / "colours"))
    (source / "test" / "red").rename(source / "test" / "rouge")
    (run / evaluate.FILE).unlink()
    before = contents(run)

    assert main(["run", str(source), "--name", "colours", "--out", str(run), "--store", str(tmp_path)]) == 1

    said = capsys.readouterr()
    assert worked_on(said.err) == ["evaluate"]
    *_, stopped, error = said.err.splitlines()
    assert stopped.startswith("stopped at [2/5] evaluate; what was finished before stays, and the same command goes on")
    assert error.startswith("error: ")
    assert "not know: rouge" in error
    assert said.out == ""
    assert contents(run) == before


@pytest.mark.parametrize("name", ["Pets", "my pets", "", "../pets"])
def test_a_name_that_is_not_allowed_is_refused_before_anything_is_done(name: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"the name is .*lower-case letters"):
        pipeline.run(make_folder(tmp_path / "colours"), tmp_path / "run", name, tmp_path / "store", Beginning(make_recipe()))

    assert not (tmp_path / "run").exists()


def test_a_run_of_another_recipe_is_not_gone_on_with(journey: Journey, run: Path) -> None:
    recipe = checkpoints.load(run)[0].recipe
    before = contents(run)

    with pytest.raises(RecipeError, match=r"another recipe \(.*epochs 4 instead of 3"):
        pipeline.run(journey.data, run, "colours", journey.store, Beginning(make_recipe()))

    pipeline.check_recipe(run, recipe)
    assert contents(run) == before


def test_the_command_that_serves_names_the_store_where_it_is_not_the_checkouts(tmp_path: Path) -> None:
    assert pipeline.serve_command(registry.STORE, "pets:1") == "HUBEL_MODEL=pets:1 make serve"
    other = tmp_path / "my store"
    assert pipeline.serve_command(other, "pets:1") == f"HUBEL_STORE='{other}' HUBEL_MODEL=pets:1 make serve"


@pytest.fixture
def trained(journey: Journey, copied: None, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that were trained in, which then hold the journey's checkpoint, as if it were of the data."""
    folders: list[Path] = []

    def train(source: Path, folder: Path, *_: object, **__: object) -> None:
        folders.append(folder)
        folder.mkdir(exist_ok=True)
        for path in (journey.run / checkpoints.SIDECAR, *journey.run.glob("weights-*.pt")):
            shutil.copyfile(path, folder / path.name)
        before = noted.read(journey.run)
        assert before is not None
        noted.write(folder, noted.compare(before, noted.look(source))[1])

    monkeypatch.setattr(pipeline, "train", train)
    return folders


@pytest.fixture
def photos(journey: Journey, tmp_path: Path) -> Path:
    """The journey's data, to be changed."""
    return Path(shutil.copytree(journey.data, tmp_path / "photos"))


@pytest.fixture
def store(journey: Journey, tmp_path: Path) -> Path:
    return Path(shutil.copytree(journey.store, tmp_path / "store"))


def test_data_that_changed_are_trained_on_anew_and_published_as_the_next_version(
    run: Path, photos: Path, store: Path, trained: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(run)
    (photos / "train" / "red" / "000.png").unlink()
    make_folder(photos / "train", ("red", "black"), each=2, seed=900)  # two of red are other pictures now

    done = pipeline.run(photos, run, "colours", store, Beginning(None))

    said = capsys.readouterr().err
    assert f"{run} was trained on other data (2 images added, 2 changed; class black added): training again" in said
    assert worked_on(said) == list(pipeline.STAGES)
    assert trained == [run / "2"]
    assert contents(run).items() >= before.items()
    assert (done["published"], done["promote"]) == ("colours:2", program.make("promote", "MODEL=colours:2", f"STORE={store}"))
    now = registry.pointer(store, "colours")
    assert now is not None
    assert now.version == 1

    assert pipeline.run(photos, run, "colours", store, Beginning(None)) == done
    assert worked_on(capsys.readouterr().err) == []
    assert trained == [run / "2"]


def test_the_run_of_data_that_are_as_they_were_is_found_again(
    journey: Journey, run: Path, photos: Path, store: Path, trained: list[Path]
) -> None:
    (photos / "train" / "red" / "more.png").write_bytes(make_image("PNG"))
    assert pipeline.run(photos, run, "colours", store, Beginning(None))["published"] == "colours:2"
    (photos / "train" / "red" / "more.png").unlink()

    assert pipeline.run(photos, run, "colours", store, Beginning(None))["published"] == "colours:1"
    assert trained == [run / "2"]


def test_of_data_that_did_not_change_nothing_is_read(
    journey: Journey, run: Path, store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def read(_: Path) -> bytes:
        raise AssertionError

    monkeypatch.setattr("training.data.sources.folder.read_image", read)

    pipeline.run(journey.data, run, "colours", store, Beginning(None))

    assert worked_on(capsys.readouterr().err) == []


def test_a_folder_that_is_not_there_is_no_run_that_was_finished_before(
    run: Path, tmp_path: Path, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(tmp_path / "none"), "--name", "colours", "--out", str(run), "--store", str(store)]) == 1

    said = capsys.readouterr()
    assert (said.out, worked_on(said.err)) == ("", [])
    assert said.err.startswith(f"error: {tmp_path / 'none'} is not a folder")


def test_other_test_images_are_measured_on_anew_without_training(
    run: Path, photos: Path, store: Path, trained: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "test" / "red" / "more.png").write_bytes(make_image("PNG"))

    assert pipeline.run(photos, run, "colours", store, Beginning(None))["published"] == "colours:2"

    said = capsys.readouterr().err
    assert "other test images than were measured on before (1 image added): measuring again" in said
    assert worked_on(said) == ["evaluate", "export", "report", "publish"]
    pipeline.run(photos, run, "colours", store, Beginning(None))
    assert worked_on(capsys.readouterr().err) == []


def test_a_run_that_was_stopped_does_not_go_on_with_other_data(
    tmp_path: Path, photos: Path, store: Path, trained: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "stopped"
    make_run(run, photos)
    pictures = dataset.load_training(photos, make_recipe().input, 0.25, 0)
    noted.write(run, noted.note(noted.look(photos), *pictures))
    (photos / "train" / "red" / "000.png").unlink()
    before = contents(run)

    pipeline.run(photos, run, "colours", store, Beginning(None))

    assert f"{run} was begun, and stopped, on other data (1 image removed): training again" in capsys.readouterr().err
    assert trained == [run / "2"]
    assert contents(run).items() >= before.items()


@pytest.mark.parametrize("changed", [False, True])
def test_a_run_of_before_that_noted_nothing_is_compared_by_its_images(
    changed: bool, run: Path, photos: Path, store: Path, trained: list[Path]
) -> None:
    (run / noted.FILE).unlink()
    if changed:
        (photos / "train" / "red" / "000.png").unlink()

    pipeline.run(photos, run, "colours", store, Beginning(None))

    assert trained == ([run / "2"] if changed else [])
    assert (run / noted.FILE).exists() != changed


def test_another_folder_under_a_name_that_nobody_chose_is_refused(
    journey: Journey, run: Path, photos: Path, store: Path, trained: list[Path]
) -> None:
    assert pipeline.run(photos, run, "colours", store, Beginning(None), named=False)["published"] == "colours:1"  # it moved
    other = make_folder(journey.data.parent / "other" / "colours", each=3)
    before = contents(run)

    with pytest.raises(RecipeError, match=f"{run} was trained on {photos}, and {other} is not that .*: NAME=colours"):
        pipeline.run(other, run, "colours", store, Beginning(None), named=False)

    assert contents(run) == before
    assert pipeline.run(other, run, "colours", store, Beginning(None))["published"] == "colours:2"
    assert trained == [run / "2"]


def test_a_model_of_somebody_else_gets_no_next_version_under_a_name_that_nobody_chose(
    tmp_path: Path, trained: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    make_package(tmp_path / "store", "my-pets")
    source = make_folder(tmp_path / "My Pets")

    assert main(["run", str(source), "--store", str(tmp_path / "store")]) == 1

    assert "has a model called my-pets already, of which there is no run in runs/my-pets: NAME=my-pets" in capsys.readouterr().err
    assert trained == []


def test_the_weights_that_a_run_began_with_are_not_forgotten_where_the_data_changed(
    run: Path, photos: Path, store: Path, trained: list[Path]
) -> None:
    sidecar = json.loads((run / checkpoints.SIDECAR).read_text())
    sidecar["provenance"]["started_from"] = {"command": "train"}
    (run / checkpoints.SIDECAR).write_text(json.dumps(sidecar))
    (photos / "train" / "red" / "000.png").unlink()

    with pytest.raises(RecipeError, match="which began with the weights of another run: say again with --start-from"):
        pipeline.run(photos, run, "colours", store, Beginning(None))
    assert trained == []
