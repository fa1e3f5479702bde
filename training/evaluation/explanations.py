"""How far the maps of a network can be believed that say which places speak for its answer, on some of the images evaluated."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.data.dataset import ImageSet
from training.evaluation import faithfulness
from training.evaluation.class_activation import class_activation_maps
from training.evaluation.faithfulness import Answer
from training.loop.checkpoint import Checkpoint
from training.networks.classifier import Classifier

# Evenly out of all, as many images as have so many pixels together, within bounds: each is computed a dozen times, and to fill
# large ones takes seconds.
PIXELS, LEAST_IMAGES, MOST_IMAGES = 1_500_000, 25, 200


def measure(
    model: Classifier, checkpoint: Checkpoint, images: ImageSet, logits: NDArray[np.float32], answer: Answer
) -> dict[str, Any]:
    """``explanations``: figures of the maps as they are served, for the answer to each image; nothing of a network without
    convolutions, or whose feature map has one place.

    logits: (n, classes) of the images. answer: pixels (n, height, width, 3) uint8 -> probabilities (n, classes).
    """
    if not model.stages():
        return {}
    most = min(MOST_IMAGES, max(LEAST_IMAGES, PIXELS // (images.pixels.shape[1] * images.pixels.shape[2])))
    chosen = np.arange(0, len(images), -(-len(images) // most) or 1)
    pixels = np.stack([images.pixels[i] for i in chosen])
    order = np.argsort(-logits[chosen], axis=1, kind="stable")
    first, second = (
        class_activation_maps(checkpoint.answering(model), checkpoint, pixels, np.ascontiguousarray(order[:, i])) for i in (0, 1)
    )
    if first[0].size == 1:
        return {}
    found = {
        "images": len(chosen),
        "removed": list(faithfulness.REMOVED),
        "places": list(first.shape[1:]),
        "other_class_likeness": faithfulness.likeness(first, second),
        **faithfulness.road(answer, pixels, first, order[:, 0]).told(),
    }
    return {"explanations": found}
