"""Stage postprocess: one image's logits (classes,) and novelty (1,), or features (dimensions,), float32 -> its result."""

from base64 import b64encode

import numpy as np
from numpy.typing import NDArray

from models.package.manifest import Manifest
from models.package.prediction import Classification, Prediction, Ranking
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
        return Features(b64encode(features.astype("<f4").tobytes()).decode())
    return Features(features.astype(np.float64).round(7).tolist())


def unit(features: Row) -> Row:
    """Of Euclidean length 1; a zero vector stays zero."""
    return features / max(float(np.linalg.norm(features)), np.finfo(np.float32).tiny)
