"""Residual networks for small images (32 pixels or so): few layers, early pooling, quick on a CPU."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from training.networks.classifier import Classifier
from training.networks.global_average import GlobalAverage


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


def widened(inputs: int, outputs: int) -> list[nn.Module]:
    """More channels, and sides halved by max pooling."""
    return [convolution(inputs, outputs), nn.MaxPool2d(2), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


def stage(inputs: int, outputs: int) -> nn.Sequential:
    """Widen, halve the sides by max pooling, refine by a residual block."""
    return nn.Sequential(*widened(inputs, outputs), Residual(outputs))


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


def patch_filters() -> Tensor:
    """24 filters of 2x2 pixels, (24, 3, 2, 2) float: what differs in a patch, each once with either sign.

    They are mean, left less right, top less bottom and the two diagonals, of lightness, red less blue and green less both,
    divided by their deviations over patches of CIFAR-10 (as JPEG copies, 2,000 training images, normalised; at least 0.025):
    so the layer after sees inputs that are nearly uncorrelated and alike in size. That speeds up the learning much (Jordan 2024,
    arXiv 2404.00498, section 3.2, which takes the eigenvectors of the patches; of natural images these are about them).
    """
    shapes = torch.tensor([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]) / 2
    colours = torch.tensor([[1.0, 1, 1], [1, 0, -1], [-1, 2, -1]])
    colours = colours / colours.norm(dim=1, keepdim=True)
    deviations = torch.tensor([[3.2, 0.87, 0.41], [0.6, 0.07, 0.045], [0.6, 0.07, 0.045], [0.23, 0.025, 0.025]])
    filters = torch.einsum("sp,ck,sc->sckp", shapes, colours, 1 / deviations).reshape(12, 3, 2, 2)
    return torch.cat([filters, -filters])


def plain_stage(inputs: int, outputs: int) -> nn.Sequential:
    """Widen, halve the sides by max pooling, one more convolution; each convolution with batch norm and ReLU."""
    more = (convolution(outputs, outputs), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))
    return nn.Sequential(*widened(inputs, outputs), *more)


def vgg8_small(classes: int) -> Classifier:
    """7 convolutions and a linear layer; 2.0 million parameters, 119 million multiply-adds at 32x32 pixels.

    Jordan 2024 (arXiv 2404.00498) with ReLU, an average at the end, and a first layer of fixed numbers that learns on.
    """
    widths = (24, 64, 256, 256)
    first = nn.Conv2d(3, widths[0], 2)
    trunk = nn.Sequential(first, nn.ReLU(inplace=True), *(plain_stage(a, b) for a, b in pairwise(widths)))
    for layer in trunk.modules():  # a convolution with as many outputs as inputs, or more, begins by passing them on
        if isinstance(layer, nn.Conv2d) and layer is not first:
            nn.init.dirac_(layer.weight[: layer.in_channels])
    with torch.no_grad():
        first.weight.copy_(patch_filters())
        assert first.bias is not None
        first.bias.zero_()
    return Classifier(trunk, GlobalAverage(), nn.Linear(widths[-1], classes), ends=(2, 3, 4, 5))
