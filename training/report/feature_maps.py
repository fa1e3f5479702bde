"""What the first channels of the first stages answer to an image, as grey pictures."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.loop.checkpoint import Checkpoint
from training.networks.classifier import Classifier
from training.report import network, pictures

STAGES = 3
CHANNELS = 16
SIDE = 64  # pixels at most, of a map in the picture
COLUMNS = 8


def show(model: Classifier, checkpoint: Checkpoint, pixels: NDArray[np.uint8]) -> list[dict[str, Any]]:
    """For an image (height, width, 3) uint8, of each of the first STAGES: ``channels`` in all, ``size`` of a map, and the
    picture of the first CHANNELS maps, each from black, its lowest value, to white, its highest. Empty without stages."""
    found: list[dict[str, Any]] = []
    for output in network.outputs(model, checkpoint, pixels[None])[:STAGES]:
        maps = output[0, :CHANNELS].float().cpu().numpy()
        picture = pictures.uri(pictures.grid(pictures.greys(maps, SIDE), COLUMNS))
        found.append({"channels": output.shape[1], "size": list(output.shape[2:]), "shown": len(maps), "picture": picture})
    return found
