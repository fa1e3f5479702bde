"""A run whose images are too many for the memory: it ends as one in memory does, and never reads all of them at once."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.training.factories import EVERYTHING, interrupt_at, make_folder, make_recipe, same, timeless
from training.data import decoded, memory, pixels
from training.data.pixels import Array, OnDisk
from training.evaluation import evaluate
from training.loop import checkpoint as checkpoints
from training.loop import epoch, train
from training.publishing import drift_reference, export
from training.report import document, patches, robustness, speed

EACH, PART = 60, 40  # images of a class to train on; of all 180, so many may be read at once
GEOMETRY = {"height": 8, "width": 8, "resize": 8}
RESULTS = (evaluate.FILE, export.FILE, "data.json")
OF_THE_CLOCK = ("made", "exported", "history", "kept", "run")  # of a report


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "colours"
    make_folder(root / "train", each=EACH)
    make_folder(root / "test", each=20, seed=500)
    (root / "train" / "red" / "000.png").write_bytes(b"no image")
    return root


@pytest.fixture
def quick(networks: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "SECONDS", 0.01)
    monkeypatch.setattr(robustness, "SECONDS", 0)


def without_memory(patch: pytest.MonkeyPatch) -> list[int]:
    """How many images were read at once each time."""
    counts: list[int] = []
    real = OnDisk.__getitem__

    def counted(self: OnDisk, which: Any) -> Array:
        found = real(self, which)
        counts.append(len(found) if found.ndim == 4 else 1)
        return found

    patch.setattr(memory, "limit", lambda: 2**10)
    patch.setattr(OnDisk, "__getitem__", counted)
    return counts


@pytest.mark.parametrize("changes", [{}, EVERYTHING], ids=["plain", "everything"])
def test_the_same_seed_trains_the_same_network_bit_for_bit(
    source: Path, tmp_path: Path, networks: None, changes: dict[str, Any]
) -> None:
    recipe = make_recipe(architecture="staged", epochs=2, batch_size=16, **changes)
    in_memory = train.train(source, tmp_path / "a" / "run", recipe, say=False)
    with pytest.MonkeyPatch.context() as patch:
        counts = without_memory(patch)
        on_disk = train.train(source, tmp_path / "b" / "run", recipe, say=False)

    assert counts
    assert not (tmp_path / "a" / decoded.FOLDER).exists()
    assert (tmp_path / "b" / decoded.FOLDER).exists()
    assert timeless(on_disk) == timeless(in_memory)
    assert (on_disk.mean, on_disk.std, on_disk.trained) == (in_memory.mean, in_memory.std, in_memory.trained)
    first, second = (checkpoints.load(tmp_path / name / "run") for name in "ab")
    assert same(first[1].state_dict(), second[1].state_dict())


def test_a_run_goes_on_from_the_disk_as_in_memory(source: Path, tmp_path: Path, networks: None) -> None:
    recipe = make_recipe(architecture="staged", epochs=3, batch_size=16)
    whole = train.train(source, tmp_path / "whole", recipe, say=False)
    with pytest.MonkeyPatch.context() as patch:
        without_memory(patch)
        with pytest.raises(KeyboardInterrupt), interrupt_at(2 * whole.data["training_images"] // 16):
            train.train(source, tmp_path / "run", recipe, say=False)
        shutil.rmtree(tmp_path / decoded.FOLDER)  # as make clean does
        assert timeless(train.train(source, tmp_path / "run", None, say=False)) == timeless(whole)


def test_every_stage_measures_the_same_and_reads_a_part_at_a_time(source: Path, tmp_path: Path, quick: None) -> None:
    recipe = make_recipe(architecture="staged", epochs=1, batch_size=16, input=GEOMETRY)
    for name in "ab":
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(evaluate, "BATCH", PART)
            patch.setattr(export, "BATCH", PART)
            patch.setattr(export, "CALIBRATION_IMAGES", 10)
            patch.setattr(patches, "BATCH", PART)
            patch.setattr(document, "TIMED", PART)
            patch.setattr(drift_reference, "BATCH", PART)
            patch.setattr(pixels, "AT_ONCE", PART * 8 * 8 * 3)
            patch.setattr(epoch, "LEAST_BATCH", PART)
            counts = without_memory(patch) if name == "b" else []
            run = tmp_path / name / "run"
            train.train(source, run, recipe, say=False)
            evaluate.evaluate(run, source)
            export.export(run, source)
            document.report(run, source)
        if name == "b":
            assert 0 < max(counts) <= PART

    for file in RESULTS:
        assert json.loads((tmp_path / "a" / "run" / file).read_bytes()) == json.loads(
            (tmp_path / "b" / "run" / file).read_bytes()
        )
    first, second = (json.loads((tmp_path / name / "run" / "report.json").read_bytes()) for name in "ab")
    assert {key for key in first if first[key] != second[key]} <= set(OF_THE_CLOCK)
