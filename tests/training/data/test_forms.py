"""Every form of data goes the whole way: trained on, evaluated, and refused where it is no longer the same."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from models.image.preprocess import Pixels
from tests.training.data.sources.factories import write_csv, write_idx, write_jsonl, write_shard
from tests.training.factories import COLOURS, make_folder, make_run, write_recipe
from training.__main__ import main
from training.data import dataset
from training.data.dataset import ImageSet
from training.evaluation import evaluate
from training.loop import checkpoint as checkpoints
from training.publishing import drift_reference, export

SPLITS = {"train": 8, "test": 4}  # and pictures of each class


def folder(root: Path, seed: int = 0) -> str:
    for split, each in SPLITS.items():
        make_folder(root / "data" / split, each=each, seed=seed + 500 * len(split))
    return str(root / "data")


def rows(root: Path, seed: int) -> list[dict[str, str]]:
    files = sorted(Path(folder(root, seed)).rglob("*.png"))
    return [{"path": str(file.relative_to(root)), "label": file.parent.name, "split": file.parts[-3]} for file in files]


def csv(root: Path, seed: int = 0) -> str:
    return str(write_csv(root / "list", rows(root, seed)))


def jsonl(root: Path, seed: int = 0) -> str:
    return str(write_jsonl(root / "list", rows(root, seed)))


def shards(root: Path, seed: int = 0) -> str:
    for split in SPLITS:
        files: dict[str, bytes] = {}
        for i, row in enumerate(row for row in rows(root, seed) if row["split"] == split):
            files |= {f"{i:03d}.png": (root / row["path"]).read_bytes(), f"{i:03d}.cls": row["label"].encode()}
        write_shard(root / f"{split}-0.tar", files)
    return f"wds:{root}/{{train,test}}-0.tar"


def digits(root: Path, seed: int = 0) -> str:
    shutil.rmtree(root / "sets", ignore_errors=True)
    write_idx(root / "sets", each=8 if seed else 4, seed=seed)
    return f"mnist:{root / 'sets'}"


Make = Callable[..., str]


@pytest.mark.parametrize("make", [folder, csv, jsonl, shards, digits])
def test_a_form_is_trained_on_evaluated_and_guarded(make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = write_recipe(tmp_path / "tiny.toml", epochs=1)
    source, run = make(tmp_path), str(tmp_path / "run")

    assert main(["train", source, "--recipe", str(recipe), "--out", run]) == 0
    capsys.readouterr()
    assert main(["evaluate", run, source, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)

    checkpoint = checkpoints.load(tmp_path / "run")[0]
    classes = tuple("0123456789") if make is digits else COLOURS
    assert checkpoint.classes == classes
    assert answer["split"] == "test"
    assert answer["samples"] == 4 * len(classes)
    assert answer["dataset"] == {folder: "data", csv: "list.csv", jsonl: "list.jsonl", digits: "mnist"}.get(
        make, "{train,test}-0.tar"
    )

    make(tmp_path, seed=7000)  # other images in the same place
    assert main(["evaluate", run, source]) == 1
    assert f"error: {source} does not hold the validation images" in capsys.readouterr().err
    assert main(["train", source, "--out", run, "--resume"]) == 1
    assert "was trained on other images" in capsys.readouterr().err


@pytest.mark.parametrize("with_test", [True, False], ids=["test images", "no test images"])
def test_an_export_measures_on_the_images_that_were_evaluated_on(
    with_test: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, run = csv(tmp_path), tmp_path / "run"
    if not with_test:
        shutil.rmtree(tmp_path / "data" / "test")
        write_csv(tmp_path / "list", [row for row in rows(tmp_path, 0) if row["split"] == "train"])
    facts = make_run(run, Path(source))[0].data
    measured: list[tuple[ImageSet, int]] = []

    def write_graphs(_run: Path, _checkpoint: object, _model: object, images: ImageSet, pixels: Pixels, *_: object) -> object:
        measured.append((images, len(pixels)))
        return {}

    described: list[ImageSet] = []
    monkeypatch.setattr(export, "write_graphs", write_graphs)
    monkeypatch.setattr(drift_reference, "write", lambda _run, images, _source: described.append(images))  # pyright: ignore
    evaluated = evaluate.evaluate(run, source)
    export.export(run, source)

    ((images, calibrated),) = measured
    assert dataset.fingerprint(images) == evaluated["dataset_sha256"]
    assert described == [images]
    assert len(images) == (12 if with_test else facts["validation_images"])
    assert calibrated == facts["training_images"] == 24 - facts["validation_images"]


def test_what_is_left_out_is_told_in_short_and_kept_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = Path(folder(tmp_path))
    for i in range(8):
        (source / "train" / "red" / f"text-{i}.png").write_text("hello")
    recipe = write_recipe(tmp_path / "tiny.toml", epochs=1)

    assert main(["train", str(source), "--recipe", str(recipe), "--out", str(tmp_path / "run")]) == 0

    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("left out: ")]
    assert len(told) == 6
    assert told[0].startswith(f"left out: {source}/train/red/text-0.png: the file looks like text")
    assert told[5].startswith("left out: 3 more: the file looks like text")
    assert len(checkpoints.load(tmp_path / "run")[0].data["skipped"]) == 8
