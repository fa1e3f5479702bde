"""A package computed without a server: files of images -> classes, features or maps, in batches, in the calling thread.

The gate's dry run, ``hubel.load`` and the benchmarks compute through here, so that they decode and answer as the service does.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.image.preprocess import Pixels, place, preprocess
from models.package import head as heads
from models.package.manifest import NOVELTY
from models.package.prediction import Classification, Explanation, Ranking
from service.inference import postprocess
from service.inference.class_map import LIKELIEST, NEEDED, class_map
from service.inference.postprocess import Row
from service.inference.session import OnnxSession

Rows = NDArray[np.float32]


class Classifier:
    """``session``: a loaded package. Not for several threads at once. Bytes that are no image raise models.errors.ImageError."""

    def __init__(self, session: OnnxSession) -> None:
        self.session = session
        self.manifest = session.manifest

    @classmethod
    def load(
        cls,
        folder: Path,
        device: str = "auto",
        precision: str = "auto",
        threads: int = 1,
        key: Path | None = None,
        gpu_memory: int = 0,
    ) -> "Classifier":
        """Arguments and errors as OnnxSession's."""
        return cls(OnnxSession(folder, device, precision, threads, key, gpu_memory))

    def decode(self, image: bytes) -> Pixels:
        """A JPEG, PNG or WebP file -> (height, width, 3) uint8 of the network's input."""
        return preprocess(image, self.manifest.input)

    def compute(self, pixels: Sequence[Pixels], output: str = "logits") -> Rows:
        """One pass: n decoded images -> rows (n, ...) float32 of an output."""
        if not len(pixels):
            return np.empty((0, 0), np.float32)
        return self.session.run(np.stack(pixels), (output,))[output]

    def label(self, pixels: Sequence[Pixels]) -> list[Classification]:
        """The likeliest class of each decoded image."""
        return [postprocess.classify(logits, self.manifest, novelty) for logits, novelty in self._answers(pixels)]

    def _answers(self, pixels: Sequence[Pixels]) -> list[tuple[Row, Row | None]]:
        """Logits and novelty of each decoded image, the latter where the graph has that output."""
        if not len(pixels):
            return []
        found = self.session.run(np.stack(pixels), self.manifest.answer_outputs)
        novelty = found.get(NOVELTY)
        return list(zip(found["logits"], [None] * len(pixels) if novelty is None else novelty, strict=True))

    def classify(self, images: Sequence[bytes]) -> list[Classification]:
        """The likeliest class of each image of a batch."""
        return self.label([self.decode(image) for image in images])

    def top_k(self, images: Sequence[bytes], k: int = 5) -> list[Ranking]:
        """The k likeliest classes of each image of a batch, all where there are fewer."""
        pixels = [self.decode(image) for image in images]
        return [postprocess.rank(logits, self.manifest, k, novelty) for logits, novelty in self._answers(pixels)]

    def features(self, images: Sequence[bytes], normalize: bool = True) -> Rows:
        """Feature vectors (n, dimensions) float32, each of length 1 with ``normalize``, else as the network gives them."""
        rows = self._rows(images, "features")
        found = [postprocess.encode_features(row, normalize, "float").features for row in rows]
        return np.asarray(found, np.float32)

    def explain(self, images: Sequence[bytes], target: int = LIKELIEST) -> list[Explanation]:
        """Which places of each image of a batch speak for a class, or for its likeliest. Raises Unexplained."""
        if not images:
            return []
        head = heads.read(self.session.folder, self.manifest)
        placed = [place(image, self.manifest.input) for image in images]
        found = self.session.run(np.stack([each.pixels for each in placed]), NEEDED)
        rows = [{name: found[name][i] for name in NEEDED} for i in range(len(placed))]
        index = None if target == LIKELIEST else target
        return [
            postprocess.explain(row["logits"], class_map(head, row, target), self.manifest, index, each, "float")
            for row, each in zip(rows, placed, strict=True)
        ]

    def _rows(self, images: Sequence[bytes], output: str) -> Rows:
        return self.compute([self.decode(image) for image in images], output)
