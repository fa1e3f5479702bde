"""Every family of networks answers in ONNX Runtime as it does in torch, from a graph without anything odd in it.

The few made images here are for make test. HUBEL_TEST_IMAGES, a folder of class folders with 1,000 images or more, lets
make test-long compare 1,000 of them; with HUBEL_TEST_RUN, a run of a network for photographs, its labels are compared too.
"""

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import nn
from torchvision.transforms import v2

from models.image.preprocess import preprocess
from models.image.spec import InputSpec
from tests.training.factories import make_recipe
from tests.training.networks.factories import build_filled
from training.data import dataset
from training.data.dataset import ImageSet
from training.data.sources.folder import list_folder
from training.evaluation import evaluate
from training.loop import checkpoint as checkpoints
from training.loop.checkpoint import Checkpoint
from training.networks.classifier import Classifier
from training.publishing import export, golden
from training.publishing.quantize import quantize

IMAGES = os.environ.get("HUBEL_TEST_IMAGES", "")
RUN = os.environ.get("HUBEL_TEST_RUN", "")
MANY = 1000
CLASSES = tuple(f"class-{c}" for c in range(10))
SIDES = {  # architecture -> side of the images, large enough for every layer to have a part
    "mlp-512": 28,
    "convnet-32-64-128": 28,
    "lenet1": 28,
    "resnet20": 32,
    "plain20": 32,
    "vgg11-small": 32,
    "alexnet": 224,
    "googlenet": 64,
    "resnet18": 64,
}  # and of hog-28 in test_hog.py
KINDRED = {"alexnet", "plain20", "resnet18", "vgg11-small"}  # of others that are there, but larger or without what they have
FULL_SIDES = {
    **SIDES,
    **{"lenet5": 28, "hog-28": 28, "hog-32": 32, "resnet110": 32, "vgg16_bn-small": 32},
    **dict.fromkeys(("googlenet", "resnet18", "resnet50", "vgg11", "vgg11_bn"), 224),
}
USUAL = {
    *("Cast", "Sub", "Div", "Transpose", "Reshape", "Slice", "Pad", "Concat", "Add", "Mul"),
    *("Conv", "Gemm", "Relu", "Tanh", "MaxPool", "AveragePool", "ReduceMean"),
}


@dataclass(frozen=True)
class Exported:
    """A network with random weights, its graph, and logits (n, 10) of the same images by both."""

    architecture: str
    graph: Path
    images: ImageSet
    torch: NDArray[np.float32]
    onnx: NDArray[np.float32]

    def difference(self) -> float:
        return float(np.abs(self.onnx - self.torch).max())

    def same_top1(self) -> float:
        return float((self.onnx.argmax(1) == self.torch.argmax(1)).mean())


@torch.no_grad()
def settle(model: Classifier, pixels: torch.Tensor) -> None:
    """Give batch norms the statistics of some images, so that signals keep their size through any depth."""
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 1.0
    model.train()
    model(pixels)
    model.eval()


def exported(architecture: str, pixels: NDArray[np.uint8], folder: Path) -> Exported:
    images = ImageSet(pixels, np.zeros(len(pixels), np.int64), CLASSES, tuple(map(str, range(len(pixels)))), ())
    spec = {"height": pixels.shape[1], "width": pixels.shape[2], "resize": min(pixels.shape[1:3])}
    checkpoint = Checkpoint(make_recipe(architecture=architecture, input=spec), CLASSES, *dataset.channel_statistics(images))
    model = build_filled(architecture, len(CLASSES))
    settle(model, evaluate.normalise(torch.from_numpy(pixels[:: max(1, len(pixels) // 32)]), checkpoint))
    graph = folder / f"{architecture}.onnx"
    export.write_onnx(model, checkpoint, graph)
    given = export.logits_of(export.open_session(graph), pixels)
    return Exported(architecture, graph, images, answers(model, checkpoint, pixels), given)


def answers(model: Classifier, checkpoint: Checkpoint, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Logits by torch."""
    images = ImageSet(pixels, np.zeros(len(pixels), np.int64), checkpoint.classes, tuple(map(str, range(len(pixels)))), ())
    return evaluate.logits_of(model, checkpoint, images)


@pytest.fixture(
    scope="module", params=[name if name not in KINDRED else pytest.param(name, marks=pytest.mark.long) for name in SIDES]
)
def network(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    side = SIDES[request.param]
    pixels = golden.made(side, side, 8)
    pixels[0] = 0
    pixels[1, :, side // 2 :] = 255
    return exported(request.param, pixels, tmp_path_factory.mktemp("parity"))


def test_the_graph_answers_as_torch_does(network: Exported) -> None:
    assert network.torch.std(0).min() > 0.01  # the images are told apart
    assert network.difference() <= 1e-3
    assert network.same_top1() == 1


def test_the_graph_holds_no_node_that_is_out_of_place(network: Exported) -> None:
    """Batch norms are folded into convolutions, and no arithmetic with shapes comes of the free number of images."""
    assert {node.op_type for node in onnx.load(network.graph).graph.node} <= USUAL


def test_the_graph_holds_what_answers_and_nothing_else(network: Exported) -> None:
    """No auxiliary heads; each number once."""
    graph = onnx.load(network.graph).graph
    count = sum(np.prod(tensor.dims, dtype=int) for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT)
    answering = sum(p.numel() for p in build_filled(network.architecture, len(CLASSES)).mirrored().parameters())

    assert not [tensor.name for tensor in graph.initializer if "auxiliary" in tensor.name]
    assert answering * 0.98 - 100 < count < answering + 100  # scales of batch norms are folded, a few constants are added


@pytest.mark.parametrize("network", ["resnet20"], indirect=True)
def test_shortcuts_stand_eight_bits(network: Exported, tmp_path: Path) -> None:
    pixels = network.images.pixels[:]

    quantize(network.graph, tmp_path / "int8.onnx", pixels)

    given = export.logits_of(export.open_session(tmp_path / "int8.onnx"), pixels)
    assert 1e-3 < np.abs(given - network.torch).max() < 0.15 * np.abs(network.torch).max()


def real_images(side: int) -> NDArray[np.uint8]:
    """1,000 images of HUBEL_TEST_IMAGES, taken evenly, at side x side pixels; skips where there are fewer."""
    if not IMAGES:
        pytest.skip("HUBEL_TEST_IMAGES names no folder of class folders with images")
    spec = InputSpec(side, side, side * 8 // 7 if side > 64 else side)
    files = sorted(path for name in list_folder(Path(IMAGES)).classes for path in (Path(IMAGES) / name).iterdir())
    if len(files) < MANY:
        pytest.skip(f"HUBEL_TEST_IMAGES holds {len(files)} images, {MANY} are needed")
    return np.stack([preprocess(files[i * len(files) // MANY].read_bytes(), spec) for i in range(MANY)])


@pytest.mark.long
@pytest.mark.parametrize("architecture", FULL_SIDES)
def test_the_graph_answers_to_a_thousand_images_as_torch_does(
    architecture: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    side = FULL_SIDES[architecture]
    pixels, began = real_images(side), time.monotonic()

    network = exported(architecture, pixels, tmp_path)
    network.graph.unlink()  # hundreds of MB

    line = (
        f"{architecture} at {side} pixels, n = {len(pixels)}: logits of deviation {network.torch.std():.2g} differ by at most "
        f"{network.difference():.2g}, top-1 is the same for {network.same_top1():.2%}; {time.monotonic() - began:.0f} s"
    )
    with capsys.disabled():
        sys.stdout.write(f"\n{line}\n")
    assert network.difference() <= 1e-3
    assert network.same_top1() == 1


def torchvisions_pixels(path: Path, spec: InputSpec) -> NDArray[np.uint8]:
    """As references of torchvision prepare an image for evaluation: resize the shorter side, antialiased; cut out the centre."""
    steps = v2.Compose([v2.Resize(spec.resize, antialias=True), v2.CenterCrop((spec.height, spec.width))])
    with Image.open(path) as image:
        return np.asarray(steps(ImageOps.exif_transpose(image).convert("RGB")))


@pytest.mark.long
def test_photographs_get_the_labels_that_they_get_behind_torchvisions_preprocessing(capsys: pytest.CaptureFixture[str]) -> None:
    """torchvision rounds the longer side and the corner of the crop to whole pixels, ours does not."""
    if not (IMAGES and RUN):
        pytest.skip("HUBEL_TEST_IMAGES and HUBEL_TEST_RUN name no photographs and no run of a network for them")
    checkpoint, model, _ = checkpoints.load(Path(RUN))
    spec = checkpoint.recipe.input
    paths = sorted(path for path in Path(IMAGES).rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    ours = np.stack([preprocess(path.read_bytes(), spec) for path in paths])
    theirs = np.stack([torchvisions_pixels(path, spec) for path in paths])

    labels, others = (answers(model.eval(), checkpoint, pixels).argmax(1) for pixels in (ours, theirs))

    agreement, apart = float((labels == others).mean()), np.abs(ours - theirs.astype(float)).mean()
    line = f"{checkpoint.recipe.architecture} at {spec.height} pixels, n = {len(paths)}: {agreement:.2%} of the labels agree"
    with capsys.disabled():
        sys.stdout.write(f"\n{line}; pixels are {apart:.2f} of 255 apart\n")
    assert len(set(labels)) > 1
    assert agreement >= 0.99
