"""Networks of a few weights, which train in no time, for recipes of tests (fixture networks)."""

from collections.abc import Callable, Mapping

from torch import nn

from training.networks.classifier import Classifier


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


def staged(classes: int, auxiliary: Mapping[int, nn.Module] | None = None) -> Classifier:
    """Two stages with norms, and a neck that has weights and drops some of its outputs."""
    layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU()]
    neck = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5), nn.ReLU(), nn.Dropout(0.5))
    return Classifier(nn.Sequential(*layers), neck, nn.Linear(5, classes), ends=(3, 6), auxiliary=auxiliary)


def helped(classes: int) -> Classifier:
    """The same with an auxiliary head behind the second layer."""
    return staged(classes, {1: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes))})


NETWORKS: dict[str, Callable[[int], Classifier]] = {
    "plain": plain,
    "normed": normed,
    "dropping": dropping,
    "staged": staged,
    "helped": helped,
}
