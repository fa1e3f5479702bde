"""Pixels as a network takes them. Neighbours: data.py measures mean and deviation, checkpoint.py keeps them."""

import torch
from torch import Tensor

from training.checkpoint import Checkpoint


def normalise(images: Tensor, checkpoint: Checkpoint) -> Tensor:
    """(n, height, width, 3) uint8 -> (n, 3, height, width) float32 with the training images' mean 0 and deviation 1."""
    mean, std = (torch.tensor(v, device=images.device) for v in (checkpoint.mean, checkpoint.std))
    return ((images.float() - mean) / std).permute(0, 3, 1, 2)  # a permuted view is channels_last already
