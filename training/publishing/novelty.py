"""The novelty of training/evaluation/novelty.py as nodes of an exported graph: its output `novelty`, (batch, 1) float32.

It comes after quantization and in fp32 in every graph: products of eight bits are too coarse for it, and there are few.
"""

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models.package.manifest import NOVELTY
from training.evaluation.novelty import TINY, Curve, Gaussian, Reference

Array = NDArray[np.floating] | np.floating


class Nodes:
    """Nodes and constants to be added to a graph, under names of their own."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[TensorProto] = []

    def add(self, operator: str, *inputs: str | Array | list[int], output: str = "") -> str:
        """A node, its constants among the inputs; the name of what it puts out."""
        output = output or f"{NOVELTY}_{len(self.nodes)}"
        names = [given if isinstance(given, str) else self._constant(given) for given in inputs]
        self.nodes.append(helper.make_node(operator, names, [output], name=f"{NOVELTY}_node_{len(self.nodes)}"))
        return output

    def _constant(self, values: Array | list[int]) -> str:
        kind = np.int64 if isinstance(values, list) else np.float32
        name = f"{NOVELTY}_constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, kind), name))
        return name


def gaussian_distance(nodes: Nodes, gaussian: Gaussian) -> str:
    """(batch, 1): Gaussian.distance of the graph's features."""
    size = len(gaussian.mean)
    length = nodes.add("Max", nodes.add("ReduceL2", "features", [1]), np.array(TINY))
    centred = nodes.add("Sub", nodes.add("Div", "features", length), gaussian.mean)
    along = nodes.add("MatMul", centred, gaussian.directions)
    apart = nodes.add("MatMul", nodes.add("Mul", along, along), gaussian.surplus[:, None] / size)
    whole = nodes.add("Mul", nodes.add("ReduceSumSquare", centred, [1]), 1 / (gaussian.rest * size))
    return nodes.add("Sqrt", nodes.add("Relu", nodes.add("Add", apart, whole)))


def put_out(nodes: Nodes, distance: str, curve: Curve) -> None:
    """Curve.novelty of a distance (batch, 1)."""
    lengths = np.diff(curve.distances)
    passed = nodes.add("Min", nodes.add("Relu", nodes.add("Sub", distance, curve.distances[:-1])), lengths)  # of each line
    nodes.add("Gemm", passed, (np.diff(curve.shares) / lengths)[:, None], curve.shares[:1], output=NOVELTY)


def attach(path: Path, reference: Reference) -> None:
    """Add the output to the graph at ``path``."""
    nodes = Nodes()
    put_out(nodes, gaussian_distance(nodes, reference.gaussian), reference.curve)
    extend(path, nodes)


def extend(path: Path, nodes: Nodes) -> None:
    """Write the nodes into the graph at ``path``; one of them puts out the novelty."""
    model = onnx.load(path)
    features = next(output for output in model.graph.output if output.name == "features")
    model.graph.node.extend(nodes.nodes)
    model.graph.initializer.extend(nodes.constants)
    output = helper.make_tensor_value_info(NOVELTY, TensorProto.FLOAT, ["batch", 1])
    output.type.tensor_type.shape.dim[0].CopyFrom(features.type.tensor_type.shape.dim[0])
    model.graph.output.append(output)
    onnx.save(model, path)
