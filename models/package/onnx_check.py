"""Reads an ONNX file far enough to see that it is whole in itself, before ONNX Runtime opens it.

A graph can name further files: tensors with external data, and compiled code (EPContext). Such a graph reads whatever its
author named, so it is refused. Weights are stepped over. What protobuf merges or overrides (a field that comes twice) is looked
at each time it comes.
"""

from pathlib import Path

from models.errors import PackageError
from models.package.protobuf import BYTES, VARINT, Malformed, fields

MAX_DEPTH = 100  # messages within messages, as protobuf's own readers allow
MAX_FIELDS = 2_000_000  # resnet152 has some 10,000

# onnx.proto: of each message, the fields that lead to tensors and nodes, by number, and the message that each holds
MESSAGES = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse tensor", 23: "sparse tensor"},
    "sparse tensor": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
OPERATION = ("node", 4)
EXTERNAL_DATA, DATA_LOCATION = ("tensor", 13), ("tensor", 14)
COMPILED = b"EPContext"


def check(path: Path, data: bytes) -> None:
    """Refuse a graph that reads other files, or that is no ONNX file; ``path`` is for the message.

    Raises:
        PackageError: naming the file and the cause.
    """
    try:
        fault = _fault(data)
    except Malformed as err:
        fault = f"is no ONNX graph: {err}"
    if fault is not None:
        raise PackageError(f"{path} {fault}; export the model again as one file and publish it")


def _fault(data: bytes) -> str | None:
    left = MAX_FIELDS
    ahead = [("model", 0, len(data), 1)]  # messages to be read: kind, from, to, depth
    while ahead:
        message, start, end, depth = ahead.pop()
        if depth > MAX_DEPTH:
            raise Malformed(f"messages lie within one another more than {MAX_DEPTH} deep")
        inner = MESSAGES[message]
        for field in fields(data, start, end):
            left -= 1
            if left < 0:
                raise Malformed(f"it has more than {MAX_FIELDS:,} fields")
            place = (message, field.number)
            if field.kind == BYTES and field.number in inner:
                ahead.append((inner[field.number], field.start, field.end, depth + 1))
            elif place == EXTERNAL_DATA or (place == DATA_LOCATION and (field.kind != VARINT or field.value != 0)):
                return "holds a tensor with external data, which would be read from another file"
            elif place == OPERATION and data[field.start : field.end] == COMPILED:
                return "holds compiled code (EPContext), which would be read from another file"
            elif field.number in inner:
                raise Malformed(f"field {field.number} of a {message} is no message")
    return None
