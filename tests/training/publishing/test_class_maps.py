"""Maps as the service makes them, of exported graphs without torch, against torch's Grad-CAM of the same networks."""

import hashlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from models.package import head as heads
from models.package.head import Unexplained
from models.package.manifest import MODEL
from service.inference.class_map import class_map
from tests.factories import make_manifest, run_onnx
from tests.training.factories import make_recipe
from training.evaluation.class_activation import class_activation_maps
from training.loop.checkpoint import Checkpoint
from training.networks import catalogue, torchvision
from training.networks.classifier import Classifier
from training.publishing import export
from training.publishing.quantize import quantize

CLASSES = ("a", "b", "c")
TEMPERATURE = 1.7


def tiny_vgg() -> Classifier:
    """As torchvision's VGG, with fewer and narrower layers: its pooling to 7x7 places, two dense layers with dropout, a head."""
    features = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(4))
    classifier = nn.Sequential(
        *(nn.Linear(6 * 49, 20), nn.ReLU(inplace=True), nn.Dropout()),
        *(nn.Linear(20, 20), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(20, len(CLASSES))),
    )
    net = SimpleNamespace(features=features, avgpool=nn.AdaptiveAvgPool2d(7), classifier=classifier)
    return torchvision.cut_vgg(net)


def build(name: str) -> Classifier:
    torch.manual_seed(0)
    return tiny_vgg() if name == "vgg" else catalogue.build(name, len(CLASSES))


def checkpoint_of(name: str, side: int, mirror: bool = False) -> Checkpoint:
    size = {"height": side, "width": side, "resize": side}
    known = name if name != "vgg" else "resnet10-small"
    return Checkpoint(make_recipe(architecture=known, input=size, mirror=mirror), CLASSES, [100.0] * 3, [60.0] * 3)


@pytest.mark.parametrize(
    ("name", "side", "mirror"),
    [
        ("resnet10-small", 32, False),
        ("resnet10-small", 32, True),
        ("resnet20", 32, False),
        ("vgg", 28, False),
        ("vgg", 28, True),
        ("lenet5", 28, False),
        ("convnet-32-64-128", 28, False),
    ],
)
def test_a_map_without_torch_is_that_of_torch(tmp_path: Path, name: str, side: int, mirror: bool) -> None:
    model, checkpoint = build(name).eval(), checkpoint_of(name, side, mirror)
    export.write_onnx(model, checkpoint, tmp_path / MODEL, TEMPERATURE)
    pixels = np.random.default_rng(0).integers(0, 256, (3, side, side, 3)).astype(np.uint8)
    pixels[:, : side // 2, : side // 3] //= 4  # no image is like its mirror image

    outputs = run_onnx(tmp_path / MODEL, pixels)
    shapes = {output: list(values.shape[1:]) for output, values in outputs.items()}
    digest = hashlib.sha256((tmp_path / MODEL).read_bytes()).hexdigest()
    manifest = make_manifest(labels=CLASSES, outputs=shapes)
    head = heads.read(tmp_path, make_manifest(labels=CLASSES, outputs=shapes, files=manifest.files | {MODEL: digest}))

    for index in range(len(CLASSES)):
        expected = class_activation_maps(checkpoint.answering(model), checkpoint, pixels, np.full(3, index))
        for i, torch_map in enumerate(expected):
            row = {output: values[i] for output, values in outputs.items()}
            np.testing.assert_allclose(class_map(head, row, index), torch_map / max(torch_map.max(), 1e-12), atol=2e-4)


def test_the_feature_map_of_an_int8_graph_is_explained_with_the_weights_in_fp32(tmp_path: Path) -> None:
    model, checkpoint = build("resnet10-small").eval(), checkpoint_of("resnet10-small", 32)
    export.write_onnx(model, checkpoint, tmp_path / MODEL)
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 32, 3)).astype(np.uint8)
    quantize(tmp_path / MODEL, tmp_path / "int8.onnx", pixels)
    exact, rounded = run_onnx(tmp_path / MODEL, pixels[:4]), run_onnx(tmp_path / "int8.onnx", pixels[:4])
    shapes = {output: list(values.shape[1:]) for output, values in exact.items()}
    digest = hashlib.sha256((tmp_path / MODEL).read_bytes()).hexdigest()
    files = make_manifest().files | {MODEL: digest}
    head = heads.read(tmp_path, make_manifest(labels=CLASSES, outputs=shapes, files=files))
    pairs = [
        [class_map(head, {output: values[i] for output, values in found.items()}, index) for found in (exact, rounded)]
        for i in range(4)
        for index in range(len(CLASSES))
    ]
    shown = [pair for pair in pairs if pair[0].any()]
    assert shown
    assert max(float(np.abs(first - second).mean()) for first, second in shown) < 0.1


def test_a_perceptron_has_no_map(tmp_path: Path) -> None:
    model, checkpoint = build("mlp-512").eval(), checkpoint_of("mlp-512", 28)
    export.write_onnx(model, checkpoint, tmp_path / MODEL)
    outputs = run_onnx(tmp_path / MODEL, np.zeros((1, 28, 28, 3), np.uint8))
    shapes = {output: list(values.shape[1:]) for output, values in outputs.items()}
    with pytest.raises(Unexplained, match="1 x 28 x 28"):
        heads.read(tmp_path, make_manifest(labels=CLASSES, outputs=shapes))
