"""Stage postprocess: one image's logits (classes,) or features (dimensions,), float32 -> its result."""

from base64 import b64encode

import numpy as np
from numpy.typing import NDArray

from models.package.manifest import Manifest
from models.package.prediction import Classification, Prediction, Ranking
from models.package.probability import share_of_highest, softmax
from service.inference.results import Encoding, Features

Row = NDArray[np.float32]


def classify(logits: Row, manifest: Manifest) -> Classification:
    """The likeliest class."""
    best = int(logits.argmax())
    probability = share_of_highest(logits, manifest.temperature)
    return Classification(manifest.labels[best], round(probability, 6), probability < manifest.threshold)


def rank(logits: Row, manifest: Manifest, k: int) -> Ranking:
    """The k likeliest classes; k is at most the number of classes."""
    shares = softmax(logits, manifest.temperature)
    order = np.argsort(-logits, kind="stable")[:k]
    top = [Prediction(manifest.labels[i], round(float(shares[i]), 6)) for i in order]
    return Ranking(top, bool(shares[order[0]] < manifest.threshold))


def encode_features(features: Row, normalize: bool, encoding: Encoding) -> Features:
    """The feature vector, of Euclidean length 1 with ``normalize`` (a zero vector stays zero)."""
    if normalize:
        features = features / max(float(np.linalg.norm(features)), np.finfo(np.float32).tiny)
    if encoding == "base64":
        return Features(b64encode(features.astype("<f4").tobytes()).decode())
    return Features(features.astype(np.float64).round(7).tolist())
