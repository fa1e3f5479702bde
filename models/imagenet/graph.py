"""A graph without weights, and the weights of others -> the graph.

A skeleton is an ONNX file in which the weights are zeros. As their shapes are known, so is the place of each: filling one in is
to write over bytes, for which nothing has to read ONNX. Batch norms are within the convolutions before them. What is computed
here is only added, multiplied, divided, rooted and rounded, so every machine makes the same bytes.
"""

import lzma
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from models.imagenet.state_dict import Arrays

EPSILON = 1e-3  # of batch norm, as these weights were trained
LARGEST = 64  # of an int8 weight: processors without VNNI add two products in 16 bits, which 255 x 127 twice would overflow
LARGEST_BIAS = 2.0**30  # of an int32 bias
TINY = 2.0**-60  # the least scale
NORMS = {  # of each convolution, by its name without those of its block
    **{"_conv_stem": "_bn0", "_conv_head": "_bn1"},
    **{"_expand_conv": "_bn0", "_depthwise_conv": "_bn1", "_project_conv": "_bn2"},
}
HEAD = "_fc"
What = Literal["weight", "bias", "int8 weight", "int8 scale", "int32 bias", "int32 scale"]


class Layer(NamedTuple):
    """weight: (channels, ...), bias: (channels,), float32."""

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]


class Hole(Struct, array_like=True, frozen=True):
    """Where a skeleton lacks something of a layer. input_scale: what 1 means in the integers that come to the layer."""

    offset: int
    layer: str
    what: What
    input_scale: float = 1.0


class Skeleton(Struct, frozen=True):
    holes: list[Hole]
    zeroed: bytes  # the ONNX file, compressed by LZMA

    def filled(self, layers: dict[str, Layer]) -> bytes:
        """The ONNX file with the weights of ``layers``."""
        data = bytearray(lzma.decompress(self.zeroed))
        for hole in self.holes:
            values = content(layers[hole.layer], hole.what, hole.input_scale).tobytes()
            data[hole.offset : hole.offset + len(values)] = values
        return bytes(data)


def read(data: bytes) -> Skeleton:
    return msgspec.msgpack.decode(data, type=Skeleton)


def layers_of(arrays: Arrays) -> dict[str, Layer]:
    """Each convolution with the batch norm after it in it, and the head, by their names in the file of the weights."""
    return {name: Layer(weight.astype("<f4"), bias.astype("<f4")) for name, weight, bias in _layers(arrays)}


def _layers(arrays: Arrays) -> Iterator[tuple[str, NDArray[Any], NDArray[Any]]]:
    for key in arrays:
        block, _, own = (layer := key.removesuffix(".weight")).rpartition(".")
        if layer == HEAD:
            yield layer, arrays[key], arrays[f"{HEAD}.bias"]
        elif own in NORMS and layer != key:
            norm = ".".join(filter(None, (block, NORMS[own])))
            scale, shift, mean, variance = (
                arrays[f"{norm}.{name}"].astype(np.float64) for name in ("weight", "bias", "running_mean", "running_var")
            )
            scale /= np.sqrt(variance + EPSILON)
            yield layer, arrays[key] * _by_channel(scale, arrays[key]), shift - mean * scale


def content(layer: Layer, what: What, input_scale: float = 1.0) -> NDArray[Any]:
    """What stands in a hole, little-endian: the weights, or integers of which 1 means ``scale``, a scale for each channel."""
    if what == "weight":
        return layer.weight
    if what == "bias":
        return layer.bias
    weight = layer.weight.astype(np.float64)
    scale = _scale(weight, layer.bias, input_scale)
    if what == "int8 weight":
        return np.round(weight / _by_channel(scale, weight)).clip(-LARGEST, LARGEST).astype(np.int8)
    if what == "int8 scale":
        return scale
    product = (scale * np.float64(input_scale)).astype("<f4")
    return product if what == "int32 scale" else np.round(layer.bias / product.astype(np.float64)).astype("<i4")


def _scale(weight: NDArray[np.float64], bias: NDArray[np.float32], input_scale: float) -> NDArray[np.float32]:
    """Of the weights of each channel. Some channels have next to no weights: their bias, in a product of scales, is to be within
    32 bits."""
    largest = np.abs(weight).reshape(len(weight), -1).max(1)
    least = np.abs(bias.astype(np.float64)) / (input_scale * LARGEST_BIAS)
    return np.maximum(np.maximum(largest / LARGEST, least), TINY).astype("<f4")


def _by_channel(values: NDArray[Any], weight: NDArray[Any]) -> NDArray[Any]:
    """(channels,) in the shape that multiplies each channel of a weight."""
    return values.reshape(-1, *(1,) * (weight.ndim - 1))
