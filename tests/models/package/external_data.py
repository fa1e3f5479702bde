"""Tensors whose values are in another file, and a place in a graph to hide one."""

import numpy as np
import onnx
import onnx.external_data_helper
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

EXTERNAL = "holds a tensor with external data, which would be read from another file"


def tensor(location: str = "weights.bin") -> TensorProto:
    """As ``onnx`` writes one whose values are in another file."""
    made = numpy_helper.from_array(np.ones(4, np.float32), "hidden")
    onnx.external_data_helper.set_external_data(made, location, offset=0, length=16)
    made.ClearField("raw_data")
    made.data_location = TensorProto.EXTERNAL
    return made


def constant(t: TensorProto) -> NodeProto:
    return helper.make_node("Constant", [], ["hidden"], value=t)


def hide_in_constant(model: ModelProto, t: TensorProto) -> None:
    model.graph.node.append(constant(t))
