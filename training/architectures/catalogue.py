"""Every network that a recipe can name."""

from collections.abc import Callable
from functools import partial

from training.architectures import torchvision
from training.architectures.classifier import Classifier
from training.architectures.small import resnet10_small

ARCHITECTURES: dict[str, Callable[[int], Classifier]] = {
    "resnet10-small": resnet10_small,
    **{name: partial(torchvision.resnet, name) for name in torchvision.RESNETS},
    **{name: partial(torchvision.vgg, name) for name in torchvision.VGGS},
}


def build(architecture: str, classes: int) -> Classifier:
    """A freshly initialised network; raises KeyError for a name that is not in ARCHITECTURES."""
    return ARCHITECTURES[architecture](classes)
