"""Classes of unequal numbers of images: drawn equally often, or weighed in the loss."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from training.recipe import Balance


def draw(targets: NDArray[np.int64], balance: Balance, generator: torch.Generator) -> NDArray[np.int64]:
    """Indices (n,) of the images of an epoch in their order: each once, or with "sampler" each class as often as the others,
    on average, and each of its images as often as the others of the class."""
    n = len(targets)
    if balance != "sampler":
        return torch.randperm(n, generator=generator).numpy()
    members = np.argsort(targets, kind="stable")
    _, first, count = np.unique(targets[members], return_index=True, return_counts=True)
    drawn = torch.randint(len(count), (n,), generator=generator).numpy()
    place = torch.rand(n, dtype=torch.float64, generator=generator).numpy() * count[drawn]
    return members[first[drawn] + place.astype(np.int64)]


def class_weights(targets: NDArray[np.int64], classes: int, balance: Balance) -> Tensor | None:
    """With "weights", a weight (classes,) float32 inversely proportional to the number of images of a class, 1 on average over
    the images; else None."""
    if balance != "weights":
        return None
    counts = np.bincount(targets, minlength=classes).clip(1)  # a class without images has a weight that nothing asks for
    return torch.from_numpy(len(targets) / (len(np.unique(targets)) * counts)).float()


def losses(logits: Tensor, shares: Tensor, weights: Tensor | None, label_smoothing: float) -> Tensor:
    """Cross-entropy (n,) of each image. logits, shares: (n, classes) float32.

    An image whose shares sum to less than 1, being unlabelled in part, counts as much less.

    An image weighs what its classes do. (The weights that torch takes would also weigh what smoothing spreads over the
    classes: a rare class could then get the larger part of an image that shows a frequent one.)
    """
    known = shares.sum(1)
    labels = shares / known.clamp(min=1e-6)[:, None]
    plain = known * functional.cross_entropy(logits, labels, label_smoothing=label_smoothing, reduction="none")
    return plain if weights is None else plain * (labels @ weights)
