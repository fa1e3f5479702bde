"""training/evaluation/evaluate.py: figures that a recount confirms, on the images that training did not see."""

import json
import math
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.image.preprocess import preprocess
from tests.factories import make_image
from tests.training.conftest import Journey
from tests.training.factories import make_folder, make_run
from training.data import dataset
from training.errors import CheckpointError, DataError
from training.evaluation import calibration, explanations
from training.evaluation.evaluate import evaluate, training_images
from training.loop import checkpoint as checkpoints

SEVEN = ("black", "blue", "green", "orange", "red", "white", "yellow")


def probabilities(run: Path, file: Path, temperature: float) -> list[float]:
    """Of one file, by the plainest way there is from its bytes."""
    checkpoint, model, _ = checkpoints.load(run)
    pixels = preprocess(file.read_bytes(), checkpoint.recipe.input).astype(np.float32)
    image = torch.from_numpy((pixels - checkpoint.mean) / checkpoint.std).float().permute(2, 0, 1)
    with torch.inference_mode():
        logits: list[float] = model.eval()(image[None])[0].tolist()
    powers = [math.exp(logit / temperature) for logit in logits]
    return [power / sum(powers) for power in powers]


BINS = 4  # of confidence, for 18 answers


def gaps(answers: list[bool], confidences: list[float]) -> list[float]:
    """By how many answers each bin of confidence promised too much or too little."""
    bins = [int(confidence * BINS) for confidence in confidences]
    return [
        abs(sum(answer - confidence for answer, confidence, b in zip(answers, confidences, bins, strict=True) if b == wanted))
        for wanted in set(bins)
    ]


@pytest.fixture(scope="module")
def seven(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Pictures of seven classes and a run whose network, though untrained, answers differently for each."""
    root = tmp_path_factory.mktemp("seven")
    source = root / "colours"
    make_folder(source / "train", SEVEN, each=4)
    make_folder(source / "test", SEVEN, each=3, seed=500)
    shutil.rmtree(source / "test" / "orange")
    torch.manual_seed(0)
    make_run(root / "run", source)
    return root / "run", source


def test_every_figure_equals_a_recount_file_by_file(seven: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    run, source = seven
    monkeypatch.setattr(calibration, "PRIOR", 0)  # 7 images would leave the temperature at 1

    result = evaluate(run, source)

    right: dict[str, list[bool]] = {name: [] for name in SEVEN}
    among_five: list[bool] = []
    confidences: list[float] = []
    before: list[float] = []  # without the temperature
    matrix = [[0] * 7 for _ in SEVEN]
    for file in sorted((source / "test").rglob("*.png")):
        shares = probabilities(run, file, result["temperature"])
        order = sorted(range(7), key=lambda c: -shares[c])
        truth = SEVEN.index(file.parent.name)
        right[file.parent.name].append(order[0] == truth)
        among_five.append(truth in order[:5])
        confidences.append(shares[order[0]])
        before.append(max(probabilities(run, file, 1)))
        matrix[truth][order[0]] += 1
    answers = [answer for name in SEVEN for answer in right[name]]
    kept = [answer for answer, confidence in zip(answers, confidences, strict=True) if confidence >= result["threshold"]]
    assert result["samples"] == len(answers) == 18
    assert result["top1"] == pytest.approx(sum(answers) / 18, abs=1e-4)
    assert result["top5"] == pytest.approx(sum(among_five) / 18, abs=1e-4)
    assert result["top1"] < result["top5"] < 1
    assert result["per_class"] == {
        name: pytest.approx(sum(of_class) / 3, abs=1e-4) for name, of_class in right.items() if of_class
    }
    assert "orange" not in result["per_class"]
    assert result["calibration_error"] == pytest.approx(sum(gaps(answers, confidences)) / 18, abs=1e-4)
    assert result["calibration_error_before"] == pytest.approx(sum(gaps(answers, before)) / 18, abs=1e-4)
    assert result["calibration_error"] != result["calibration_error_before"]
    assert result["calibration_bins"] == BINS
    assert 0 < result["calibration_floor"] < result["calibration_floor_high"] < 1
    assert result["coverage"] == pytest.approx(len(kept) / 18, abs=1e-4)
    assert result["accuracy_kept"] == pytest.approx(sum(kept) / len(kept), abs=1e-4)
    assert result["confusion"] == matrix
    assert [(row["label"], row["support"]) for row in result["classes"]] == [(name, len(right[name])) for name in SEVEN]
    for name, confidence in (("after", confidences), ("before", before)):
        counted = {b["low"]: b["samples"] for b in result["reliability"][name]}
        assert counted == {round(b / BINS, 4): n for b, n in Counter(int(c * BINS) for c in confidence).items()}


def test_the_result_lies_beside_the_checkpoint(seven: tuple[Path, Path]) -> None:
    run, source = seven

    result = evaluate(run, source)

    assert json.loads((run / "evaluation.json").read_text()) == result
    assert result["epoch"] == checkpoints.load(run)[0].epoch
    assert result["dataset"] == "colours"


def test_wrong_pictures_count_as_errors_of_the_class_they_lie_in(journey: Journey) -> None:
    result: dict[str, Any] = json.loads(journey.said["evaluate"])

    assert result["samples"] == 18
    assert result["top1"] == pytest.approx(15 / 18, abs=1e-4)
    assert result["per_class"] == dict.fromkeys(("blue", "green", "red"), pytest.approx(5 / 6, abs=1e-4))


def test_test_images_are_reported_where_there_are_some_and_validation_images_otherwise(
    seven: tuple[Path, Path], tmp_path: Path
) -> None:
    run, source = seven
    checkpoint = checkpoints.load(run)[0]
    shutil.copytree(source / "train", tmp_path / "colours" / "train")

    on_test, on_validation = evaluate(run, source), evaluate(run, tmp_path / "colours")

    assert (on_test["split"], on_test["samples"]) == ("test", 18)
    test_images = dataset.load_folder(source / "test", checkpoint.recipe.input, checkpoint.classes)
    assert on_test["dataset_sha256"] == dataset.fingerprint(test_images)
    assert (on_validation["split"], on_validation["samples"]) == ("validation", checkpoint.data["validation_images"])
    assert on_validation["dataset_sha256"] == checkpoint.data["validation_sha256"]


def test_temperature_and_threshold_are_not_chosen_on_the_test_images(seven: tuple[Path, Path], tmp_path: Path) -> None:
    run, source = seven
    shutil.copytree(source / "train", tmp_path / "colours" / "train")

    on_test, on_validation = evaluate(run, source), evaluate(run, tmp_path / "colours")

    assert (on_test["temperature"], on_test["threshold"]) == (on_validation["temperature"], on_validation["threshold"])


def test_other_validation_images_than_those_of_the_training_are_refused(seven: tuple[Path, Path], tmp_path: Path) -> None:
    run, source = seven
    shutil.copytree(source, tmp_path / "colours")
    make_folder(tmp_path / "colours" / "train", SEVEN, each=4, seed=900)

    with pytest.raises(CheckpointError, match=f"{tmp_path / 'colours'} does not hold the validation images"):
        evaluate(run, tmp_path / "colours")


def test_a_run_is_not_measured_where_images_that_it_held_out_are_gone(seven: tuple[Path, Path], tmp_path: Path) -> None:
    run, source = seven
    shutil.copytree(source, tmp_path / "colours")
    held_out = training_images(source, checkpoints.load(run)[0])[1]
    (tmp_path / "colours" / "train" / held_out.paths[0]).unlink()

    with pytest.raises(CheckpointError, match=f"lacks 1 of the {len(held_out)} validation images"):
        evaluate(run, tmp_path / "colours")


def test_what_came_to_the_data_since_and_other_names_change_no_figure(seven: tuple[Path, Path], tmp_path: Path) -> None:
    run, source = seven
    shutil.copytree(source / "train", tmp_path / "colours")
    before = evaluate(run, tmp_path / "colours")
    make_folder(tmp_path / "colours", ("violet",), each=3, seed=950)
    for i, path in enumerate(sorted((tmp_path / "colours" / "red").iterdir())):
        path.rename(path.with_name(f"other-{9 - i}.png"))
    for i in range(10):
        (tmp_path / "colours" / "red" / f"more{i}.png").write_bytes(make_image("PNG", seed=i, color="red"))

    after = evaluate(run, tmp_path / "colours")

    for key in ("samples", "top1", "classes"):
        assert after[key] == before[key]


def test_test_images_of_a_class_that_the_network_does_not_know_are_refused(seven: tuple[Path, Path], tmp_path: Path) -> None:
    run, source = seven
    shutil.copytree(source, tmp_path / "colours")
    (tmp_path / "colours" / "test" / "red").rename(tmp_path / "colours" / "test" / "rouge")

    with pytest.raises(DataError, match="not know: rouge"):
        evaluate(run, tmp_path / "colours")


def test_maps_of_places_are_measured_beside_their_baselines(journey: Journey) -> None:
    found = json.loads((journey.run / "evaluation.json").read_text())["explanations"]

    assert (found["images"], found["places"], found["removed"]) == (18, [2, 2], [0.3, 0.6])
    assert found["other_class_likeness"] is None or -1 <= found["other_class_likeness"] <= 1
    for kind in ("map", "centre", "random"):
        assert -0.5 <= found[kind]["score"] <= 0.5
        assert found[kind]["error"] > 0
    for kind in ("centre", "random"):
        assert found[f"above_{kind}"]["score"] == pytest.approx(found["map"]["score"] - found[kind]["score"], abs=2e-4)


def test_a_network_without_maps_of_places_has_no_figures_of_them(tmp_path: Path) -> None:
    source = make_folder(tmp_path / "colours", each=8, side=28)
    size = {"height": 28, "width": 28, "resize": 28}
    make_run(tmp_path / "run", source, architecture="mlp-512", input=size)

    assert "explanations" not in evaluate(tmp_path / "run", source)


def test_some_of_many_images_are_explained_evenly_out_of_all(monkeypatch: pytest.MonkeyPatch, journey: Journey) -> None:
    monkeypatch.setattr(explanations, "MOST_IMAGES", 5)
    checkpoint, model, _ = checkpoints.load(journey.run)
    images = dataset.load_test(journey.data, checkpoint.recipe.input, checkpoint.classes)
    assert images is not None
    asked: list[int] = []

    def answer(pixels: NDArray[np.uint8]) -> NDArray[np.floating]:
        asked.append(len(pixels))
        return np.full((len(pixels), 3), 1 / 3)

    logits = np.random.default_rng(0).normal(size=(18, 3)).astype(np.float32)
    found = explanations.measure(model, checkpoint, images, logits, answer)["explanations"]

    assert found["images"] == len(asked) == 5  # images 0, 4, 8, 12, 16
    assert set(asked) == {12}  # three maps, two ends, two shares
    assert found["map"]["score"] == found["above_random"]["score"] == 0
