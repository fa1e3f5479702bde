"""mosec in two stages, as its image examples are: processes that decode, and one that infers batches."""

import os
from pathlib import Path

from mosec import Server, Worker

from benchmarks.classifier import MAX_BATCH, Classifier
from benchmarks.peers import HOST, port
from models.image.preprocess import Pixels, preprocess
from models.registry import registry

DECODERS = 1
MAX_WAIT_MS = 10  # mosec's default
TIMEOUT_MS = 10_000  # as long as Hubel waits; the default of 3 s would refuse what the others answer


class Decode(Worker):
    """Bytes -> pixels. Does what Classifier.decode does, without a session of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.spec = registry.verify(Path(os.environ["BENCH_PACKAGE"])).input

    def deserialize(self, data: bytes) -> bytes:
        return data

    def forward(self, data: bytes) -> Pixels:
        return preprocess(data, self.spec)


class Infer(Worker):
    def __init__(self) -> None:
        super().__init__()
        self.classifier = Classifier()

    def forward(self, data: list[Pixels]) -> list[dict[str, object]]:
        return self.classifier.infer(data)


if __name__ == "__main__":
    os.environ |= {
        "MOSEC_ADDRESS": HOST,
        "MOSEC_PORT": str(port()),
        "MOSEC_TIMEOUT": str(TIMEOUT_MS),
        "MOSEC_LOG_LEVEL": "warning",
    }
    server = Server()
    server.append_worker(Decode, num=DECODERS)
    server.append_worker(Infer, num=1, max_batch_size=MAX_BATCH, max_wait_time=MAX_WAIT_MS)
    server.run()
