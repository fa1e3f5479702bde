"""Random weights to begin with, normal and with zero biases."""

from typing import Literal

from torch import nn

from training.networks.classifier import Classifier


def initialise(model: Classifier, activation: Literal["relu", "tanh"] = "relu") -> Classifier:
    """Set the kernels and matrices of trunk and neck so that signals neither fade nor grow: the variance is gain / inputs
    with a gain of 2 for ReLU (He et al. 2015, arXiv 1502.01852, equation 10) and 25/9 for tanh (torch's
    calculate_gain). No activation follows the head, which stays as torch made it."""
    for layer in [*model.trunk.modules(), *model.neck.modules()]:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity=activation)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return model
