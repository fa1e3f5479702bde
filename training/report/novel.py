"""What the network has seen nothing like: the measured images furthest from those it was trained on, and where "novel" begins."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.data.dataset import ImageSet
from training.evaluation.calibration import Answers
from training.evaluation.novelty import THRESHOLD, Reference
from training.report import mistakes

MOST = 12  # images shown
BINS = 20  # of the histogram up to the limit, and at most as many beyond
LEFT_OUT = {"left_out": "too few images were held out to tell what is unlike those trained on"}
Floats = NDArray[np.floating]


def show(
    reference: Reference | None, features: NDArray[np.float32], images: ImageSet, answers: Answers, with_images: bool = True
) -> dict[str, Any]:
    """``count`` of the images above the threshold, ``right`` and ``right_of_others``, the accuracy of these and of the rest (None
    of none), ``distance``, where the threshold lies, a ``histogram`` of all distances, and the MOST ``images`` furthest off, each
    as ``mistakes.show`` tells it with its ``novelty``; none ``with_images`` false.

    features: (n, d) of ``images``.
    """
    if reference is None:
        return LEFT_OUT
    distances = reference.gaussian.distance(features)
    novelty = reference.curve.novelty(distances)
    novel = novelty > THRESHOLD
    limit = float(np.interp(THRESHOLD, reference.curve.shares, reference.curve.distances))
    furthest = np.argsort(-distances, kind="stable")[:MOST] if with_images else []
    return {
        "count": int(novel.sum()),
        "right": _share(answers.right[novel]),
        "right_of_others": _share(answers.right[~novel]),
        "distance": round(limit, 4),
        "histogram": histogram(distances, answers.right, limit),
        "images": [mistakes.show(images, answers, int(i)) | {"novelty": round(float(novelty[i]), 4)} for i in furthest],
    }


def histogram(distances: Floats, right: NDArray[np.bool_], limit: float) -> dict[str, list[float]]:
    """``edges`` (b + 1), of which the limit is one, and the images answered ``right`` and ``wrong`` (b) between them. What lies
    further beyond the limit than the nearest image before it is counted in the last bin: it would press the rest together."""
    nearest = min(float(distances.min()), 0.9 * limit)
    step = (limit - nearest) / BINS
    shown = distances.clip(max=2 * limit - nearest - step / 2)
    edges = nearest + step * np.arange(max(BINS, int((shown.max() - nearest) / step) + 1) + 1)
    counts = {name: np.histogram(shown[of], edges)[0].tolist() for name, of in (("right", right), ("wrong", ~right))}
    return {"edges": edges.round(4).tolist(), **counts}


def _share(right: NDArray[np.bool_]) -> float | None:
    return round(float(right.mean()), 4) if len(right) else None
