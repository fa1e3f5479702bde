"""A model that stops for as long as a picture says: what a wedged network looks like from outside, and a busy one.

Its graph is that of ``make_onnx`` with a loop before the logits, which runs about a second for every level by which the darkest
pixel of a picture is above QUIET, and not at all for other pictures.
"""

import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from models.package import manifest as manifests
from models.registry import registry
from tests.factories import encode, make_files, make_manifest

QUIET = 200
ROUNDS = 400_000  # of the loop, for a level
SIDE = 64  # of the matrix that a round multiplies


def picture(levels: int) -> bytes:
    """A picture that stops the network for so many levels, at most 55."""
    return encode(Image.new("RGB", (32, 32), (QUIET + levels,) * 3))


PAUSE, WEDGE = picture(1), picture(255 - QUIET)  # about a second, and about a minute


def make_slow_package(store: Path, name: str = "tiny") -> None:
    draft = make_manifest(name=name)
    with tempfile.TemporaryDirectory() as folder:
        make_files(Path(folder), draft)
        file = Path(folder) / manifests.MODEL
        model = onnx.load(file)
        slow_down(model.graph)
        onnx.checker.check_model(model)
        onnx.save(model, file)
        registry.publish(store, Path(folder), draft)


def slow_down(graph: onnx.GraphProto) -> None:
    """Put the loop between the last node and the logits, to which it adds 0."""
    graph.node[-1].output[0] = "quick logits"
    constants = {
        "axes": np.array([1, 2, 3]),
        "quiet": np.float32(QUIET),
        "rounds": np.float32(ROUNDS),
        "zeros": np.zeros((SIDE, SIDE), np.float32),
        "true": np.array(True),
    }
    graph.initializer.extend(numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items())
    graph.node.extend(
        [
            helper.make_node("ReduceMin", ["floats", "axes"], ["darkest"], keepdims=0),
            helper.make_node("ReduceMax", ["darkest"], ["brightest"], keepdims=0),
            helper.make_node("Sub", ["brightest", "quiet"], ["above"]),
            helper.make_node("Relu", ["above"], ["levels"]),
            helper.make_node("Mul", ["levels", "rounds"], ["turns"]),
            helper.make_node("Cast", ["turns"], ["whole turns"], to=TensorProto.INT64),
            helper.make_node("Loop", ["whole turns", "true", "zeros"], ["still zeros"], body=one_round()),
            helper.make_node("ReduceMax", ["still zeros"], ["zero"], keepdims=0),
            helper.make_node("Add", ["quick logits", "zero"], ["logits"]),
        ]
    )


def one_round() -> onnx.GraphProto:
    matrix = numpy_helper.from_array(np.full((SIDE, SIDE), 1 / SIDE, np.float32), "matrix")
    return helper.make_graph(
        [
            helper.make_node("Identity", ["go on"], ["still on"]),
            helper.make_node("MatMul", ["before", "matrix"], ["after"]),
        ],
        "round",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("go on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", TensorProto.FLOAT, [SIDE, SIDE]),
        ],
        [
            helper.make_tensor_value_info("still on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", TensorProto.FLOAT, [SIDE, SIDE]),
        ],
        [matrix],
    )
