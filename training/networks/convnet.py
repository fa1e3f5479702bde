"""Three 3x3 convolutions without padding and one linear layer: the first convolutional network one writes."""

from torch import nn

from training.networks.classifier import Classifier
from training.networks.grayscale import Grey
from training.networks.initialisation import initialise

WIDTHS = (32, 64, 128)


def convnet_mnist(classes: int, pooled: bool = True) -> Classifier:
    """For grey images of 28x28 pixels; ``pooled``: max pooling by 2 after the first two convolutions, 1,152 features
    instead of 61,952."""
    return _convnet([Grey()], 1, 28, classes, pooled)


def convnet_cifar(classes: int) -> Classifier:
    """The pooled one for RGB images of 32x32 pixels."""
    return _convnet([], 3, 32, classes, pooled=True)


def _convnet(before: list[nn.Module], channels: int, side: int, classes: int, pooled: bool) -> Classifier:
    layers, ends = before, list[int]()
    for i, width in enumerate(WIDTHS):
        layers += [nn.Conv2d(channels, width, 3), nn.ReLU(inplace=True)]
        channels, side = width, side - 2
        if pooled and i < 2:
            layers.append(nn.MaxPool2d(2))
            side //= 2
        ends.append(len(layers))
    head = nn.Linear(channels * side * side, classes)
    return initialise(Classifier(nn.Sequential(*layers), nn.Flatten(), head, tuple(ends)))
