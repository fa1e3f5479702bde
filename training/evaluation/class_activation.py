"""Where in an image the evidence for a class lies: Grad-CAM (Selvaraju et al. 2016, arXiv 1610.02391, equations 1 and 2).

Where the head follows global average pooling, a channel's weight is that of the head, and this is the class activation map
of Zhou et al. 2015 (arXiv 1512.04150) but for a factor; elsewhere the gradient takes its place.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from training.loop.checkpoint import Checkpoint
from training.loop.normalisation import normalise
from training.networks.classifier import Classifier


def class_activation_maps(
    model: Classifier, checkpoint: Checkpoint, pixels: NDArray[np.uint8], classes: NDArray[np.int64]
) -> NDArray[np.float32]:
    """For images (n, height, width, 3) uint8 and a class of each, (n, h, w) float32: 0 is no evidence. Maps of one image for
    several classes can be compared."""
    with torch.no_grad():
        feature_map = model.trunk(normalise(torch.from_numpy(pixels).to(model.head.weight.device), checkpoint))
    feature_map = feature_map.detach().requires_grad_()
    logits = model.head(model.neck(feature_map.clone()))  # a layer may write into what it is given
    wanted = logits[torch.arange(len(logits)), torch.from_numpy(classes).to(logits.device)].sum()
    (gradient,) = torch.autograd.grad(wanted, feature_map)
    return (gradient.mean((2, 3), keepdim=True) * feature_map).sum(1).relu().detach().float().cpu().numpy()
