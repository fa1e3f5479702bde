"""BentoML as its documentation shows batching: one service, one batchable method that takes PIL images."""

import os
import sys

import bentoml
from PIL.Image import Image

from benchmarks.classifier import MAX_BATCH, Classifier
from benchmarks.peers import HOST, port

MAX_LATENCY_MS = 10_000  # as long as Hubel waits


@bentoml.service(workers=1, logging={"access": {"enabled": False}})
class Peer:
    def __init__(self) -> None:
        self.classifier = Classifier()

    @bentoml.api(batchable=True, max_batch_size=MAX_BATCH, max_latency_ms=MAX_LATENCY_MS)
    def classify(self, images: list[Image]) -> list[dict[str, object]]:
        # Pillow has read the headers alone: what is decoded are the files, by the same code as everywhere.
        return self.classifier.infer([self.classifier.decode(file_of(image)) for image in images])


def file_of(image: Image) -> bytes:
    """The bytes that an image was opened from and not decoded yet."""
    image.fp.seek(0)
    return image.fp.read()


if __name__ == "__main__":
    where = ["--host", HOST, "--port", str(port())]
    os.execv(sys.executable, [sys.executable, "-m", "bentoml", "serve", "benchmarks.peers.bentoml_server:Peer", *where])
