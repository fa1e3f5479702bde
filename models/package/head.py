"""The head of a package's network: what lies between its feature map and its logits, and what a class asks of each channel.

The gradient of a logit by the feature map is worked out here by hand, which is exact: a head is a mean over all places, or all
places in a row, and then linear layers with ReLU or tanh between. Its weights are those of model.onnx, in fp32, also where
another graph of the package computes.
"""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models import files
from models.errors import PackageError
from models.package.manifest import MODEL, Manifest
from models.package.onnx_graph import Graph, Node
from models.package.protobuf import Malformed

Array = NDArray[np.float32]
COPIED = 2**25  # bytes of a layer's weights, up to which they are held in memory; of larger ones what is used is read each time
ROWS_BYTES = 2**22  # of weights that are read at a time
PASSED = ("Identity", "Dropout")  # which change nothing
FLAT = ("Flatten", "Reshape", "Squeeze")
MEANS = ("ReduceMean", "GlobalAveragePool")
MOST_STEPS = 100


class Unexplained(Exception):
    """A head of which no map can be made; ``str()`` says why."""


class Step(Protocol):
    def forward(self, x: Array) -> Array: ...

    def back(self, gradient: Array, y: Array) -> Array:
        """The gradient by what comes in, from that by what goes out; ``y`` is what goes out."""
        ...


@dataclass(frozen=True)
class Linear:
    """weight: (outputs, inputs). bias: (outputs,)."""

    weight: Array
    bias: Array

    def forward(self, x: Array) -> Array:
        return np.concatenate([rows @ x for _, rows in self._parts()]) + self.bias

    def back(self, gradient: Array, y: Array) -> Array:
        return np.sum([gradient[part] @ rows for part, rows in self._parts()], axis=0)

    def by_channel(self, channels: int) -> Array:
        """(outputs, channels): the mean weight of each channel, where the inputs are the places of one after the other."""
        return np.concatenate([rows.reshape(len(rows), channels, -1).mean(2) for _, rows in self._parts()])

    def _parts(self) -> Iterator[tuple[slice, Array]]:
        """Some rows at a time, so that a copy of those which lie at odd bytes of a file is a small one."""
        step = max(1, ROWS_BYTES // (4 * self.weight.shape[1])) if not self.weight.flags.aligned else len(self.weight)
        for begin in range(0, len(self.weight), step):
            part = slice(begin, begin + step)
            yield part, np.require(self.weight[part], np.float32, "A")


@dataclass(frozen=True)
class Activation:
    """name: Relu or Tanh."""

    name: str

    def forward(self, x: Array) -> Array:
        return np.maximum(x, 0) if self.name == "Relu" else np.tanh(x)

    def back(self, gradient: Array, y: Array) -> Array:
        return gradient * np.asarray(y > 0 if self.name == "Relu" else 1 - y * y, np.float32)


class Head:
    """pooled: it begins with the mean over all places. steps: the first and the last are linear. shape: of the feature map,
    (channels, height, width)."""

    def __init__(self, pooled: bool, steps: list[Step], shape: tuple[int, int, int]) -> None:
        self.pooled, self.steps, self.shape = pooled, steps, shape
        linear = [step for step in steps if isinstance(step, Linear)]
        if not linear or linear[0] is not steps[0] or linear[-1] is not steps[-1]:
            raise Unexplained("its head does not begin and end with a linear layer")
        size = shape[0] if pooled else math.prod(shape)
        for step in linear:
            if step.weight.shape[1] != size:
                raise Unexplained(f"a linear layer takes {step.weight.shape[1]} numbers, there are {size}")
            size = len(step.weight)
        first, self.last = linear[0], linear[-1]
        self.by_channel = first.weight if pooled else first.by_channel(shape[0])

    def channel_weights(self, feature_map: Array, index: int) -> Array:
        """(channels,): what the logit of class ``index`` gains with each channel, by the mean over all places of its gradient
        by the feature map (channels, height, width); but for a factor that all channels share."""
        if len(self.steps) == 1:
            return self.by_channel[index]
        x = feature_map.mean((1, 2)) if self.pooled else feature_map.ravel()
        outputs = list[Array]()
        for step in self.steps[:-1]:
            x = step.forward(x)
            outputs.append(x)
        gradient = np.asarray(self.last.weight[index], np.float32)
        for step, y in zip(reversed(self.steps[1:-1]), reversed(outputs[1:]), strict=True):
            gradient = step.back(gradient, y)
        return gradient @ self.by_channel


def read(folder: Path, manifest: Manifest) -> Head:
    """The head of a package.

    The bytes are checked where they lie, and not copied: of a VGG they are 500 MB, of which a map takes what it needs.

    Raises:
        Unexplained: no map can be made of it.
        PackageError: the file is not what the manifest says.
    """
    path, shape = folder / MODEL, manifest.outputs["feature_map"]
    if len(shape) != 3 or shape[0] == 1 or shape[1] * shape[2] == 1:
        raise Unexplained(
            f"its feature map is {' x '.join(map(str, shape))} (channels x height x width), in which no place differs by what is "
            "in it: a network of convolutions whose last feature map has several places can be explained"
        )
    with files.open_plain(path) as file:
        data = mmap(file.fileno(), 0, access=ACCESS_READ)
    if hashlib.sha256(data).hexdigest() != manifest.files[MODEL]:
        raise PackageError(f"{path} was changed while it was loaded; copy the package again")
    try:
        return head_of(Graph(data), (shape[0], shape[1], shape[2]))
    except Malformed as err:
        raise Unexplained(f"{MODEL} cannot be read: {err}") from err


def head_of(graph: Graph, shape: tuple[int, int, int]) -> Head:
    """From the logits back to the feature map."""
    steps, name, node, bias = list[Step](), "logits", None, None
    for _ in range(MOST_STEPS):
        node = graph.makers.get(name)
        if node is None or not node.inputs or (bias is not None and node.operation != "MatMul"):
            break
        name = node.inputs[0]
        if node.operation in ("Gemm", "MatMul"):
            steps.append(_linear(graph, node, bias))
            bias = None
        elif node.operation == "Add" and bias is None and (found := _constant(graph, node, 1)) is not None:
            bias = found
        elif node.operation in ("Relu", "Tanh"):
            steps.append(Activation(node.operation))
        elif node.operation in MEANS and _over_places(graph, node) and name == "feature_map":
            return Head(True, steps[::-1], shape)
        elif node.operation not in PASSED + FLAT and not _is_plain_pooling(node):
            break
        if name == "feature_map":
            return Head(False, steps[::-1], shape)
    what = node.operation[:50] if node is not None else "nothing"
    raise Unexplained(f"between its feature map and its logits there is {what}, of which no gradient is worked out here")


def _linear(graph: Graph, node: Node, bias: Array | None) -> Linear:
    weight, own = _constant(graph, node, 1), _constant(graph, node, 2)
    if (
        weight is None
        or weight.ndim != 2
        or not weight.size
        or node.integers.get("transA", [0]) != [0]
        or {*node.floats.values()} - {1.0}
    ):
        raise Unexplained("the weights of a linear layer are computed")
    if node.integers.get("transB", [0]) == [0]:
        weight = weight.T
    given = own if own is not None else bias if bias is not None else np.zeros(len(weight), np.float32)
    if given.size not in (1, len(weight)):
        raise Unexplained("a linear layer has a bias of another size")
    return Linear(weight, np.broadcast_to(given.ravel(), len(weight)))


def _constant(graph: Graph, node: Node, place: int) -> Array | None:
    """float32, copied where it is small, so that nothing holds the file."""
    found = graph.constant(node.inputs[place]) if len(node.inputs) > place else None
    if found is None or found.dtype != np.float32:
        return None
    return np.array(found, np.float32) if found.nbytes <= COPIED else found


def _over_places(graph: Graph, node: Node) -> bool:
    """Whether a mean is over height and width."""
    if node.operation == "GlobalAveragePool":
        return True
    found = graph.constant(node.inputs[1]) if len(node.inputs) > 1 else None
    axes = node.integers.get("axes", []) if found is None else found.tolist()
    return sorted(axis % 4 for axis in axes) == [2, 3]


def _is_plain_pooling(node: Node) -> bool:
    """A pooling of single places."""
    sizes = node.integers.get("kernel_shape", [0])
    return node.operation in ("AveragePool", "MaxPool") and set(sizes) == {1} and not any(node.integers.get("pads", []))
