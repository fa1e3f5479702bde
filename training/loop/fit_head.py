"""In place of epochs of steps: the head fitted at once to features that are computed once; all else stays as it is."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from training.data.dataset import ImageSet
from training.loop.checkpoint import Checkpoint
from training.loop.device import Device
from training.loop.epoch import Learnt
from training.loop.features import features_of
from training.loop.linear_head import fit_head
from training.loop.state import State
from training.networks.classifier import Classifier

Layer = tuple[NDArray[np.float32], NDArray[np.float32]]  # weight (classes, dimensions) and bias (classes,)


def fit(state: State, checkpoint: Checkpoint, images: ImageSet, device: Device, say: bool) -> Learnt:
    """Fit the head to the images as they are, without augmentation.

    Raises:
        DataError: see fit_head.
    """
    found = features_of(state.model, checkpoint, images.pixels, device, say)
    layer = fit_head(found, images.targets, len(images.classes), checkpoint.recipe.linear_c)
    set_head(state.model, layer)
    set_head(state.answering(), layer)
    logits, targets = torch.from_numpy(logits_of(found, layer)), torch.from_numpy(images.targets)
    accuracy = float((logits.argmax(1) == targets).float().mean())
    return Learnt(functional.cross_entropy(logits, targets).item(), accuracy, rate=0.0, images=len(images))


def logits_of(features: NDArray[np.float32], layer: Layer) -> NDArray[np.float32]:
    """(n, classes) of features (n, dimensions)."""
    weight, bias = layer
    return features @ weight.T + bias


@torch.no_grad()
def set_head(model: Classifier, layer: Layer) -> None:
    model.head.weight.copy_(torch.from_numpy(layer[0]))
    model.head.bias.copy_(torch.from_numpy(layer[1]))
