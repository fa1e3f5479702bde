"""A package of the store computed in this process, by the code with which the service serves it."""

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.image.preprocess import preprocess
from models.imagenet import package
from models.package.prediction import Classification, Ranking
from models.registry import registry
from service.inference import postprocess
from service.inference.session import Runtime

Image = bytes | str | os.PathLike[str]  # a file in memory, or its path
Row = NDArray[np.float32]


class Model:
    """A package in memory, checked as the service checks it. Not for several threads at once.

    An image is the bytes of a JPEG, PNG or WebP file, or its path; what is none raises models.image.header.ImageError.
    """

    def __init__(self, folder: Path, device: str = "auto", precision: str = "auto") -> None:
        """Raises PackageError, or DeviceError where nothing computes so here; values as HUBEL_DEVICE and HUBEL_PRECISION."""
        self._runtime = Runtime(folder, device, precision, threads=len(os.sched_getaffinity(0)))
        self.manifest = self._runtime.manifest

    @property
    def labels(self) -> list[str]:
        return self.manifest.labels

    def classify(self, image: Image) -> Classification:
        """The likeliest class."""
        return postprocess.classify(self._row(image, "logits"), self.manifest)

    def top_k(self, image: Image, k: int = 5) -> Ranking:
        """The k likeliest classes, all where there are fewer."""
        return postprocess.rank(self._row(image, "logits"), self.manifest, k)

    def features(self, image: Image, normalize: bool = True) -> Row:
        """The feature vector (dimensions,), of length 1 with ``normalize``, else as the network gives it."""
        found = postprocess.encode_features(self._row(image, "features"), normalize, "float")
        return np.asarray(found.features, np.float32)

    def _row(self, image: Image, output: str) -> Row:
        data = image if isinstance(image, bytes) else Path(image).read_bytes()
        pixels = preprocess(data, self.manifest.input)
        return self._runtime.run(pixels[None], [output])[output][0]


def load(name: str = package.NAME, store: str | os.PathLike[str] = registry.STORE, device: str = "auto") -> Model:
    """The package NAME:VERSION of ``store``, or the live version of NAME."""
    return Model(registry.resolve(package.store_of(name, Path(store)), name), device)
