"""LeCun's networks for handwritten digits, grey images of 28x28 pixels, with tanh for their squashing function."""

import torch
from torch import Tensor, nn

from training.networks.classifier import Classifier
from training.networks.grayscale import Grey
from training.networks.initialisation import initialise


class Subsampling(nn.Module):
    """Means of 2x2 cells, each channel times a weight of its own plus a bias of its own."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(x, 2) * self.weight[:, None, None] + self.bias[:, None, None]


class PartialConvolution(nn.Module):
    """5x5 convolution from 4 to 12 channels: of each pair of inputs one output sees the first alone, one the second alone
    and four see both."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(4, 4, 5, groups=4)
        self.both = nn.Conv2d(4, 8, 5, groups=2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.one(x), self.both(x)], 1)


def lenet1(classes: int) -> Classifier:
    """LeCun et al. 1989, "Handwritten digit recognition with a back-propagation network" (NIPS 2), later called LeNet-1:
    convolutions with 4 and 12 maps, the second connected in part, and a linear layer; 2,578 parameters."""
    trunk = nn.Sequential(
        Grey(),
        *(nn.Conv2d(1, 4, 5), nn.Tanh(), Subsampling(4), nn.Tanh()),
        *(PartialConvolution(), nn.Tanh(), Subsampling(12), nn.Tanh()),
    )
    return initialise(Classifier(trunk, nn.Flatten(), nn.Linear(12 * 4 * 4, classes), ends=(5, 9)), "tanh")


def lenet5(classes: int) -> Classifier:
    """LeCun et al. 1998, "Gradient-based learning applied to document recognition", figure 2, as it is built since:
    images padded to 32x32, subsampling without weights, every map connected, a linear layer instead of radial units."""
    trunk = nn.Sequential(
        Grey(),
        *(nn.Conv2d(1, 6, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2)),
    )
    neck = nn.Sequential(nn.Flatten(), nn.Linear(400, 120), nn.Tanh(), nn.Linear(120, 84), nn.Tanh())
    return initialise(Classifier(trunk, neck, nn.Linear(84, classes), ends=(4, 7)), "tanh")
