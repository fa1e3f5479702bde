"""models/imagenet/graph.py: weights into a graph that has none."""

import lzma

import msgspec
import numpy as np
import pytest
import torch

from models.imagenet import graph
from models.imagenet.graph import Hole, Layer, Skeleton

RANDOM = np.random.default_rng(0)


def test_a_convolution_and_the_batch_norm_after_it_are_one_layer() -> None:
    convolution = torch.nn.Conv2d(3, 5, 3, bias=False)
    norm = torch.nn.BatchNorm2d(5, graph.EPSILON).eval()
    for values in norm.state_dict().values():
        values.copy_(torch.rand(values.shape) + 0.5)
    arrays = {"_blocks.0._expand_conv.weight": convolution.weight.detach().numpy()}
    arrays |= {f"_blocks.0._bn0.{name}": values.numpy() for name, values in norm.state_dict().items()}
    head = {"_fc.weight": np.ones((2, 5), np.float32), "_fc.bias": np.zeros(2, np.float32)}

    layers = graph.layers_of(arrays | head)

    assert list(layers) == ["_blocks.0._expand_conv", "_fc"]
    weight, bias = (torch.from_numpy(values) for values in layers["_blocks.0._expand_conv"])
    images = torch.rand(2, 3, 6, 6)
    with torch.inference_mode():
        torch.testing.assert_close(torch.nn.functional.conv2d(images, weight, bias), norm(convolution(images)))
    np.testing.assert_array_equal(layers["_fc"].weight, head["_fc.weight"])


def make_layer() -> Layer:
    return Layer(RANDOM.normal(size=(6, 4, 3, 3)).astype(np.float32), RANDOM.normal(size=6).astype(np.float32))


def test_integers_times_their_scale_are_the_weights() -> None:
    layer = make_layer()
    weight, scale = graph.content(layer, "int8 weight", 0.1), graph.content(layer, "int8 scale", 0.1)
    bias, product = graph.content(layer, "int32 bias", 0.1), graph.content(layer, "int32 scale", 0.1)

    assert (weight.dtype, bias.dtype) == (np.int8, np.int32)
    assert np.abs(weight.astype(int)).reshape(6, -1).max(1).tolist() == [graph.LARGEST] * 6
    np.testing.assert_allclose(weight * scale.reshape(-1, 1, 1, 1), layer.weight, atol=0.51 * float(scale.max()))
    np.testing.assert_allclose(product, 0.1 * scale, rtol=1e-6)
    np.testing.assert_allclose(bias * product, layer.bias, atol=float(product.max()))


def test_two_products_with_the_largest_weights_fit_into_16_bits() -> None:
    assert 2 * 255 * graph.LARGEST < 2**15


def test_a_channel_without_weights_keeps_its_bias() -> None:
    layer = Layer(np.zeros((2, 1, 1, 1), np.float32), np.array([3.0, 0.0], np.float32))
    bias, product = graph.content(layer, "int32 bias", 0.5), graph.content(layer, "int32 scale", 0.5)
    assert (bias * product.astype(np.float64)).tolist() == pytest.approx([3.0, 0.0])


def test_a_skeleton_is_filled_where_its_holes_are() -> None:
    layer = make_layer()
    size = layer.weight.nbytes
    skeleton = Skeleton([Hole(2, "a", "weight"), Hole(2 + size + 1, "a", "bias")], lzma.compress(bytes(size) + b"........" * 8))
    skeleton = graph.read(msgspec.msgpack.encode(skeleton))

    found = skeleton.filled({"a": layer})

    assert found == bytes(2) + layer.weight.tobytes() + found[2 + size : 3 + size] + layer.bias.tobytes() + b"." * 37
