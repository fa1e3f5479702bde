"""retrain.py: the next version learns from feedback, and what was held out from the one before stays held out."""

import csv
import json
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.captures import captured
from models.captures.captured import CapturedAnswer
from models.package import comparison, held_out_answers
from models.package import manifest as manifests
from models.package.drift_reference import FILE as REFERENCE
from models.package.precision import CPU
from models.registry import registry
from tests.factories import encode, make_image
from tests.training.conftest import Journey
from tests.training.data.factories import photo, saved_anew
from tests.training.factories import COLOURS, NO_DRAWINGS, SPEC, make_folder, make_recipe, make_run
from training.__main__ import main
from training.data import dataset
from training.data.lineage import unpack
from training.data.sources.catalogue import join, open_source, title
from training.errors import CheckpointError, DataError, RecipeError, TrainingError
from training.evaluation import evaluate
from training.loop import checkpoint as checkpoints
from training.publishing import export, package
from training.report import page, robustness, speed
from training.workflows import retrain


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "SECONDS", 0)
    monkeypatch.setattr(export, "installed", lambda: [CPU])
    monkeypatch.setattr(robustness, "KINDS", ())
    monkeypatch.setattr(page, "drawn", lambda content: NO_DRAWINGS)  # pyright: ignore


@pytest.fixture
def store(journey: Journey, tmp_path: Path) -> Path:
    """The journey's package with its weights, in service."""
    package.publish(journey.run, tmp_path / "store", "colours", with_weights=True)
    return tmp_path / "store"


@pytest.fixture
def feedback(journey: Journey, tmp_path: Path) -> Path:
    """Kept images: new ones with and without a label, and three that are in the old data already."""
    folder = tmp_path / "kept"
    captured.prepare(folder)
    test, train = journey.data / "test" / "red", journey.data / "train" / "red"
    put(folder, "new-1", make_image("PNG", 16, 16, seed=9001, color="red"), given="red")
    put(folder, "new-2", make_image("PNG", 16, 16, seed=9002, color="blue"), given="blue")
    put(folder, "right", make_image("PNG", 16, 16, seed=9003, color="green"), right=True, label="green")
    put(folder, "none", make_image("PNG", 16, 16, seed=9004, color="green"))
    put(folder, "tested", (test / "000.png").read_bytes(), given="red")
    put(folder, "trained", (train / "000.png").read_bytes(), given="blue")
    put(folder, "held-out", held_out_image(journey).read_bytes(), given="blue")
    return folder


def held_out_image(journey: Journey) -> Path:
    recipe = checkpoints.load(journey.run)[0].recipe
    held_out = dataset.load_training(journey.data, recipe.input, recipe.validation_share, recipe.seed)[1]
    return journey.data / "train" / held_out.paths[0]


def put(folder: Path, name: str, image: bytes, given: str | None = None, right: bool = False, label: str = "green") -> None:
    file = captured.image_name(image)
    captured.write_image(folder, file, image)
    told = given is not None or right
    at = datetime.now(UTC)
    captured.write_answer(
        folder,
        CapturedAnswer(
            name, 0, "", file, "colours", 1, label, 0.6, False, at, right if told else None, given, at if told else None
        ),
    )


def test_a_version_is_trained_further_with_feedback_and_published(
    journey: Journey, store: Path, feedback: Path, tmp_path: Path, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    command = ["retrain", "colours", journey.data, feedback, "--store", store, "--out", run, "--epochs", 1, "--json"]

    assert main([*map(str, command)]) == 0

    said = json.loads(capsys.readouterr().out)
    assert (said["published"], said["before"], said["new_images"], said["known_images"]) == ("colours:2", "colours:1", 3, 3)
    assert said["promote"].endswith(f"hubel models promote colours:2 --store {store}")
    pointer = registry.pointer(store, "colours")
    assert pointer is not None
    assert pointer.version == 1  # left to a person
    with open(run / "new" / "feedback.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert sorted(row["label"] for row in rows) == ["blue", "green", "red"]

    before, after = (checkpoints.load(store / "colours" / version)[0] for version in ("1", "2"))
    assert after.data["training_images"] == before.data["training_images"] + 3
    assert after.data["validation_sha256"] == before.data["validation_sha256"]
    assert after.provenance["started_from"]["package"] == "colours:1"
    assert after.data["folder"] == "colours + feedback.csv"
    first, second = (manifests.read(store / "colours" / version) for version in ("1", "2"))
    assert second.evaluation.dataset_sha256 == first.evaluation.dataset_sha256
    assert REFERENCE in second.files

    assert main([*map(str, command)]) == 0  # once more: there is nothing left to do
    assert json.loads(capsys.readouterr().out)["published"] == "colours:2"
    assert registry.versions(store, "colours") == [1, 2]


def test_what_was_trained_validated_or_tested_on_is_not_new(journey: Journey, feedback: Path) -> None:
    checkpoint = checkpoints.load(journey.run)[0]
    old = retrain.old_images(journey.data, checkpoint, "colours:1")
    new, known, _ = retrain.new_images(journey.data, retrain.labelled(feedback), checkpoint, old)
    assert known == 3
    recipe = checkpoint.recipe
    old = dataset.load_training(journey.data, recipe.input, recipe.validation_share, recipe.seed)
    test = dataset.load_test(journey.data, recipe.input, checkpoint.classes)
    assert test is not None
    pixels = {picture.tobytes() for images in (*old, test) for picture in images.pixels}
    part = dataset.decode(retrain.make_part("new", new), recipe.input, checkpoint.classes)
    assert len(part) == 3
    assert not pixels & {picture.tobytes() for picture in part.pixels}


def test_data_that_the_version_was_not_validated_on_is_refused(
    store: Path, feedback: Path, tmp_path: Path, journey: Journey
) -> None:
    other = make_folder(tmp_path / "other", each=24, seed=77)
    with pytest.raises(CheckpointError, match="what was held out must stay held out"):
        retrain.retrain("colours", other, feedback, store)


def test_feedback_that_is_all_known_or_without_labels_is_refused(journey: Journey, store: Path, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    captured.prepare(folder)
    put(folder, "none", make_image())
    with pytest.raises(DataError, match="no image with a label yet"):
        retrain.retrain("colours", journey.data, folder, store)
    put(folder, "trained", (journey.data / "train" / "red" / "000.png").read_bytes(), given="red")
    with pytest.raises(DataError, match=r"all 1 images of .* nothing is new"):
        retrain.retrain("colours", journey.data, folder, store)


def test_a_version_without_weights_is_refused(journey: Journey, feedback: Path) -> None:
    with pytest.raises(CheckpointError, match="--with-weights"):
        retrain.retrain("colours", journey.data, feedback, journey.store)


@pytest.mark.parametrize("key", ["seed", "validation_share", "size"])
def test_what_decides_what_is_held_out_cannot_be_changed(key: str) -> None:
    with pytest.raises(RecipeError, match=f"{key} must stay as before"):
        retrain.recipe_after(make_recipe(), {key: 1})


def test_the_recipe_is_that_of_before_for_fewer_epochs_at_a_lower_rate() -> None:
    before = make_recipe(epochs=30, sizes=[8])
    after = retrain.recipe_after(before, {"batch_size": 3})
    assert (after.epochs, after.learning_rate, after.sizes, after.batch_size) == (10, pytest.approx(0.005), (), 3)
    assert (after.seed, after.validation_share, after.input) == (before.seed, before.validation_share, before.input)
    assert retrain.recipe_after(make_recipe(epochs=1), {}).epochs == 1
    assert retrain.recipe_after(make_recipe(fit="both"), {}).fit == "gradient"  # its head is fitted already


def test_each_set_of_new_images_gets_a_run_of_its_own_and_the_same_one_goes_on(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "new", each=2)
    items = list(open_source(folder).train.items)
    runs = [tmp_path / f"run-{i}" for i in range(3)]
    assert retrain.put(items[:4], runs) == runs[0]
    assert retrain.put(items, runs) == runs[1]
    assert retrain.put(items[:4], runs) == runs[0]
    with pytest.raises(DataError, match="other images"):
        retrain.put(items[:3], [runs[0]])


def test_promotion_is_asked_for_with_its_canary_and_a_refusal_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[list[str]] = []
    code = 0

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        return subprocess.CompletedProcess(command, code, "what the gate says\n")

    monkeypatch.setattr(subprocess, "run", run)
    store = Path("store")
    assert retrain.promote("a:2", store, retrain.Promotion(10, 500, 0.3), "why") == "what the gate says"
    assert asked[0][1:] == [
        "-m",
        "models",
        "promote",
        "a:2",
        "--store",
        "store",
        "--reason",
        "why",
        *["--canary", "10", "--requests", "500", "--max-disagreement", "0.3"],
    ]
    code = 1
    with pytest.raises(TrainingError, match="a:2 is published and was not promoted"):
        retrain.promote("a:2", store, retrain.Promotion(), "why")
    assert "--canary" not in asked[1]
    assert "what the gate says" in capsys.readouterr().err


def test_promotion_puts_the_new_version_into_service(store: Path, journey: Journey) -> None:
    package.publish(journey.run, store, "colours")
    retrain.promote("colours:2", store, retrain.Promotion(), "retrained")
    pointer = registry.pointer(store, "colours")
    assert pointer is not None
    assert (pointer.version, pointer.reason) == (2, "retrained")


@pytest.mark.parametrize("option", ["--canary", "--requests", "--max-disagreement"])
def test_how_to_promote_without_promotion_is_refused(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["retrain", "colours", "data", "kept", option, "1"]) == 1
    assert "add --promote" in capsys.readouterr().err


def test_joined_sources_hold_out_the_same_as_the_first_alone(tmp_path: Path) -> None:
    old, new = make_folder(tmp_path / "old", each=8), make_folder(tmp_path / "new", ("red",), each=3, seed=50)
    source = join(old, new)
    spec = make_recipe().input
    alone, together = dataset.load_training(old, spec, 0.25, 0), dataset.load_training(source, spec, 0.25, 0)
    assert dataset.fingerprint(together[1]) == dataset.fingerprint(alone[1])
    assert len(together[0]) == len(alone[0]) + 3
    np.testing.assert_array_equal(together[0].pixels[: len(alone[0])], alone[0].pixels)
    assert together[0].classes == alone[0].classes
    assert set(together[0].targets[-3:]) == {alone[0].classes.index("red")}
    assert len(set(together[0].paths)) == len(together[0])
    assert title(source) == "old + new"
    assert len(dataset.load_training(join(source, new), spec, 0.25, 0)[0]) == len(alone[0]) + 6


def test_a_class_that_only_the_new_images_have_is_learnt_and_held_out_from(tmp_path: Path) -> None:
    old, new = make_folder(tmp_path / "old", each=8), make_folder(tmp_path / "new", ("violet",), each=3, seed=70)
    alone = dataset.load_training(old, SPEC, 0.25, 0)
    training, held_out = dataset.load_training(join(old, new), SPEC, 0.25, 0)
    assert training.classes == (*COLOURS, "violet")
    assert 3 in training.targets
    assert 3 in held_out.targets
    assert set(alone[1].identities.tolist()) < set(held_out.identities.tolist())


def grown(journey: Journey, tmp_path: Path) -> Path:
    """The journey's data, with more pictures, among them of a new class, and other names."""
    folder = Path(shutil.copytree(journey.data, tmp_path / "colours"))
    for path in make_folder(tmp_path / "more", ("blue", "violet"), each=30, seed=4000).rglob("*.png"):
        place = folder / "train" / path.parent.name
        place.mkdir(exist_ok=True)
        path.rename(place / f"more-{path.name}")
    for path in (folder / "train" / "green").iterdir():
        path.rename(path.with_name(f"renamed-{path.name}"))
    return folder


def test_data_that_grew_are_trained_on_and_what_was_held_out_stays_so(journey: Journey, tmp_path: Path) -> None:
    checkpoint = checkpoints.load(journey.run)[0]
    source = grown(journey, tmp_path)

    old = retrain.old_images(source, checkpoint, "colours:1")
    training, held_out = dataset.load_training(source, checkpoint.recipe.input, 0.25, 0, checkpoint.past)

    assert old.gone == 0
    assert old.classes == (*COLOURS, "violet")
    assert set(unpack(checkpoint.held_out)) < set(held_out.identities)
    assert not set(unpack(checkpoint.held_out)) & set(training.identities)
    assert not set(unpack(checkpoint.trained)) & set(held_out.identities)
    assert set(held_out.targets) == set(training.targets) == {0, 1, 2, 3}


def test_a_new_class_of_the_data_and_one_of_feedback_are_learnt(
    journey: Journey, store: Path, tmp_path: Path, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    source = grown(journey, tmp_path)
    folder = make_folder(tmp_path / "labelled", ("yellow", "red"), each=4, seed=8000)
    command = ["retrain", "colours", source, folder, "--store", store, "--out", tmp_path / "run", "--epochs", 1, "--json"]

    assert main([*map(str, command)]) == 0

    said = json.loads(capsys.readouterr().out)
    assert said["promote"].endswith(f"hubel models promote colours:2 --store {store} --classes-change 'added violet, yellow'")
    after = manifests.read(store / "colours" / "2")
    assert sorted(after.labels) == ["blue", "green", "red", "violet", "yellow"]
    before = checkpoints.load(store / "colours" / "1")[0]
    assert set(unpack(before.trained)) < set(unpack(checkpoints.load(store / "colours" / "2")[0].trained))
    old, new = (held_out_answers.read((store / "colours" / v / "answers.npz").read_bytes(), 9, Path(v)) for v in ("1", "2"))
    assert len(comparison.pair(old, list(before.classes), new, after.labels).target) == len(set(old.image))


def test_images_that_are_gone_are_counted_and_half_of_what_was_held_out_must_be_left(
    journey: Journey, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = checkpoints.load(journey.run)[0]
    source = Path(shutil.copytree(journey.data, tmp_path / "colours"))
    training, held_out = dataset.load_run(source, checkpoint.recipe.input, checkpoint.classes, checkpoint.past)
    for path in (training.paths[0], held_out.paths[0]):
        (source / "train" / path).unlink()

    assert retrain.old_images(source, checkpoint, "colours:1").gone == 1
    assert f"1 of the {len(held_out)} images that colours:1 was validated on are gone" in capsys.readouterr().err

    for path in held_out.paths[1 : len(held_out) // 2 + 2]:
        (source / "train" / path).unlink()
    left = len(held_out) - len(held_out) // 2 - 2
    with pytest.raises(CheckpointError, match=f"holds only {left} of the {len(held_out)} images"):
        retrain.old_images(source, checkpoint, "colours:1")


@pytest.mark.parametrize("change", ["renamed", "gone", "val"])
def test_the_true_reason_is_given_for_data_that_cannot_be_gone_on_with(change: str, journey: Journey, tmp_path: Path) -> None:
    checkpoint = checkpoints.load(journey.run)[0]
    source = Path(shutil.copytree(journey.data, tmp_path / "colours"))
    if change == "val":
        make_folder(source / "val", each=2, seed=7000)
        reason = (
            f"holds none of the .* colours:1 was validated on, {len(unpack(checkpoint.held_out))} of them lie among its training"
        )
    else:
        shutil.rmtree(source / "test")
        (source / "train" / "red").rename(source / "train" / "rouge" if change == "renamed" else tmp_path / "red")
        reason = "has no class red any more, which colours:1 knows"
        reason += ", and rouge holds images that it knows by another name: give" if change == "renamed" else ": give"
    with pytest.raises(CheckpointError, match=reason):
        retrain.old_images(source, checkpoint, "colours:1")


def test_near_copies_of_what_is_measured_on_are_not_trained_on(journey: Journey, tmp_path: Path) -> None:
    source = tmp_path / "photos"
    for i in range(16):
        folder = source / ("train" if i < 12 else "test") / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{i}.png").write_bytes(encode(photo(i, 64)))
    checkpoint = make_run(tmp_path / "run", source)[0]
    for i in (*range(16), 50):
        (tmp_path / "sent" / "b").mkdir(parents=True, exist_ok=True)
        (tmp_path / "sent" / "b" / f"{i}.jpg").write_bytes(saved_anew(photo(i, 64)))
    measured = len(unpack(checkpoint.held_out)) + 4

    old = retrain.old_images(source, checkpoint, "photos:1")
    part = open_source(tmp_path / "sent").train
    new = retrain.new_images(source, part, checkpoint, old)

    assert (len(new.items), new.known, new.near) == (17 - measured, 0, measured)


def test_a_version_that_noted_no_identities_goes_on_with_its_data_and_says_why_with_others(
    journey: Journey, tmp_path: Path
) -> None:
    """As a run of an earlier version, which drew what it held out by the order of the images."""
    source = Path(shutil.copytree(journey.data, tmp_path / "colours"))
    checkpoint = checkpoints.load(journey.run)[0]
    sets = dataset.load_sets(source, checkpoint.recipe.input)
    order = np.random.default_rng(0).permutation(72)
    drawn = np.sort(np.concatenate([order[sets.pool.targets[order] == c][:6] for c in range(3)]))
    checkpoint.held_out = checkpoint.trained = b""
    checkpoint.data["validation_sha256"] = dataset.fingerprint(sets.pool.subset(drawn))

    trained, held_out = evaluate.training_images(source, checkpoint)
    assert dataset.fingerprint(held_out) == checkpoint.data["validation_sha256"]
    assert len(trained) == 54
    retrain.old_images(source, checkpoint, "colours:1")

    make_folder(source / "train", ("red",), each=1, seed=600)
    (source / "train" / "red" / "000.png").rename(source / "train" / "red" / "more.png")
    with pytest.raises(CheckpointError, match="has changed since an earlier version of Hubel trained it"):
        retrain.old_images(source, checkpoint, "colours:1")


def test_joining_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="joins no image"):
        open_source(f"join:{make_folder(tmp_path / 'old', each=1)}")
