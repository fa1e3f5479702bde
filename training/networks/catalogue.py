"""Every network that a recipe can name, and the sizes of images that it can take."""

from collections.abc import Callable
from functools import partial

from training.networks import efficientnet_lite, torchvision
from training.networks.cifar import cifar_network
from training.networks.classifier import Classifier
from training.networks.convnet import convnet_cifar, convnet_mnist
from training.networks.hog import hog
from training.networks.lenet import lenet1, lenet5
from training.networks.mlp import mlp
from training.networks.small import resnet10_small, vgg8_small

MNIST: dict[str, Callable[[int], Classifier]] = {
    "mlp-512": partial(mlp, (512,)),
    "mlp-800-400": partial(mlp, (800, 400)),
    "convnet-32-64-128": convnet_mnist,
    "convnet-32-64-128-unpooled": partial(convnet_mnist, pooled=False),
    "lenet1": lenet1,
    "lenet5": lenet5,
    "hog-28": partial(hog, 28),
}
CIFAR: dict[str, Callable[[int], Classifier]] = {
    "convnet-cifar": convnet_cifar,
    "hog-32": partial(hog, 32),
    **{f"resnet{depth}": partial(cifar_network, depth, True) for depth in (20, 32, 44, 56, 110)},
    **{f"plain{depth}": partial(cifar_network, depth, False) for depth in (20, 56)},
}
ARCHITECTURES: dict[str, Callable[[int], Classifier]] = {
    "resnet10-small": resnet10_small,
    "vgg8-small": vgg8_small,
    **MNIST,
    **CIFAR,
    **{name: partial(torchvision.vgg_small, name) for name in torchvision.SMALL_VGGS},
    **{name: partial(torchvision.photograph_network, name) for name in torchvision.CUTS},
    efficientnet_lite.NAME: efficientnet_lite.efficientnet_lite0,
}

ONE_SIDE = dict.fromkeys(MNIST, 28) | {"convnet-cifar": 32, "hog-32": 32}  # pixels; their first linear layer fits no other
LEAST_SIDE = {  # less, and nothing is left
    **dict.fromkeys((*torchvision.VGGS, *torchvision.SMALL_VGGS), 32),
    "alexnet": 63,
    "resnet10-small": 8,
    "vgg8-small": 9,
}


def build(architecture: str, classes: int) -> Classifier:
    """A freshly initialised network; raises KeyError for a name that is not in ARCHITECTURES."""
    return ARCHITECTURES[architecture](classes)


def check_size(architecture: str, height: int, width: int) -> None:
    """Raises ValueError when the network cannot take images of ``height`` x ``width`` pixels."""
    one, least = ONE_SIDE.get(architecture), LEAST_SIDE.get(architecture, 1)
    if one and (height, width) != (one, one):
        raise ValueError(f"the images are {height}x{width} pixels, {architecture} takes images of {one}x{one} alone")
    if min(height, width) < least:
        raise ValueError(f"the images are {height}x{width} pixels, {architecture} needs {least} on the shorter side at least")
