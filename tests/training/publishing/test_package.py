"""training/publishing/package.py: a published package says what was measured and computes what was promised."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from models.cli import views
from models.image.fingerprint import fingerprint
from models.image.preprocess import preprocess
from models.package import held_out_answers
from models.package.drift_reference import FILE as REFERENCE
from models.package.manifest import ANSWERS, CARD, GOLDEN, MODEL, REPORT, Manifest, PackageError
from models.package.precision import GRAPHS
from models.package.probability import calibration_error
from models.package.report import named
from models.registry import registry
from service.inference.postprocess import rank
from tests.factories import run_onnx
from tests.training.conftest import Journey
from training.__main__ import main
from training.data import dataset
from training.errors import CheckpointError
from training.evaluation import evaluate
from training.evaluation.novelty import THRESHOLD
from training.loop import checkpoint as checkpoints
from training.publishing import export, golden, package
from training.report import facts


@pytest.fixture
def manifest(journey: Journey) -> Manifest:
    return registry.verify(journey.package)


def int8_of(journey: Journey) -> set[str]:
    """The int8 graph, where it passed the gate: 18 images are too few to foresee that."""
    left_out = json.loads((journey.run / export.FILE).read_text())["left_out"]
    return set() if left_out else {GRAPHS["int8"]}


def test_the_package_verifies_and_is_in_service(journey: Journey, manifest: Manifest) -> None:
    assert manifest.id == "colours:1"
    always = {MODEL, GOLDEN, CARD, REPORT, ANSWERS, REFERENCE, "manifest.json"}
    assert {path.name for path in journey.package.iterdir()} == always | int8_of(journey)
    assert registry.resolve(journey.store, "colours") == journey.package
    assert (journey.package / MODEL).read_bytes() == (journey.run / MODEL).read_bytes()


def test_the_manifest_describes_the_network(journey: Journey, manifest: Manifest) -> None:
    checkpoint = checkpoints.load(journey.run)[0]

    assert manifest.architecture == "resnet10-small"
    assert manifest.labels == ["blue", "green", "red"]
    assert manifest.input == checkpoint.recipe.input
    assert manifest.preprocessing == fingerprint(checkpoint.recipe.input)
    assert manifest.outputs == {"logits": [3], "features": [240], "feature_map": [240, 2, 2], "novelty": [1]}
    assert manifest.novelty_threshold == THRESHOLD


def test_the_manifest_holds_the_figures_that_were_measured(journey: Journey, manifest: Manifest) -> None:
    measured: dict[str, Any] = json.loads((journey.run / evaluate.FILE).read_text())
    parity: dict[str, Any] = json.loads((journey.run / export.FILE).read_text())

    figures = msgspec.to_builtins(manifest.evaluation)

    assert manifest.temperature == 1
    assert figures["fitted_temperature"] == measured["temperature"] != 1
    assert manifest.threshold == measured["threshold"]
    for key in figures.keys() - {"fitted_temperature", "parity_max_difference", "parity_same_top1", "providers"}:
        assert figures[key] == measured[key], key
    assert {"top1", "per_class", "calibration_error", "calibration_error_before", "coverage", "accuracy_kept"} <= figures.keys()
    assert figures["parity_max_difference"] == parity["max_difference"]
    assert figures["parity_same_top1"] == parity["same_top1"]
    assert figures["providers"] == parity["providers"]


def test_the_answers_in_the_package_give_the_figures_of_the_evaluation(journey: Journey, manifest: Manifest) -> None:
    found = held_out_answers.read(registry.load(journey.package, manifest, ANSWERS), 3, journey.package)
    evaluation = manifest.evaluation

    files = sorted((journey.data / "test").rglob("*.png"))
    assert sorted(found.image.tolist()) == sorted(held_out_answers.identity(path.read_bytes()) for path in files)
    assert len(found.image) == evaluation.samples
    assert round(found.top1(), 4) == evaluation.top1
    for c, label in enumerate(manifest.labels):
        assert round(float((found.predicted[found.target == c] == c).mean()), 4) == evaluation.per_class[label]
    right = found.predicted == found.target
    assert calibration_error(found.probability, right) == pytest.approx(evaluation.calibration_error, abs=2e-3)
    images = dataset.load_folder(journey.data / "test", manifest.input)
    novelty = run_onnx(journey.package / MODEL, images.pixels[:])["novelty"][:, 0]
    by_image = dict(zip(images.identities.tolist(), (novelty <= THRESHOLD).tolist(), strict=True))
    known = np.array([by_image[image] for image in found.image.tolist()])
    assert (~known).mean() == pytest.approx(evaluation.novel, abs=1e-4)
    assert ((found.probability >= manifest.threshold) & known).mean() == pytest.approx(evaluation.coverage, abs=1e-4)


def test_the_answers_are_what_the_served_graph_gives_for_the_files(journey: Journey, manifest: Manifest) -> None:
    found = held_out_answers.read(registry.load(journey.package, manifest, ANSWERS), 3, journey.package)
    path = journey.data / "test" / "red" / "001.png"
    (row,) = np.flatnonzero(found.image == held_out_answers.identity(path.read_bytes()))
    logits = run_onnx(journey.package / MODEL, preprocess(path.read_bytes(), manifest.input)[None])["logits"][0]

    first = rank(logits, manifest, 1).top[0]

    assert manifest.labels[found.target[row]] == "red"
    assert manifest.labels[found.predicted[row]] == first.label
    assert found.probability[row] == pytest.approx(first.probability, abs=1e-5)


def test_the_service_gives_the_probabilities_that_it_gave_when_it_divided_by_the_temperature(
    journey: Journey, manifest: Manifest, tmp_path: Path
) -> None:
    checkpoint, model, _ = checkpoints.load(journey.run)
    temperature = json.loads((journey.run / evaluate.FILE).read_text())["temperature"]
    export.write_onnx(model, checkpoint, tmp_path / MODEL)
    images = dataset.load_folder(journey.data / "test", checkpoint.recipe.input).pixels[:]

    before = run_onnx(tmp_path / MODEL, images)["logits"]
    now = run_onnx(journey.package / MODEL, images)["logits"]

    old_manifest = msgspec.structs.replace(manifest, temperature=temperature)
    for old_row, row in zip(before, now, strict=True):
        expected, given = rank(old_row, old_manifest, 3), rank(row, manifest, 3)
        assert [p.label for p in given.top] == [p.label for p in expected.top]
        assert [p.probability for p in given.top] == pytest.approx([p.probability for p in expected.top], abs=1e-5)
        assert given.unsure == expected.unsure
    assert np.abs(before - now).max() > 0.1  # two graphs indeed


def test_the_manifest_says_where_the_network_comes_from(journey: Journey, manifest: Manifest) -> None:
    checkpoint = checkpoints.load(journey.run)[0]
    provenance = manifest.provenance

    assert provenance.items() >= checkpoint.provenance.items()
    assert provenance["recipe"]["seed"] == 0
    assert provenance["epochs"] == 4
    assert (provenance["mean"], provenance["std"]) == (checkpoint.mean, checkpoint.std)
    assert provenance["data"]["folder"] == "colours"
    assert provenance["data"]["training_images"] == checkpoint.data["training_images"]
    assert provenance["data"]["files_left_out"] == 0
    assert str(journey.run.parent) not in json.dumps(provenance["data"])  # folders of this machine are nobody's business


def test_the_golden_logits_are_what_the_graph_gives_for_the_golden_images(journey: Journey, manifest: Manifest) -> None:
    with np.load(journey.package / GOLDEN) as file:
        images, logits = file["images"], file["logits"]

    assert (images.shape, images.dtype) == ((golden.IMAGES, 16, 16, 3), np.uint8)
    assert (logits.shape, logits.dtype) == ((golden.IMAGES, 3), np.float32)
    np.testing.assert_allclose(run_onnx(journey.package / MODEL, images)["logits"], logits, atol=1e-4)
    np.testing.assert_array_equal(images, golden.made(16, 16))
    assert np.ptp(logits, axis=0).min() > 0.01  # four different answers


def test_the_card_tells_figures_classes_and_command(journey: Journey, manifest: Manifest) -> None:
    card = (journey.package / CARD).read_text()

    evaluation = manifest.evaluation
    assert card.startswith("# colours\n")
    assert "bilinear); ONNX opset 20.\n" in card
    assert f"| top-1 | {100 * evaluation.top1:.2f} % (60.8 to 94.2, 95 %) |" in card
    assert "top-5" not in card  # of three classes
    assert f"temperature {evaluation.fitted_temperature} in the graph | {evaluation.calibration_error:.4f} |" in card
    assert f"without the temperature | {evaluation.calibration_error_before:.4f} |" in card
    assert f"the {evaluation.samples} test images of `colours`" in card
    for label, share in evaluation.per_class.items():
        assert f"| {label} | 6 | {100 * share:.1f} % (44 to 97) |" in card
    assert f"`{manifest.provenance['command']}`" in card
    assert f"torch {manifest.provenance['libraries']['torch']}" in card
    score = json.loads((journey.run / "evaluation.json").read_text())["explanations"]["map"]
    assert f"| maps of places (ROAD, 18 images) | {score['score']:.3f} ± {score['error']:.3f} |" in card


def test_the_card_of_a_run_that_started_from_another_names_that_one(journey: Journey, manifest: Manifest) -> None:
    before = {"command": "hubel train old", "epochs": 9, "training_seconds": 60, "git_commit": "abc"}
    started = msgspec.structs.replace(manifest, provenance=manifest.provenance | {"started_from": before})

    measured = json.loads((journey.run / evaluate.FILE).read_text())
    assert "It started from" not in package.card(manifest, measured)
    assert "weights of `hubel train old` (9 epochs, 60 s, commit abc)" in package.card(started, measured)


def test_the_card_says_what_was_chosen_by_the_images_and_which_epoch_answers(journey: Journey, manifest: Manifest) -> None:
    measured = json.loads((journey.run / evaluate.FILE).read_text())
    kept = msgspec.structs.replace(manifest, provenance=manifest.provenance | {"kept_epoch": 2})
    never = measured["classes"][0] | {"label": "a|b", "recall": None, "support": 0}

    card = package.card(kept, measured | {"classes": [never]})

    assert "Temperature and threshold come from the validation images." in card
    assert "4 epochs (the weights of epoch 2 are kept) in" in card
    assert "| a\\|b | 0 | undefined |" in card
    assert "are kept" not in package.card(manifest, measured)


def test_the_card_lists_the_worst_of_many_classes_and_says_where_all_are(journey: Journey, manifest: Manifest) -> None:
    measured = json.loads((journey.run / evaluate.FILE).read_text())
    labels = [f"class {i}" for i in range(20_000)]
    row = {"precision": 0.5, "recall": 0.5, "support": 2}
    measured["classes"] = [row | {"label": label, "f1": 0.5 - i / 10**6} for i, label in enumerate(labels)]

    outputs = manifest.outputs | {"logits": [len(labels)]}
    card = package.card(msgspec.structs.replace(manifest, labels=labels, outputs=outputs), measured)

    assert card.count("\n| class ") - 1 == 200  # and the head of the table
    assert "| class 19999 | 2 |" in card
    assert "| class 19799 | 2 |" not in card
    assert "Of 20,000 classes, these 200 have the lowest F1; `manifest.json` has the recall of all." in card
    assert "class 98, class 99 and 19,900 more, which `manifest.json` lists." in card


def test_top_5_is_on_the_card_of_more_than_five_classes(journey: Journey, manifest: Manifest) -> None:
    measured = json.loads((journey.run / evaluate.FILE).read_text())
    many = msgspec.structs.replace(manifest, labels=[*manifest.labels, "d", "e", "f"], outputs=manifest.outputs | {"logits": [6]})

    assert f"| top-5 | {100 * manifest.evaluation.top5:.2f} % |" in package.card(many, measured)


def test_top_5_is_not_printed_of_five_classes_or_fewer(
    journey: Journey, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = json.loads((journey.run / evaluate.FILE).read_text())
    six = measured | {"classes": 2 * measured["classes"]}
    said: list[bool] = []
    for result in (measured, six):
        monkeypatch.setattr(evaluate, "evaluate", lambda *_, found=result: found)  # pyright: ignore
        assert main(["evaluate", str(journey.run), str(journey.data)]) == 0
        said.append("top5" in capsys.readouterr().out)

    assert said == [False, True]
    assert "top5" not in views.package(journey.store, journey.package)


def test_publishing_again_makes_the_next_version_and_leaves_the_first_in_service(journey: Journey, tmp_path: Path) -> None:
    shutil.copytree(journey.store, tmp_path / "store")

    second = package.publish(journey.run, tmp_path / "store", "colours")

    assert second.id == "colours:2"
    registry.verify(tmp_path / "store" / "colours" / "2")
    assert registry.resolve(tmp_path / "store", "colours").name == "1"


def test_the_report_of_the_run_is_in_the_package_and_the_card_leads_to_it(journey: Journey, manifest: Manifest) -> None:
    page = (journey.package / REPORT).read_bytes()
    assert page == named((journey.run / REPORT).read_bytes(), "colours:1")
    assert manifest.files[REPORT] == hashlib.sha256(page).hexdigest()
    assert "[report.html](report.html) shows" in (journey.package / CARD).read_text()


def test_a_run_without_a_report_is_published_without_one(journey: Journey, tmp_path: Path) -> None:
    shutil.copytree(journey.run, tmp_path / "run")
    (tmp_path / "run" / REPORT).unlink()

    published = package.publish(tmp_path / "run", tmp_path / "store", "colours")

    assert REPORT not in published.files
    assert "report.html" not in (tmp_path / "store" / "colours" / "1" / CARD).read_text()


def without(name: str) -> Callable[[Path], None]:
    return lambda run: (run / name).unlink()


def of_another_epoch(name: str) -> Callable[[Path], None]:
    def change(run: Path) -> None:
        result = json.loads((run / name).read_text())
        (run / name).write_text(json.dumps(result | {"epoch": 3}))

    return change


def with_evaluation(**changes: Any) -> Callable[[Path], None]:
    def change(run: Path) -> None:
        result = json.loads((run / evaluate.FILE).read_text())
        (run / evaluate.FILE).write_text(json.dumps(result | changes))

    return change


def cut_off(name: str) -> Callable[[Path], None]:
    def change(run: Path) -> None:
        (run / name).write_bytes((run / name).read_bytes()[:100])

    return change


@pytest.mark.parametrize(
    ("change", "way_out"),
    [
        pytest.param(without(evaluate.FILE), "does not exist: run '.*hubel evaluate .* DATA'", id="not evaluated"),
        pytest.param(without(export.FILE), "does not exist: run '.*hubel export .* DATA'", id="not exported"),
        pytest.param(of_another_epoch(evaluate.FILE), "run '.*hubel evaluate .* DATA' again", id="stale evaluation"),
        pytest.param(of_another_epoch(export.FILE), "run '.*hubel export .* DATA' again", id="stale export"),
        pytest.param(without(MODEL), "does not exist: run '.*hubel export .* DATA' again", id="no graph"),
        pytest.param(with_evaluation(dataset_sha256="0" * 64), "run both on the same folder", id="different images"),
        pytest.param(with_evaluation(temperature=2.0), "run '.*hubel export .* DATA' again", id="another temperature"),
        pytest.param(with_evaluation(top1=0.5), "run '.*hubel report .* DATA' again", id="another evaluation"),
        pytest.param(of_another_epoch(facts.FILE), "run '.*hubel report .* DATA' again", id="stale report"),
        pytest.param(cut_off(evaluate.FILE), "damaged: run '.*hubel evaluate .* DATA' again", id="damaged evaluation"),
    ],
)
def test_a_run_that_is_not_ready_is_not_published(
    change: Callable[[Path], None], way_out: str, journey: Journey, tmp_path: Path
) -> None:
    shutil.copytree(journey.run, tmp_path / "run")
    change(tmp_path / "run")

    with pytest.raises(CheckpointError, match=way_out) as caught:
        package.publish(tmp_path / "run", tmp_path / "store", "colours")

    assert str(tmp_path / "run") in str(caught.value)
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("name", ["Colours", "a b", "", "ä"])
def test_a_name_that_is_not_allowed_is_not_published(name: str, journey: Journey, tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="name"):
        package.publish(journey.run, tmp_path / "store", name)

    assert registry.names(tmp_path / "store") == []
