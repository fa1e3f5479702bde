"""Networks of a few weights, which train in no time, for recipes of tests (fixture networks)."""

from collections.abc import Callable

from torch import nn

from training.architectures.classifier import Classifier


def network(classes: int, *between: nn.Module) -> Classifier:
    """A convolution of 4 channels, ``between``, and a linear head."""
    trunk = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), *between, nn.ReLU())
    return Classifier(trunk, nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten()), nn.Linear(16, classes))


def plain(classes: int) -> Classifier:
    return network(classes)


def normed(classes: int) -> Classifier:
    return network(classes, nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3, stride=2), nn.BatchNorm2d(4))


def dropping(classes: int) -> Classifier:
    return network(classes, nn.Dropout(0.5))


NETWORKS: dict[str, Callable[[int], Classifier]] = {"plain": plain, "normed": normed, "dropping": dropping}
