"""Multilayer perceptrons for the digits of MNIST, grey images of 28x28 pixels."""

from itertools import pairwise

from torch import nn

from training.networks.classifier import Classifier
from training.networks.grayscale import Grey
from training.networks.initialisation import initialise

SIDE = 28


def mlp(widths: tuple[int, ...], classes: int) -> Classifier:
    """Hidden layers of ``widths`` units with ReLU. Without a convolution the feature map is the grey image itself,
    (n, 1, 28, 28), and there are no stages; the features are the last hidden layer."""
    sizes = (SIDE * SIDE, *widths)
    hidden = [layer for a, b in pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU(inplace=True))]
    return initialise(Classifier(nn.Sequential(Grey()), nn.Sequential(nn.Flatten(), *hidden), nn.Linear(widths[-1], classes)))
