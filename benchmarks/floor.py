"""The floor: the same decode and the same session in one process, without HTTP, as fast as Python lets them run.

    python -m benchmarks.floor FOLDER    measures when told so on standard input, until that ends

Threads decode ahead into batches that are allocated once; the main thread runs the session on the ones that are full.
It stays up, idle, between its turns.
"""

import os
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from queue import SimpleQueue
from statistics import median

import msgspec
import numpy as np

from benchmarks.classifier import MAX_BATCH, Classifier
from benchmarks.results import Measured, Turn
from models.image.preprocess import Pixels

WARM_BATCHES = 2
LEAST_BATCHES, LEAST_SINGLES = 5, 10


class Floor:
    """Batches go round: free -> decoded into by one of the threads -> ready -> run -> free."""

    def __init__(self, classifier: Classifier, photos: Sequence[bytes]) -> None:
        self.classifier = classifier
        self.photos = photos
        self.position = 0
        spec, threads = classifier.manifest.input, classifier.settings.decoding_threads()
        self.batches = [np.zeros((MAX_BATCH, spec.height, spec.width, 3), np.uint8) for _ in range(threads + 2)]
        self.free: SimpleQueue[Pixels] = SimpleQueue()
        self.ready: SimpleQueue[Pixels] = SimpleQueue()
        for _ in range(threads):
            threading.Thread(target=self.decode_ahead, daemon=True).start()

    def decode_ahead(self) -> None:
        while True:
            batch = self.free.get()
            for row in range(MAX_BATCH):
                batch[row] = self.classifier.decode(self.next_photo())
            self.ready.put(batch)

    def next_photo(self) -> bytes:
        self.position += 1
        return self.photos[self.position % len(self.photos)]

    def run_batch(self) -> Pixels:
        batch = self.ready.get()
        self.classifier.session.run(batch, ("logits",))
        return batch

    def measure(self, seconds: float) -> tuple[float, float]:
        """Images a second and milliseconds of CPU time for an image, from the end of one batch to that of another."""
        for batch in self.batches:
            self.free.put(batch)
        for _ in range(WARM_BATCHES):
            self.free.put(self.run_batch())
        began, cpu, count = time.perf_counter(), time.process_time(), 0
        while (elapsed := time.perf_counter() - began) < seconds or count < LEAST_BATCHES:
            self.free.put(self.run_batch())
            count += 1
        cpu = time.process_time() - cpu
        for _ in self.batches:
            self.ready.get()
        images = count * MAX_BATCH
        return images / elapsed, 1000 * cpu / images

    def measure_bare(self, seconds: float) -> float:
        """Median milliseconds of decoding and running one image, nothing else at the same time."""
        spans: list[float] = []
        began = time.perf_counter()
        while time.perf_counter() - began < seconds or len(spans) < LEAST_SINGLES:
            start = time.perf_counter()
            self.classifier.session.run(self.classifier.decode(self.next_photo())[np.newaxis], ("logits",))
            spans.append(time.perf_counter() - start)
        return 1000 * median(spans)


def main(folder: Path) -> None:
    """Answer each line of JSON, a Turn, with one, Measured; the first line out says that the model is loaded."""
    photos = [path.read_bytes() for path in sorted(folder.iterdir())]
    floor = Floor(Classifier(), photos)
    floor.measure(0)
    print("ready", flush=True)
    for line in sys.stdin:
        turn = msgspec.json.decode(line, type=Turn)
        rate, core_ms = floor.measure(turn.seconds)
        print(msgspec.json.encode(Measured(rate, core_ms, floor.measure_bare(turn.bare_seconds))).decode(), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    os._exit(0)  # the threads wait for a batch that never comes
