"""What every system of the benchmark shares: the model package, the decode, the ONNX Runtime session, the answer.

A peer brings its own HTTP side and its own batching; this is the rest. The environment variable BENCH_PACKAGE names
the folder of the package; HUBEL_DEVICE, HUBEL_PRECISION and HUBEL_THREADS choose the session, as they do for Hubel.
"""

import os
from pathlib import Path

import numpy as np

from models.image.preprocess import Pixels, preprocess
from service import settings
from service.inference.postprocess import classify
from service.inference.session import OnnxSession

MAX_BATCH = 16


class Classifier:
    """A model in memory, checked and warm, without a server."""

    def __init__(self) -> None:
        self.settings = settings.read()
        self.runtime = OnnxSession(
            Path(os.environ["BENCH_PACKAGE"]),
            self.settings.device,
            self.settings.precision,
            self.settings.inference_threads(),
        )
        self.runtime.warm(MAX_BATCH)
        self.manifest = self.runtime.manifest

    def decode(self, data: bytes) -> Pixels:
        """Bytes of one image file -> (height, width, 3) uint8."""
        return preprocess(data, self.manifest.input)

    def infer(self, images: list[Pixels]) -> list[dict[str, object]]:
        """One answer for each image: its label and probability."""
        logits = self.runtime.run(np.stack(images), ("logits",))["logits"]
        found = [classify(row, self.manifest) for row in logits]
        return [{"label": f.label, "probability": f.probability} for f in found]
