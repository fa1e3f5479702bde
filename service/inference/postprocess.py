"""Stage postprocess: one image's logits (classes,) and novelty (1,), features (dimensions,), or class map (height, width), all
float32 -> its result.
"""

from base64 import b64encode

import numpy as np
from numpy.typing import NDArray

from models.image.preprocess import Placed
from models.package.manifest import Manifest
from models.package.prediction import Classification, ClassMap, Explanation, ImageSize, Prediction, Ranking, SeenPart
from models.package.probability import share_of_highest, softmax
from service.inference.results import Encoding, Features

Row = NDArray[np.float32]


def classify(logits: Row, manifest: Manifest, novelty: Row | None = None) -> Classification:
    """The likeliest class. ``novelty``: None where the graph has no such output."""
    best = int(logits.argmax())
    probability, unlike = share_of_highest(logits, manifest.temperature), _number(novelty)
    return Classification(manifest.labels[best], round(probability, 6), is_unsure(probability, unlike, manifest), unlike)


def rank(logits: Row, manifest: Manifest, k: int, novelty: Row | None = None) -> Ranking:
    """The k likeliest classes; k is at most the number of classes. ``novelty``: as of ``classify``."""
    shares = softmax(logits, manifest.temperature)
    order = np.argsort(-logits, kind="stable")[:k]
    top = [Prediction(manifest.labels[i], round(float(shares[i]), 6)) for i in order]
    unlike = _number(novelty)
    return Ranking(top, is_unsure(float(shares[order[0]]), unlike, manifest), unlike)


def is_unsure(probability: float, novelty: float | None, manifest: Manifest) -> bool:
    """Whether the likeliest class is not to be relied on: it is improbable, or the image is like none of the classes."""
    novel = novelty is not None and manifest.novelty_threshold is not None and novelty > manifest.novelty_threshold
    return probability < manifest.threshold or novel


def _number(novelty: Row | None) -> float | None:
    return None if novelty is None else round(float(novelty[0]), 6)


def encode_features(features: Row, normalize: bool, encoding: Encoding) -> Features:
    """The feature vector, of Euclidean length 1 with ``normalize`` (a zero vector stays zero)."""
    if normalize:
        features = unit(features)
    if encoding == "base64":
        return Features(_base64(features))
    return Features(features.astype(np.float64).round(7).tolist())


def unit(features: Row) -> Row:
    """Of Euclidean length 1; a zero vector stays zero."""
    return features / max(float(np.linalg.norm(features)), np.finfo(np.float32).tiny)


def explain(logits: Row, values: Row, manifest: Manifest, target: int | None, placed: Placed, encoding: Encoding) -> Explanation:
    """values: the class map of class ``target``, or of the likeliest."""
    seen = placed.seen
    index = int(logits.argmax()) if target is None else target
    probability = round(float(softmax(logits, manifest.temperature)[index]), 6)
    height, width = values.shape
    numbers = _base64(values) if encoding == "base64" else values.astype(np.float64).round(6).tolist()
    part = SeenPart(*(round(number, 3) for number in (seen.x, seen.y, seen.width, seen.height)))
    size = ImageSize(placed.width, placed.height)
    return Explanation(manifest.labels[index], index, probability, ClassMap(width, height, numbers), part, size)


def _base64(values: Row) -> str:
    return b64encode(values.astype("<f4").tobytes()).decode()
