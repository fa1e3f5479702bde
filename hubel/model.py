"""A package of the store computed in this process, by the code with which the service serves it."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.imagenet import package
from models.package.prediction import Classification, Explanation, Ranking
from models.registry import registry
from service.inference.class_map import LIKELIEST
from service.inference.classifier import Classifier

Image = bytes | str | os.PathLike[str]  # a file in memory, or its path
Row = NDArray[np.float32]


class Model:
    """A package in memory, checked as the service checks it. Not for several threads at once.

    An image is the bytes of a JPEG, PNG or WebP file, or its path; what is none raises models.image.header.ImageError.
    """

    def __init__(self, folder: Path, device: str = "auto", precision: str = "auto") -> None:
        """Raises PackageError, or DeviceError where nothing computes so here; values as HUBEL_DEVICE and HUBEL_PRECISION."""
        self._classifier = Classifier.load(folder, device, precision, threads=len(os.sched_getaffinity(0)))
        self.manifest = self._classifier.manifest

    @property
    def labels(self) -> list[str]:
        return self.manifest.labels

    def classify(self, image: Image) -> Classification:
        """The likeliest class."""
        return self.classify_all([image])[0]

    def classify_all(self, images: Sequence[Image]) -> list[Classification]:
        """The likeliest class of each image; all are computed in one batch, so give no more at once than memory holds."""
        return self._classifier.classify([read(image) for image in images])

    def top_k(self, image: Image, k: int = 5) -> Ranking:
        """The k likeliest classes, all where there are fewer."""
        return self._classifier.top_k([read(image)], k)[0]

    def features(self, image: Image, normalize: bool = True) -> Row:
        """The feature vector (dimensions,), of length 1 with ``normalize``, else as the network gives it."""
        return self._classifier.features([read(image)], normalize)[0]

    def explain(self, image: Image, label: str | None = None) -> Explanation:
        """Which places of the image speak for ``label``, or for the likeliest class. Raises ValueError for a label that is none,
        and models.package.head.Unexplained where no map can be made."""
        target = LIKELIEST if label is None else self.labels.index(label)
        return self._classifier.explain([read(image)], target)[0]


def read(image: Image) -> bytes:
    """Raises OSError where there is no file at the path."""
    return image if isinstance(image, bytes) else Path(image).read_bytes()


def load(name: str = package.NAME, store: str | os.PathLike[str] = registry.STORE, device: str = "auto") -> Model:
    """The package NAME:VERSION of ``store``, or the live version of NAME."""
    return Model(registry.resolve(package.store_of(name, Path(store)), name), device)
