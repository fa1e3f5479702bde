"""training/publishing/export.py: a graph in one file that computes what the checkpoint does, for any number of images."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

from models.package.manifest import MODEL
from models.package.precision import CPU, GRAPHS, Precision
from tests.factories import run_onnx
from tests.training import gpu
from tests.training.conftest import Journey
from tests.training.factories import make_images, make_recipe
from training.data import dataset
from training.data.dataset import ImageSet
from training.errors import CheckpointError, ExportError, RecipeError
from training.evaluation import evaluate
from training.loop import checkpoint as checkpoints
from training.loop.checkpoint import Checkpoint
from training.loop.device import Device
from training.loop.features import features_of
from training.loop.normalisation import normalise
from training.networks.classifier import Classifier
from training.publishing import export


@pytest.fixture(scope="module")
def pixels() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (7, 16, 16, 3)).astype(np.uint8)


def temperature(journey: Journey) -> float:
    fitted: float = json.loads((journey.run / evaluate.FILE).read_text())["temperature"]
    assert fitted != 1  # else the tests here could not see it
    return fitted


def test_the_graph_is_one_file_without_external_data(journey: Journey) -> None:
    model = onnx.load(journey.run / MODEL, load_external_data=False)

    assert model.graph.initializer
    assert all(tensor.data_location == onnx.TensorProto.DEFAULT for tensor in model.graph.initializer)
    assert [path.name for path in journey.run.iterdir() if path.name.startswith(MODEL)] == [MODEL]


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_graph_names_no_folder_of_this_machine(journey: Journey, precision: Precision) -> None:
    path = journey.run / GRAPHS[precision]
    if path.exists():  # the int8 graph may have been left out
        model = onnx.load(path)
        for tensor in model.graph.initializer:
            tensor.ClearField("raw_data")  # in megabytes of weights any three letters are found
        assert b".py" not in model.SerializeToString()


def test_inputs_and_outputs_are_those_of_the_contract(journey: Journey) -> None:
    session = onnxruntime.InferenceSession(journey.run / MODEL, providers=[CPU])

    (images,) = session.get_inputs()
    assert (images.name, images.type, images.shape) == ("images", "tensor(uint8)", ["batch", 16, 16, 3])
    assert [(output.name, output.type, output.shape) for output in session.get_outputs()] == [
        ("logits", "tensor(float)", ["batch", 3]),
        ("features", "tensor(float)", ["batch", 240]),
        ("feature_map", "tensor(float)", ["batch", 240, 2, 2]),
        ("novelty", "tensor(float)", ["batch", 1]),
    ]


@pytest.mark.parametrize("size", [1, 3, 7])
def test_a_batch_of_any_size_gives_each_image_what_it_gets_alone(size: int, journey: Journey, pixels: NDArray[np.uint8]) -> None:
    together = run_onnx(journey.run / MODEL, pixels[:size])

    for i in range(size):
        for name, alone in run_onnx(journey.run / MODEL, pixels[i : i + 1]).items():
            np.testing.assert_allclose(together[name][i], alone[0], atol=1e-4, err_msg=name)
    assert together["logits"].shape == (size, 3)


def test_a_mirrored_network_gives_an_image_and_its_mirror_image_the_same_answer(
    journey: Journey, pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    checkpoint, model, _ = checkpoints.load(journey.run)
    checkpoint.recipe = msgspec.structs.replace(checkpoint.recipe, mirror=True)
    export.write_onnx(model, checkpoint, tmp_path / MODEL)

    logits = run_onnx(tmp_path / MODEL, pixels)["logits"]

    np.testing.assert_allclose(run_onnx(tmp_path / MODEL, pixels[:, :, ::-1].copy())["logits"], logits, atol=1e-4)
    np.testing.assert_allclose(run_onnx(tmp_path / MODEL, pixels[2:3])["logits"][0], logits[2], atol=1e-4)
    assert not np.allclose(logits, run_onnx(journey.run / MODEL, pixels)["logits"], atol=1e-3)


@torch.inference_mode()
def test_every_output_is_that_of_the_network(journey: Journey, pixels: NDArray[np.uint8]) -> None:
    checkpoint, model, _ = checkpoints.load(journey.run)

    outputs = run_onnx(journey.run / MODEL, pixels)

    logits, features, feature_map = model.eval().outputs(normalise(torch.from_numpy(pixels), checkpoint))
    expected = {"logits": logits / temperature(journey), "features": features, "feature_map": feature_map}
    for name, value in expected.items():
        np.testing.assert_allclose(outputs[name], value.numpy(), atol=1e-3, err_msg=name)
    assert np.ptp(outputs["logits"], axis=0).min() > 0.01  # the images are told apart


def test_the_comparison_with_torch_is_recorded(journey: Journey) -> None:
    checkpoint, model, _ = checkpoints.load(journey.run)
    images = dataset.load_folder(journey.data / "test", checkpoint.recipe.input)
    exported = run_onnx(journey.run / MODEL, images.pixels[:])["logits"]
    expected = evaluate.logits_of(model, checkpoint, images) / temperature(journey)

    result: dict[str, Any] = json.loads((journey.run / export.FILE).read_text())

    assert json.loads(journey.said["export"]) == result
    assert 0 < result["max_difference"] <= 1e-3
    assert result["max_difference"] == pytest.approx(float(np.abs(exported - expected).max()), abs=1e-4)
    assert result["temperature"] == temperature(journey)
    assert result["same_top1"] == 1
    assert result["samples"] == len(images) == 18
    assert result["epoch"] == 4
    top1 = {(figure["provider"], figure["precision"]): figure["top1"] for figure in result["providers"]}
    assert top1[CPU, "fp32"] == pytest.approx(float((exported.argmax(1) == images.targets).mean()), abs=1e-4)
    assert {(CPU, "fp32"), (CPU, "int8")} <= set(top1)
    differ = {(figure["provider"], figure["precision"]): figure["golden"] for figure in result["providers"]}
    assert differ[CPU, "fp32"] == 0 < differ[CPU, "int8"] < 1
    assert result["outputs"] == {"logits": [3], "features": [240], "feature_map": [240, 2, 2], "novelty": [1]}


def test_every_graph_tells_the_novelty_that_was_learnt(journey: Journey) -> None:
    checkpoint, model, _ = checkpoints.load(journey.run)
    images = dataset.load_folder(journey.data / "test", checkpoint.recipe.input)
    reference = evaluate.read_novelty(journey.run, evaluate.read(journey.run, checkpoint))
    assert reference is not None
    expected = reference.novelty(evaluate.outputs_of(model, checkpoint, images).features)
    given = run_onnx(journey.run / MODEL, images.pixels[:])["novelty"][:, 0]
    np.testing.assert_allclose(given, expected, atol=export.NOVELTY_TOLERANCE)
    for graph in journey.run.glob("*.onnx"):
        found = run_onnx(graph, images.pixels[:])
        np.testing.assert_allclose(found["novelty"][:, 0], reference.novelty(found["features"]), atol=1e-3)


def test_a_run_whose_novelty_is_gone_is_not_exported(journey: Journey, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(journey.run, run)
    (run / "novelty.npz").unlink()
    with pytest.raises(CheckpointError, match=r"novelty.npz is gone or damaged: run '.*hubel evaluate .*' again"):
        export.export(run, journey.data)


@pytest.mark.parametrize("file", [None, {"epoch": 3, "temperature": 1.0}, {"epoch": 4, "temperature": 1.0}])
def test_a_run_that_was_not_evaluated_since_its_last_epoch_is_not_exported(
    file: dict[str, Any] | None, journey: Journey, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(journey.run, run)
    (run / evaluate.FILE).unlink()
    if file:
        (run / evaluate.FILE).write_text(json.dumps(file))
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}

    with pytest.raises(CheckpointError, match=f"{run / evaluate.FILE} .*run '.*hubel evaluate .*'"):
        export.export(run, journey.data)

    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before


def changed(journey: Journey, run: Path, change: Callable[[Classifier], object]) -> None:
    """The run again, with a checkpoint that is changed so."""
    shutil.copytree(journey.run, run)
    checkpoint, model, _ = checkpoints.load(run)
    change(model)
    checkpoints.save(run, checkpoint, model.state_dict(), training={})


def assert_refused(run: Path, data: Path, found: str) -> None:
    with pytest.raises(ExportError, match=f"differs from the checkpoint by {found} in a logit, the limit is 0.00"):
        export.export(run, data)
    assert not (run / MODEL).exists()
    assert not (run / export.FILE).exists()  # it spoke of an earlier graph


def test_a_graph_of_no_numbers_is_refused_and_removed(journey: Journey, tmp_path: Path) -> None:
    changed(journey, tmp_path / "run", lambda model: model.state_dict()["head.bias"].fill_(torch.nan))
    assert_refused(tmp_path / "run", journey.data, "nan")


def test_a_graph_that_differs_from_the_checkpoint_is_refused_and_removed(
    journey: Journey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed(journey, tmp_path / "run", lambda model: None)
    write = export.write_onnx

    def write_another(model: Classifier, *arguments: Any, **options: Any) -> None:
        model.state_dict()["head.bias"][0] += 0.05
        write(model, *arguments, **options)
        model.state_dict()["head.bias"][0] -= 0.05

    monkeypatch.setattr(export, "write_onnx", write_another)
    assert_refused(tmp_path / "run", journey.data, r"0\.\d+")


def test_large_logits_may_differ_by_what_single_precision_loses_of_them(journey: Journey, tmp_path: Path) -> None:
    changed(journey, tmp_path / "run", lambda model: model.state_dict()["head.weight"].mul_(1e5))
    assert export.export(tmp_path / "run", journey.data)["max_difference"] > export.TOLERANCE


def sensitive() -> tuple[Checkpoint, Classifier, ImageSet]:
    """A network whose logits TF32 moves by more than the tolerance, and images for it."""
    torch.manual_seed(0)
    images = make_images((20, 20, 20), height=28, width=28)
    recipe = make_recipe(architecture="lenet1", input={"height": 28, "width": 28, "resize": 28})
    checkpoint = Checkpoint(recipe, images.classes, *dataset.channel_statistics(images))
    model = checkpoint.build().eval()
    with torch.no_grad():
        model.head.weight.mul_(100)
    return checkpoint, model, images


def test_the_graph_is_compared_in_full_precision_on_the_cpu_where_there_is_a_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, model, images = sensitive()
    used = gpu.pretend(monkeypatch)
    monkeypatch.setattr(export, "installed", lambda: [CPU])
    monkeypatch.setattr(export, "quantize", lambda source, target, pixels: shutil.copyfile(source, target))  # pyright: ignore

    result = export.write_graphs(tmp_path, checkpoint, model, images, images.pixels)

    assert result["max_difference"] <= 1e-3
    assert set(used) == {"cpu"}


@torch.inference_mode()
def test_a_gpu_evaluates_in_full_precision_and_trains_in_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint, model, images = sensitive()
    pixels = normalise(torch.from_numpy(images.pixels), checkpoint)
    exact, vectors = model(pixels).numpy(), model.outputs(pixels)[1].numpy()
    used = gpu.pretend(monkeypatch)

    logits = evaluate.logits_of(model, checkpoint, images, say=False)
    found = features_of(model, checkpoint, images.pixels, Device("cuda", None), say=False)

    assert set(used) == {"cuda"}
    np.testing.assert_allclose(logits, exact, atol=1e-4)
    np.testing.assert_allclose(found, vectors, atol=1e-5)
    assert np.abs(model(pixels).numpy() - exact).max() > 2e-3  # what follows is computed as before


@pytest.mark.parametrize(("opset", "ir"), [(18, 8), (23, 11)])
def test_the_graph_is_written_in_the_opset_that_is_asked_for(opset: int, ir: int, tmp_path: Path) -> None:
    checkpoint, model, images = sensitive()
    found = export.write_graphs(tmp_path, checkpoint, model, images, images.pixels, opset=opset)
    graph = onnx.load(tmp_path / MODEL)
    assert [(entry.domain, entry.version) for entry in graph.opset_import] == [("", opset)]
    assert (found["opset"], graph.ir_version) == (opset, ir)


@pytest.mark.parametrize("opset", [0, 17, 24])
def test_an_opset_that_is_not_written_is_refused_before_anything(opset: int, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=f"the opset is {opset}, graphs are written in 18 to 23"):
        export.export(tmp_path, tmp_path, opset=opset)
