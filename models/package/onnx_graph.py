"""The nodes and weights of an ONNX file, read without the package onnx, which a service does not have.

Weights stay where they are in the file: what is asked for is a view of it.
"""

import math
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.package.onnx_check import MAX_FIELDS
from models.package.protobuf import BYTES, FIXED32, VARINT, Data, Field, Malformed, fields, varint

# Of onnx.proto: numbers of fields
GRAPH, NODE, INITIALIZER = 7, 1, 5
INPUT, OUTPUT, OPERATION, ATTRIBUTE = 1, 2, 4, 5
NAME, FLOAT, INTEGER, TENSOR, INTEGERS = 1, 2, 3, 5, 8
DIMENSION, KIND, TENSOR_NAME, RAW = 1, 2, 8, 9
KINDS: dict[int, Any] = {1: "<f4", 7: "<i8"}  # of a tensor that can be looked at


@dataclass
class Node:
    """integers: its attributes that are whole numbers, or lists of them; floats: those that are one. tensor: of a constant."""

    operation: str = ""
    inputs: list[str] = field(default_factory=list[str])
    outputs: list[str] = field(default_factory=list[str])
    integers: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    floats: dict[str, float] = field(default_factory=dict[str, float])
    tensor: "Tensor | None" = None


@dataclass
class Tensor:
    """Where its numbers are in the file."""

    name: str = ""
    shape: list[int] = field(default_factory=list[int])
    kind: int = 0
    start: int = 0
    end: int = 0


class Graph:
    """data: an ONNX file. makers: the node that gives a value, by the value's name. Raises Malformed where it is no such file."""

    def __init__(self, data: Data) -> None:
        self.data = data
        self.left = MAX_FIELDS
        self.makers: dict[str, Node] = {}
        self.tensors: dict[str, Tensor] = {}
        for model in self._fields(0, len(data)):
            if (model.number, model.kind) == (GRAPH, BYTES):
                for part in self._fields(model.start, model.end):
                    self._take(part)

    def constant(self, name: str) -> NDArray[Any] | None:
        """The numbers of a weight, float32 or int64, as they lie in the file; None where there is none of that name and kind."""
        tensor = self.tensors.get(name)
        if tensor is None or tensor.kind not in KINDS or min(tensor.shape, default=0) < 0:
            return None
        kind = np.dtype(KINDS[tensor.kind])
        if tensor.end - tensor.start != math.prod(tensor.shape) * kind.itemsize:  # its numbers stand elsewhere
            return None
        return np.frombuffer(self.data, kind, math.prod(tensor.shape), tensor.start).reshape(tensor.shape)

    def _fields(self, start: int, end: int) -> Iterable[Field]:
        for found in fields(self.data, start, end):
            self.left -= 1
            if self.left < 0:
                raise Malformed(f"it has more than {MAX_FIELDS:,} fields")
            yield found

    def _take(self, part: Field) -> None:
        if part.kind != BYTES:
            return
        if part.number == INITIALIZER:
            tensor = self._tensor(part)
            self.tensors[tensor.name] = tensor
        elif part.number == NODE:
            node = self._node(part)
            for name in node.outputs:
                self.makers[name] = node
                if node.tensor is not None:
                    self.tensors[name] = node.tensor

    def _node(self, part: Field) -> Node:
        node = Node()
        for found in self._fields(part.start, part.end):
            if found.kind != BYTES:
                continue
            if found.number in (INPUT, OUTPUT):
                (node.inputs if found.number == INPUT else node.outputs).append(self._text(found))
            elif found.number == OPERATION:
                node.operation = self._text(found)
            elif found.number == ATTRIBUTE:
                self._attribute(found, node)
        return node

    def _attribute(self, part: Field, node: Node) -> None:
        name, numbers = "", list[int]()
        for found in self._fields(part.start, part.end):
            if (found.number, found.kind) == (NAME, BYTES):
                name = self._text(found)
            elif (found.number, found.kind) == (FLOAT, FIXED32):
                (node.floats[name],) = struct.unpack("<f", self.data[found.start : found.end])
            elif found.number in (INTEGER, INTEGERS):
                numbers += self._numbers(found)
            elif (found.number, found.kind) == (TENSOR, BYTES):
                node.tensor = self._tensor(found)
        node.integers[name] = numbers

    def _tensor(self, part: Field) -> Tensor:
        tensor = Tensor()
        for found in self._fields(part.start, part.end):
            if found.number == DIMENSION:
                tensor.shape += self._numbers(found)
            elif (found.number, found.kind) == (KIND, VARINT):
                tensor.kind = found.value
            elif (found.number, found.kind) == (TENSOR_NAME, BYTES):
                tensor.name = self._text(found)
            elif (found.number, found.kind) == (RAW, BYTES):
                tensor.start, tensor.end = found.start, found.end
        return tensor

    def _numbers(self, found: Field) -> list[int]:
        """One, or several that are packed."""
        if found.kind == VARINT:
            return [signed(found.value)]
        numbers, at = list[int](), found.start
        while found.kind == BYTES and at < found.end:
            value, at = varint(self.data, at, found.end)
            numbers.append(signed(value))
        return numbers

    def _text(self, found: Field) -> str:
        return self.data[found.start : found.end].decode(errors="replace")


def signed(value: int) -> int:
    """A whole number of 64 bits as protobuf means it."""
    return value - 2**64 if value >= 2**63 else value
