"""Residual networks for small images (32 pixels or so): few layers, early pooling, quick on a CPU."""

from itertools import pairwise

from torch import Tensor, nn

from training.architectures.average import GlobalAverage
from training.architectures.classifier import Classifier


def convolution(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)


class Residual(nn.Module):
    """x + two 3x3 convolutions of x, each with batch norm and ReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            convolution(channels, channels),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            convolution(channels, channels),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


def stage(inputs: int, outputs: int) -> nn.Sequential:
    """Widen, halve the sides by max pooling, refine by a residual block."""
    return nn.Sequential(
        convolution(inputs, outputs),
        nn.MaxPool2d(2),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
        Residual(outputs),
    )


def resnet10_small(classes: int) -> Classifier:
    """10 convolutions and a linear layer; 2.3 million parameters, 150 million multiply-adds at 32x32 pixels."""
    widths = (32, 64, 192, 240)
    trunk = nn.Sequential(
        convolution(3, widths[0]),
        nn.BatchNorm2d(widths[0]),
        nn.ReLU(inplace=True),
        *(stage(a, b) for a, b in pairwise(widths)),
    )
    return Classifier(trunk, GlobalAverage(), nn.Linear(widths[-1], classes), ends=(3, 4, 5, 6))
