"""The network as the report looks at it: the stages of its trunk, and images as its input. Without mirror images, which
would mix two views of each.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.loop.checkpoint import Checkpoint
from training.loop.normalisation import normalise
from training.networks.classifier import Classifier


def inputs(model: Classifier, checkpoint: Checkpoint, pixels: NDArray[np.uint8]) -> Tensor:
    """pixels: (n, height, width, 3) uint8 -> what the trunk takes, (n, 3, height, width) float32, where the network is."""
    return normalise(torch.from_numpy(pixels).to(model.head.weight.device), checkpoint)


@torch.inference_mode()
def outputs(model: Classifier, checkpoint: Checkpoint, pixels: NDArray[np.uint8]) -> list[Tensor]:
    """What each stage puts out for images: (n, channels, h, w) float32 each."""
    x, found = inputs(model, checkpoint, pixels), list[Tensor]()
    for stage in model.stages():
        x = stage(x)
        found.append(x.clone())  # the next one may write into it
    return found
