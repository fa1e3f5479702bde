"""Pixels as a network takes them."""

import torch
from torch import Tensor

from training.loop.checkpoint import Checkpoint


def normalise(images: Tensor, checkpoint: Checkpoint) -> Tensor:
    """(n, height, width, 3) uint8 -> (n, 3, height, width) float32 with the training images' mean 0 and deviation 1."""
    return scaled(images, *constants(checkpoint, images.device))


def constants(checkpoint: Checkpoint, device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and deviation of the channels. To bring them to a GPU is to wait for it, so loops do that once."""
    return torch.tensor(checkpoint.mean, device=device), torch.tensor(checkpoint.std, device=device)


def scaled(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """As ``normalise``."""
    return ((images.float() - mean) / std).permute(0, 3, 1, 2)  # a permuted view is channels_last already
