"""torchvision's networks for photographs, cut into trunk, neck and head."""

from typing import Any

from torch import nn
from torchvision import models as networks

from training.architectures.average import GlobalAverage
from training.architectures.classifier import Classifier

RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
VGGS = tuple(f"vgg{depth}{suffix}" for depth in (11, 13, 16, 19) for suffix in ("", "_bn"))


def resnet(name: str, classes: int) -> Classifier:
    """He et al. 2015, arXiv 1512.03385, as torchvision builds it; random weights. Stages: stem and four of blocks."""
    net: Any = getattr(networks, name)(weights=None, num_classes=classes)
    trunk = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool, net.layer1, net.layer2, net.layer3, net.layer4)
    return Classifier(trunk, GlobalAverage(), net.fc, ends=(4, 5, 6, 7, 8))


def vgg(name: str, classes: int) -> Classifier:
    """Simonyan and Zisserman 2014, arXiv 1409.1556, as torchvision builds it; random weights. A stage ends with its pooling."""
    net: Any = getattr(networks, name)(weights=None, num_classes=classes)
    neck = nn.Sequential(net.avgpool, nn.Flatten(), *net.classifier[:-1])
    return Classifier(net.features, neck, net.classifier[-1], ends_at_pooling(net.features))


def ends_at_pooling(trunk: nn.Sequential) -> tuple[int, ...]:
    """Ends of the stages of a trunk whose stages each end with a max pooling."""
    return tuple(i + 1 for i, layer in enumerate(trunk) if isinstance(layer, nn.MaxPool2d))
