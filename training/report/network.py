"""The network as the report looks at it: the stages of its trunk, and images as its input. Without mirror images, which
would mix two views of each.

Neighbours: filters.py, feature_maps.py, patches.py and class_activation.py look by this.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.architectures.classifier import Classifier
from training.checkpoint import Checkpoint
from training.train import normalise


def stages(model: Classifier) -> list[nn.Sequential]:
    """The trunk's layers in groups, one after the other: each module with parts of its own, and each row of plain layers
    up to a max pooling. Empty where there is no convolution."""
    if not isinstance(model.trunk, nn.Sequential) or not any(isinstance(m, nn.Conv2d) for m in model.trunk.modules()):
        return []
    groups: list[list[nn.Module]] = [[]]
    for layer in model.trunk:
        has_parts = next(layer.children(), None) is not None
        if groups[-1] and (has_parts or _is_closed(groups[-1][-1])):
            groups.append([])
        groups[-1].append(layer)
    return [nn.Sequential(*group) for group in groups]


def _is_closed(last: nn.Module) -> bool:
    return isinstance(last, nn.MaxPool2d) or next(last.children(), None) is not None


def inputs(model: Classifier, checkpoint: Checkpoint, pixels: NDArray[np.uint8]) -> Tensor:
    """pixels: (n, height, width, 3) uint8 -> what the trunk takes, (n, 3, height, width) float32, where the network is."""
    return normalise(torch.from_numpy(pixels).to(model.head.weight.device), checkpoint)


@torch.inference_mode()
def outputs(model: Classifier, checkpoint: Checkpoint, pixels: NDArray[np.uint8]) -> list[Tensor]:
    """What each stage puts out for images: (n, channels, h, w) float32 each."""
    x, found = inputs(model, checkpoint, pixels), list[Tensor]()
    for stage in stages(model):
        x = stage(x)
        found.append(x.clone())  # the next one may write into it
    return found
