"""The residual networks of He et al. 2015 for CIFAR-10, and the plain ones they are compared with.

arXiv 1512.03385, section 4.2: 3x3 convolutions, a stem and three stages of ``blocks`` blocks of two; shortcuts without
parameters (option A).
"""

from torch import Tensor, nn
from torch.nn import functional

from training.networks.classifier import Classifier
from training.networks.global_average import GlobalAverage
from training.networks.initialisation import initialise

WIDTHS = (16, 32, 64)


def convolution(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs)]


class Block(nn.Module):
    """Two convolutions; ``residual``: added to their input, of which, where they halve the sides, every second pixel
    remains and channels of zeros are appended."""

    def __init__(self, inputs: int, outputs: int, stride: int, residual: bool) -> None:
        super().__init__()
        first, second = convolution(inputs, outputs, stride), convolution(outputs, outputs)
        self.layers = nn.Sequential(*first, nn.ReLU(inplace=True), *second)
        self.stride, self.more, self.residual = stride, outputs - inputs, residual

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(x)
        return functional.relu(y + self.shortcut(x) if self.residual else y)

    def shortcut(self, x: Tensor) -> Tensor:
        if self.more == 0:
            return x
        return functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.more))


def stage(inputs: int, outputs: int, blocks: int, residual: bool) -> nn.Sequential:
    first = Block(inputs, outputs, 1 if inputs == outputs else 2, residual)
    return nn.Sequential(first, *(Block(outputs, outputs, 1, residual) for _ in range(blocks - 1)))


def cifar_network(depth: int, residual: bool, classes: int) -> Classifier:
    """``depth`` layers with parameters, 6 x blocks + 2."""
    blocks = (depth - 2) // 6
    pairs = zip((WIDTHS[0], *WIDTHS), WIDTHS, strict=False)
    trunk = nn.Sequential(*convolution(3, WIDTHS[0]), nn.ReLU(inplace=True), *(stage(a, b, blocks, residual) for a, b in pairs))
    return initialise(Classifier(trunk, GlobalAverage(), nn.Linear(WIDTHS[-1], classes), ends=(3, 4, 5, 6)))
