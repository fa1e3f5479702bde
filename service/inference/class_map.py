"""Class activation maps: how much each place of an image's feature map speaks for a class, in the process that computes.

Where a mean over all places and one linear layer follow the feature map, this is the class activation map of Zhou et al. 2015
(arXiv 1512.04150), whose mean is the logit but for the bias; elsewhere Grad-CAM (Selvaraju et al. 2016, arXiv 1610.02391,
equations 1 and 2), of which that is a special case.
"""

import numpy as np
from numpy.typing import NDArray

from models.package.head import Head
from models.package.manifest import Manifest

CLASS_MAP = "class_map"  # asked of an engine as outputs of the graph are
FEATURE_MAP = "feature_map"  # of which it is made, and which is too large to be handed over
NEEDED = ("logits", FEATURE_MAP)
LIKELIEST = -1  # in the place of a class
Row = NDArray[np.float32]


def shape_of(manifest: Manifest) -> tuple[int, ...]:
    """Height and width of a map; () where the feature map has neither."""
    shape = manifest.outputs[FEATURE_MAP]
    return tuple(shape[1:]) if len(shape) == 3 else ()


def class_map(head: Head, row: dict[str, Row], target: int = LIKELIEST) -> Row:
    """For one image, ``row`` with its logits (classes,) and feature map (channels, height, width), and a class: (height, width)
    float32 from 0, no evidence for it, to 1, the most; 0 everywhere where no place speaks for it.

    Raises:
        ValueError: the network gives values that are no numbers.
    """
    feature_map = row[FEATURE_MAP]
    index = int(row["logits"].argmax()) if target == LIKELIEST else target
    evidence = np.tensordot(head.channel_weights(feature_map, index), feature_map, 1)
    most = float(evidence.max())
    if not np.isfinite(most + float(evidence.min())):
        raise ValueError("the network gives values that are no numbers (NaN or infinite)")
    return (np.maximum(evidence, 0) / most).astype(np.float32) if most > 0 else np.zeros_like(evidence)
