"""Feature vectors of images as a network of ours computes them."""

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from training.data.pixels import Pixels
from training.loop.checkpoint import Checkpoint
from training.loop.device import Device, full_precision
from training.loop.epoch import preparation
from training.networks.classifier import Classifier

BATCH = 32  # larger ones of photographs are slower on a CPU, for their memory


@torch.inference_mode()
def features_of(
    model: Classifier, checkpoint: Checkpoint, pixels: Pixels, device: Device, say: bool = True
) -> NDArray[np.float32]:
    """Features (n, dimensions) of images (n, height, width, 3) as they are, in full precision. ``model`` is on the device."""
    model = checkpoint.answering(model).eval()
    prepared = preparation(checkpoint, device)
    parts: list[NDArray[np.float32]] = []
    with full_precision():
        for begin in tqdm(range(0, len(pixels), BATCH), "features", unit=" batches", leave=False, disable=not say):
            images = prepared(torch.from_numpy(pixels[begin : begin + BATCH]))
            parts.append(model.outputs(images)[1].float().cpu().numpy())
    return np.concatenate(parts)
