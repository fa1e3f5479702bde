"""EfficientNet-Lite0 (Liu 2020, Google's form of EfficientNet for phones) and what its published weights call its layers.

It is EfficientNet-B0 (Tan and Le 2019, arXiv 1905.11946, table 1) without squeeze-and-excitation and with ReLU6 for swish, so
that all of it quantizes well: inverted residual blocks of depthwise convolutions (Sandler et al. 2018, arXiv 1801.04381).
"""

from collections.abc import Iterator
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional

from models.imagenet.graph import EPSILON
from training.networks.classifier import Classifier
from training.networks.global_average import GlobalAverage
from training.networks.initialisation import initialise

NAME = "efficientnet-lite0"
STEM, FEATURES = 32, 1280
MOMENTUM = 0.01  # of batch norm, and EPSILON: those that the weights were trained with
DROPOUT = 0.2


class Stage(NamedTuple):
    """Blocks that are alike but for the first, which has the stride and changes the channels. expansion: of the channels within
    a block. kernel: side of the depthwise convolutions."""

    blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


class Convolution(nn.Conv2d):
    """Without bias, and padded as TensorFlow does ("SAME"): where a stride leaves an odd number of pixels to pad, the last one
    is at the bottom and at the right."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, groups=groups, bias=False)
        self.step, self.side = stride, kernel

    def forward(self, input: Tensor) -> Tensor:
        down, across = (self._missing(length) for length in input.shape[2:])
        if down % 2 == across % 2 == 0:
            padding = (down // 2, across // 2)
            return functional.conv2d(input, self.weight, None, self.step, padding, groups=self.groups)
        padded = functional.pad(input, (across // 2, across - across // 2, down // 2, down - down // 2))
        return functional.conv2d(padded, self.weight, None, self.step, groups=self.groups)

    def _missing(self, length: int) -> int:
        """Pixels of padding, at both ends together."""
        return max((-(-length // self.step) - 1) * self.step + self.side - length, 0)


def convolution(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    return [Convolution(inputs, outputs, kernel, stride, groups), nn.BatchNorm2d(outputs, EPSILON, MOMENTUM)]


class InvertedResidual(nn.Module):
    """Widened by ``expansion``, convolved channel by channel, and narrowed to ``outputs`` without an activation; where nothing
    changes its shape, added to its input."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        wider = [*convolution(inputs, inner), nn.ReLU6(inplace=True)] if expansion > 1 else []
        depthwise = [*convolution(inner, inner, kernel, stride, groups=inner), nn.ReLU6(inplace=True)]
        self.layers = nn.Sequential(*wider, *depthwise, *convolution(inner, outputs))
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(x)
        return x + y if self.residual else y


def efficientnet_lite0(classes: int) -> Classifier:
    """4,652,008 parameters for 1,000 classes, 384 million multiply-adds at 224x224 pixels. Stages: the stem, seven of blocks,
    and the convolution to the features."""
    layers: list[nn.Module] = [nn.Sequential(*convolution(3, STEM, 3, 2), nn.ReLU6(inplace=True))]
    channels, ends = STEM, [1]
    for stage in STAGES:
        for i in range(stage.blocks):
            stride = stage.stride if i == 0 else 1
            layers.append(InvertedResidual(channels, stage.channels, stage.kernel, stride, stage.expansion))
            channels = stage.channels
        ends.append(len(layers))
    layers.append(nn.Sequential(*convolution(channels, FEATURES), nn.ReLU6(inplace=True)))
    neck = nn.Sequential(GlobalAverage(), nn.Dropout(DROPOUT))
    return initialise(Classifier(nn.Sequential(*layers), neck, nn.Linear(FEATURES, classes), (*ends, len(layers))))


def published_names() -> dict[str, str]:
    """Names of our layers' weights and statistics by those that the published file has for them."""
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    found = {"_fc.weight": "head.weight", "_fc.bias": "head.bias"}
    for theirs, ours in _published_layers():
        values = norm if "_bn" in theirs else ("weight",)
        found |= {f"{theirs}.{value}": f"trunk.{ours}.{value}" for value in values}
    return found


def _published_layers() -> Iterator[tuple[str, str]]:
    """Of each layer of the trunk the name in the file and in the trunk."""
    last = 1 + sum(stage.blocks for stage in STAGES)
    yield from (("_conv_stem", "0.0"), ("_bn0", "0.1"), ("_conv_head", f"{last}.0"), ("_bn1", f"{last}.1"))
    expansions = [stage.expansion for stage in STAGES for _ in range(stage.blocks)]
    for i, expansion in enumerate(expansions):
        narrow = [("_depthwise_conv", 0), ("_bn1", 1), ("_project_conv", 3), ("_bn2", 4)]
        wide = [("_expand_conv", 0), ("_bn0", 1), *((name, place + 3) for name, place in narrow)]
        for name, place in wide if expansion > 1 else narrow:
            yield f"_blocks.{i}.{name}", f"{i + 1}.layers.{place}"
