"""torchvision's networks for photographs, cut into trunk, neck and head, and its VGG layers for small images.

All have random weights and torchvision's names of weights, but for the parts they are in. It is imported where it is needed,
because that takes seconds: it imports what compiles networks.
"""

from collections.abc import Callable
from typing import Any

from torch import nn

from training.networks.classifier import Classifier
from training.networks.global_average import GlobalAverage
from training.networks.initialisation import initialise

RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
VGG_LAYERS = {"vgg11": "A", "vgg13": "B", "vgg16": "D", "vgg19": "E"}  # as torchvision and the paper call them
VGGS = tuple(f"{name}{suffix}" for name in VGG_LAYERS for suffix in ("", "_bn"))
SMALL_VGGS = tuple(f"{name}-small" for name in VGGS)


def plain(name: str, classes: int) -> Any:
    """torchvision's own network, GoogLeNet with its auxiliary heads."""
    from torchvision import models as networks

    more = {"aux_logits": True, "init_weights": True} if name == "googlenet" else {}
    return getattr(networks, name)(weights=None, num_classes=classes, **more)


def cut_resnet(net: Any) -> Classifier:
    """He et al. 2015, arXiv 1512.03385. Stages: the stem and four of blocks."""
    trunk = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool, net.layer1, net.layer2, net.layer3, net.layer4)
    return Classifier(trunk, GlobalAverage(), net.fc, ends=(4, 5, 6, 7, 8))


def cut_vgg(net: Any) -> Classifier:
    """Simonyan and Zisserman 2014, arXiv 1409.1556. A stage ends with its pooling."""
    return _with_dense_layers(net, ends_at_pooling(net.features))


def cut_alexnet(net: Any) -> Classifier:
    """Krizhevsky et al. 2012, in the form of Krizhevsky 2014, arXiv 1404.5997. A stage is a convolution with its ReLU and,
    after the first, second and fifth, its pooling."""
    return _with_dense_layers(net, (3, 6, 8, 10, 13))


def cut_googlenet(net: Any) -> Classifier:
    """Szegedy et al. 2014, arXiv 1409.4842, with batch norm and 3x3 kernels where the paper has 5x5. Stages: two of
    convolutions and three of inception blocks, all but the last with their pooling; auxiliary heads behind 4a and 4d."""
    trunk = nn.Sequential(
        *(net.conv1, net.maxpool1),
        *(net.conv2, net.conv3, net.maxpool2),
        *(net.inception3a, net.inception3b, net.maxpool3),
        *(net.inception4a, net.inception4b, net.inception4c, net.inception4d, net.inception4e, net.maxpool4),
        *(net.inception5a, net.inception5b),
    )
    neck = nn.Sequential(GlobalAverage(), net.dropout)
    return Classifier(trunk, neck, net.fc, ends=(2, 5, 8, 14, 16), auxiliary={8: net.aux1, 11: net.aux2})


CUTS: dict[str, Callable[[Any], Classifier]] = {
    **dict.fromkeys(RESNETS, cut_resnet),
    **dict.fromkeys(VGGS, cut_vgg),
    "alexnet": cut_alexnet,
    "googlenet": cut_googlenet,
}


def photograph_network(name: str, classes: int) -> Classifier:
    """A network of CUTS."""
    return CUTS[name](plain(name, classes))


def vgg_small(name: str, classes: int) -> Classifier:
    """The same convolutions for images of 32 pixels, of which they leave 1x1, and one linear layer of 512 features: the
    form that is usual for CIFAR-10 (Liu's pytorch-cifar on GitHub, models/vgg.py)."""
    from torchvision.models import vgg as vggs

    name = name.removesuffix("-small")
    trunk = vggs.make_layers(vggs.cfgs[VGG_LAYERS[name.removesuffix("_bn")]], batch_norm=name.endswith("_bn"))
    return initialise(Classifier(trunk, GlobalAverage(), nn.Linear(512, classes), ends_at_pooling(trunk)))


def ends_at_pooling(trunk: nn.Sequential) -> tuple[int, ...]:
    """Ends of the stages of a trunk whose stages each end with a max pooling."""
    return tuple(i + 1 for i, layer in enumerate(trunk) if isinstance(layer, nn.MaxPool2d))


def _with_dense_layers(net: Any, ends: tuple[int, ...]) -> Classifier:
    """Of a network with features, avgpool and classifier; the last layer of the classifier is the head."""
    neck = nn.Sequential(net.avgpool, nn.Flatten(), *net.classifier[:-1])
    return Classifier(net.features, neck, net.classifier[-1], ends)
