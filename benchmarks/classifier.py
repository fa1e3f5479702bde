"""What every system of the benchmark shares: the model package, the decode, the ONNX Runtime session, the answer.

A peer brings its own HTTP side and its own batching; this is the rest. The environment variable BENCH_PACKAGE names
the folder of the package; HUBEL_DEVICE, HUBEL_PRECISION and HUBEL_THREADS choose the session, as they do for Hubel.
"""

import os
from pathlib import Path

from models.image.preprocess import Pixels
from service import settings
from service.inference import classifier
from service.inference.session import OnnxSession

MAX_BATCH = 16


class Classifier(classifier.Classifier):
    """The package of the environment in memory, checked and warm."""

    def __init__(self) -> None:
        self.settings = settings.read()
        threads = self.settings.inference_threads()
        folder = Path(os.environ["BENCH_PACKAGE"])
        super().__init__(OnnxSession(folder, self.settings.device, self.settings.precision, threads))
        self.session.warm(MAX_BATCH)

    def infer(self, images: list[Pixels]) -> list[dict[str, object]]:
        """One answer for each image: its label and probability."""
        return [{"label": found.label, "probability": found.probability} for found in self.label(images)]
