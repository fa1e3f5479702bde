"""training/publishing/quantize.py and its gate: an int8 graph that answers as the fp32 one does, or none at all."""

import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
import torch

from models.image.spec import InputSpec
from models.package import precision
from models.package.manifest import MODEL
from models.package.precision import GRAPHS
from tests.factories import run_onnx
from tests.training.conftest import Journey
from training.data import dataset
from training.loop import checkpoint as checkpoints
from training.publishing import export
from training.publishing.quantize import quantize


def test_the_int8_graph_is_small_and_answers_as_the_fp32_graph_does(journey: Journey, tmp_path: Path) -> None:
    checkpoint, _, _ = checkpoints.load(journey.run)
    images = dataset.load_folder(journey.data / "train", checkpoint.recipe.input)

    quantize(journey.run / MODEL, tmp_path / "int8.onnx", images.pixels[:])

    expected = run_onnx(journey.run / MODEL, images.pixels[:])
    given = run_onnx(tmp_path / "int8.onnx", images.pixels[:])
    assert (given["logits"].argmax(1) == expected["logits"].argmax(1)).mean() > 0.9
    assert np.abs(given["logits"] - expected["logits"]).max() < 0.2 * np.abs(expected["logits"]).max()
    assert (tmp_path / "int8.onnx").stat().st_size < 0.35 * (journey.run / MODEL).stat().st_size
    operators = {node.op_type for node in onnx.load(tmp_path / "int8.onnx").graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= operators


def copy_of(journey: Journey, tmp_path: Path) -> Path:
    return Path(shutil.copytree(journey.run, tmp_path / "run"))


def test_a_graph_that_loses_too_much_is_left_out_with_the_figure(
    journey: Journey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copy_of(journey, tmp_path)
    monkeypatch.setattr(export, "quantize", lambda source, target, pixels: wreck(source, target))  # pyright: ignore

    result = export.export(run, journey.data)

    assert not (run / GRAPHS["int8"]).exists()
    assert "points of top-1 in int8, the limit is 0.3" in result["left_out"]["int8"]
    assert json.loads((run / export.FILE).read_text()) == result


def test_a_graph_whose_golden_answers_would_have_to_be_let_pass_is_left_out(
    journey: Journey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copy_of(journey, tmp_path)
    monkeypatch.setattr(precision, "MOST_DIFFERENCE", 0.01)

    result = export.export(run, journey.data)

    assert not (run / GRAPHS["int8"]).exists()
    assert "golden inputs in int8 with a logit that is off by" in result["left_out"]["int8"]


def wreck(source: Path, target: Path) -> None:
    """The same graph with a head that always answers the first class."""
    model = onnx.load(source)
    weight = next(i for i in model.graph.initializer if i.name.endswith("head.bias"))
    values = onnx.numpy_helper.to_array(weight).copy()
    values[0] += 1000
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    onnx.save(model, target)


def test_fp16_is_written_when_asked_for_and_measured(journey: Journey, tmp_path: Path) -> None:
    run = copy_of(journey, tmp_path)

    result = export.export(run, journey.data, fp16=True)

    assert "fp16" in {figure["precision"] for figure in result["providers"]}
    checkpoint, _, _ = checkpoints.load(run)
    pixels = dataset.load_folder(journey.data / "test", checkpoint.recipe.input).pixels[:]
    expected, given = (run_onnx(run / GRAPHS[precision], pixels)["logits"] for precision in ("fp32", "fp16"))
    assert given == pytest.approx(expected, abs=0.01 * float(np.abs(expected).max()))
    assert (run / GRAPHS["fp16"]).stat().st_size < 0.6 * (run / MODEL).stat().st_size


@pytest.mark.parametrize(
    ("side", "gpu", "asked", "written"),
    [
        (65, False, None, True),
        (64, False, None, False),
        (16, True, None, True),
        (65, True, False, False),
        (16, False, True, True),
    ],
)
def test_photographs_and_machines_with_a_gpu_get_fp16_without_being_asked(
    side: int, gpu: bool, asked: bool | None, written: bool, journey: Journey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, given = copy_of(journey, tmp_path), list[bool]()
    checkpoint, model, _ = checkpoints.load(run)
    spec = InputSpec(side, side, side)
    checkpoint.recipe = msgspec.structs.replace(checkpoint.recipe, input=spec)
    monkeypatch.setattr(checkpoints, "load", lambda _: (checkpoint, model, {}))  # pyright: ignore[reportUnknownLambdaType]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)

    def noted(*arguments: Any) -> None:
        given.append(arguments[6])
        raise KeyboardInterrupt

    monkeypatch.setattr(export, "write_graphs", noted)
    with pytest.raises(KeyboardInterrupt):
        export.export(run, journey.data, asked)

    assert given == [written]
