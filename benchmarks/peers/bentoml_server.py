"""BentoML as its documentation shows batching: one service, one batchable method that takes PIL images."""

import os
import sys

import bentoml
from PIL.Image import Image

from benchmarks.classifier import MAX_BATCH, Classifier
from benchmarks.peers import HOST, port
from models.preprocess import fit

MAX_LATENCY_MS = 10_000  # as long as Hubel waits


@bentoml.service(workers=1, logging={"access": {"enabled": False}})
class Peer:
    def __init__(self) -> None:
        self.classifier = Classifier()

    @bentoml.api(batchable=True, max_batch_size=MAX_BATCH, max_latency_ms=MAX_LATENCY_MS)
    def classify(self, images: list[Image]) -> list[dict[str, object]]:
        # BentoML has opened the images with Pillow, so Classifier.decode has nothing to read. For an upright JPEG,
        # which is what the benchmark sends, this gives the same pixels.
        spec = self.classifier.manifest.input
        return self.classifier.infer([fit(image.convert("RGB"), spec) for image in images])


if __name__ == "__main__":
    where = ["--host", HOST, "--port", str(port())]
    os.execv(sys.executable, [sys.executable, "-m", "bentoml", "serve", "benchmarks.peers.bentoml_server:Peer", *where])
