"""models/package/head.py: what a class asks of each channel, against the graph's own logits and gradients reckoned by steps."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from models.errors import PackageError
from models.package import head as heads
from models.package import manifest as manifests
from models.package.head import Head, Unexplained
from models.package.manifest import MODEL
from models.package.onnx_graph import Graph
from models.package.protobuf import Malformed
from tests.factories import make_manifest, make_onnx, make_package, run_onnx

CHANNELS, SIDE, CLASSES = 4, 3, 3
SHAPE = (CHANNELS, SIDE, SIDE)
FLAT = CHANNELS * SIDE * SIDE
STEP = 1e-3
RANDOM = np.random.default_rng(0)
Weights = dict[str, NDArray[np.generic]]
node = helper.make_node


def weights(**shapes: tuple[int, ...]) -> Weights:
    return {name: RANDOM.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}


def graph(nodes: Sequence[NodeProto], constants: Weights) -> bytes:
    """A graph whose images, (batch, 4, 3, 3) float, are its feature map."""
    made = helper.make_graph(
        [node("Identity", ["images"], ["feature_map"]), *nodes],
        "head",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", *SHAPE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", CLASSES])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def read(folder: Path, data: bytes, shape: Sequence[int] = SHAPE) -> Head:
    (folder / MODEL).write_bytes(data)
    manifest = make_manifest()
    outputs = manifest.outputs | {"feature_map": list(shape)}
    files = manifest.files | {MODEL: hashlib.sha256(data).hexdigest()}
    return heads.read(folder, make_manifest(outputs=outputs, files=files))


def logits_of(data: bytes, feature_maps: NDArray[np.float32]) -> NDArray[np.float32]:
    return run_onnx(data, feature_maps)["logits"]  # type: ignore[arg-type]


def gradients(data: bytes, feature_map: NDArray[np.float32]) -> NDArray[np.floating]:
    """(classes, channels): of each logit by each channel, mean over all places, by moving each place a little."""
    steps = (STEP * np.eye(FLAT)).astype(np.float32).reshape(FLAT, *SHAPE)
    more, less = (logits_of(data, (feature_map + sign * steps).astype(np.float32)) for sign in (1, -1))
    moved = (more - less) / (2 * STEP)
    return moved.reshape(*SHAPE, CLASSES).mean((1, 2)).T


FLATTEN = node("Flatten", ["feature_map"], ["flat"])
LAST = node("Gemm", ["flat", "w", "b"], ["logits"], transB=1)
HEADS: dict[str, tuple[list[NodeProto], Weights]] = {
    "average by axes": (
        [node("ReduceMean", ["feature_map"], ["flat"], axes=[2, 3], keepdims=0), LAST],
        weights(w=(CLASSES, CHANNELS), b=(CLASSES,)),
    ),
    "average by axes from the end": (
        [node("ReduceMean", ["feature_map"], ["flat"], axes=[-1, -2], keepdims=0), LAST],
        weights(w=(CLASSES, CHANNELS), b=(CLASSES,)),
    ),
    "average, product and sum": (
        [
            node("GlobalAveragePool", ["feature_map"], ["mean"]),
            node("Flatten", ["mean"], ["flat"]),
            node("MatMul", ["flat", "w"], ["product"]),
            node("Add", ["product", "b"], ["logits"]),
        ],
        weights(w=(CHANNELS, CLASSES), b=(CLASSES,)),
    ),
    "one linear layer": ([FLATTEN, LAST], weights(w=(CLASSES, FLAT), b=(CLASSES,))),
    "a pooling of single places": (
        [
            node("AveragePool", ["feature_map"], ["same"], kernel_shape=[1, 1]),
            node("Flatten", ["same"], ["flat"]),
            LAST,
        ],
        weights(w=(CLASSES, FLAT), b=(CLASSES,)),
    ),
    "three layers with ReLU": (
        [
            FLATTEN,
            node("Gemm", ["flat", "w1", "b1"], ["one"], transB=1),
            node("Relu", ["one"], ["two"]),
            node("Gemm", ["two", "w2", "b2"], ["three"], transB=1),
            node("Relu", ["three"], ["four"]),
            node("Gemm", ["four", "w", "b"], ["logits"], transB=1),
        ],
        weights(w1=(16, FLAT), b1=(16,), w2=(8, 16), b2=(8,), w=(CLASSES, 8), b=(CLASSES,)),
    ),
    "two layers with tanh after an average": (
        [
            node("GlobalAveragePool", ["feature_map"], ["mean"]),
            node("Flatten", ["mean"], ["flat"]),
            node("Gemm", ["flat", "w1", "b1"], ["one"], transB=1),
            node("Tanh", ["one"], ["two"]),
            node("Gemm", ["two", "w", "b"], ["logits"], transB=1),
        ],
        weights(w1=(6, CHANNELS), b1=(6,), w=(CLASSES, 6), b=(CLASSES,)),
    ),
}


@pytest.mark.parametrize("copied", [heads.COPIED, 0], ids=["in memory", "in the file"])
@pytest.mark.parametrize("name", HEADS)
def test_a_channel_weighs_what_moving_it_moves_the_logit_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, copied: int
) -> None:
    monkeypatch.setattr(heads, "COPIED", copied)
    monkeypatch.setattr(heads, "ROWS_BYTES", 200)
    data = graph(*HEADS[name])
    head = read(tmp_path, data)
    feature_map = RANDOM.normal(0, 1, SHAPE).astype(np.float32)
    for index, expected in enumerate(gradients(data, feature_map)):
        found = head.channel_weights(feature_map, index)
        scale = np.abs(found).max() / np.abs(expected).max()
        np.testing.assert_allclose(found, scale * expected, atol=0.01 * np.abs(found).max())
        assert scale == pytest.approx(SIDE * SIDE if "average" in name else 1, rel=0.02)


def test_after_an_average_the_mean_of_the_evidence_is_the_logit_but_for_the_bias(tmp_path: Path) -> None:
    nodes, constants = HEADS["average by axes"]
    data = graph(nodes, constants)
    head, feature_map = read(tmp_path, data), RANDOM.normal(0, 1, SHAPE).astype(np.float32)
    for index, logit in enumerate(logits_of(data, feature_map[None])[0]):
        evidence = np.tensordot(head.channel_weights(feature_map, index), feature_map, 1)
        assert evidence.mean() + constants["b"][index] == pytest.approx(logit, abs=1e-5)  # type: ignore[operator]


def test_weights_of_any_type_but_float32_are_not_guessed(tmp_path: Path) -> None:
    nodes, constants = HEADS["one linear layer"]
    cast = [node("Cast", ["w64"], ["w"], to=TensorProto.FLOAT)]
    data = graph([*cast, *nodes], {"b": constants["b"], "w64": constants["w"].astype(np.float64)})
    with pytest.raises(Unexplained, match="the weights of a linear layer are computed"):
        read(tmp_path, data)


@pytest.mark.parametrize("shape", [(1, 28, 28), (4, 1, 1), (4, 9), (36,)], ids=str)
def test_a_feature_map_without_places_or_channels_is_refused_with_the_reason(tmp_path: Path, shape: Sequence[int]) -> None:
    with pytest.raises(Unexplained, match=f"its feature map is {' x '.join(map(str, shape))} .*can be explained"):
        read(tmp_path, graph(*HEADS["one linear layer"]), shape)


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        ([node("Sigmoid", ["feature_map"], ["other"]), node("Flatten", ["other"], ["flat"]), LAST], "there is Sigmoid"),
        ([node("Mul", ["feature_map", "feature_map"], ["other"]), node("Flatten", ["other"], ["flat"]), LAST], "there is Mul"),
        ([node("Flatten", ["images"], ["flat"]), LAST], "there is nothing"),
        ([FLATTEN, node("Gemm", ["flat", "w", "b"], ["logits"], transB=1, alpha=2.0)], "linear layer are computed"),
        ([FLATTEN, node("Gemm", ["flat", "w", "b"], ["y"], transB=1), node("Relu", ["y"], ["logits"])], "begin and end"),
    ],
    ids=["an activation", "a product", "a head on the image", "a factor", "an activation at the end"],
)
def test_what_has_no_gradient_here_is_refused_with_its_name(tmp_path: Path, nodes: list[NodeProto], reason: str) -> None:
    with pytest.raises(Unexplained, match=reason):
        read(tmp_path, graph(nodes, HEADS["one linear layer"][1]))


def test_a_head_for_another_feature_map_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Unexplained, match="takes 36 numbers, there are 72"):
        read(tmp_path, graph(*HEADS["one linear layer"]), (8, 3, 3))


def test_a_file_that_was_changed_is_refused(tmp_path: Path) -> None:
    folder = make_package(tmp_path)
    manifest = manifests.read(folder)
    assert heads.read(folder, manifest).shape == (4, 8, 8)
    make_onnx(folder / MODEL, novelty=True)
    with pytest.raises(PackageError, match="was changed"):
        heads.read(folder, manifest)


def test_of_a_poisoned_graph_there_is_no_gradient(tmp_path: Path) -> None:
    folder = make_package(tmp_path, graph={"poison": True})
    with pytest.raises(Unexplained, match="there is Add"):
        heads.read(folder, manifests.read(folder))


WHOLE = graph(*HEADS["three layers with ReLU"])


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(WHOLE)), st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), max_size=6))
def test_damaged_graphs_are_malformed_or_unexplained_and_nothing_else(end: int, changes: list[tuple[int, int]]) -> None:
    data = bytearray(WHOLE)
    for at, value in changes:
        data[at] = value
    try:
        heads.head_of(Graph(bytes(data[: end or None])), SHAPE)
    except (Malformed, Unexplained):
        return
