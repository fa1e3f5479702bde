"""What the workers can feed to a network of any speed: ``python -m benchmarks.fronts``, with a stand-in in the engine's place.

The engine is the real one but for its session, which answers a batch after a fixed time. So the workers are the limit: what is
measured is how many images a second they read, decode and answer, and the processor time that costs.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from unittest import mock

import numpy as np
import uvloop
from PIL import Image

from benchmarks import photos
from benchmarks.proc import cpu_of
from benchmarks.processes import ROOT, START_SECONDS, Server, StartError, free_port, start
from benchmarks.wire import answer_in
from models.image.preprocess import Pixels
from models.registry import registry
from service.engine import __main__ as engine
from service.engine import server
from service.engine.messages import Load
from service.inference.batcher import Arrays

BATCH_MS = "HUBEL_BENCH_BATCH_MS"
TINY = 32  # pixels of a side
MODEL, LARGEST = "cifar10", 64


class Session:
    """Answers zeros after a fixed time, whatever the batch."""

    provider, precision, on_cores = "stand-in", "fp32", False

    def __init__(self, request: Load, seconds: float) -> None:
        self.folder = Path(request.folder)
        self.manifest = registry.verify(self.folder)
        self.seconds = seconds
        self.skipped_backends: list[str] = []
        self.sizes = (LARGEST,)
        self.seconds_per_image = seconds / LARGEST

    def batch(self, n: int) -> Pixels:
        return np.empty((n, self.manifest.input.height, self.manifest.input.width, 3), np.uint8)

    def run(self, images: Pixels, outputs: Sequence[str]) -> Arrays:
        time.sleep(self.seconds)
        return {name: np.zeros((len(images), *self.manifest.outputs[name]), np.float32) for name in outputs}


def serve_engine(arguments: Sequence[str]) -> int:
    seconds = float(os.environ[BATCH_MS]) / 1000
    with mock.patch.object(server, "load", lambda request, rest: Session(request, seconds)):
        return engine.main(arguments)


def serve() -> int:
    """The service, whose engine is started as this program."""
    from service.engine import start as starting

    starting.COMMAND = (sys.executable, "-m", "benchmarks.fronts", "engine")
    from service import __main__ as service  # which reads the command as it is now

    return service.main(["serve"])


class Client(asyncio.Protocol):
    """Asks again as soon as it is answered, until a time of time.perf_counter."""

    def __init__(self, messages: Sequence[bytes], until: float, statuses: list[int]) -> None:
        self.messages = messages
        self.until = until
        self.statuses = statuses
        self.received = b""
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        self._ask()

    def _ask(self) -> None:
        self.transport.write(self.messages[len(self.statuses) % len(self.messages)])

    def data_received(self, data: bytes) -> None:
        self.received += data
        if (answer := answer_in(self.received)) is None:
            return
        self.received = b""
        self.statuses.append(answer[0])
        if time.perf_counter() < self.until:
            self._ask()
        else:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.done.set_result(None)


async def ask(port: int, clients: int, messages: Sequence[bytes], seconds: float) -> list[int]:
    """Statuses of all answers that so many clients got."""
    statuses: list[int] = []
    loop, until = asyncio.get_running_loop(), time.perf_counter() + seconds
    made = [await loop.create_connection(lambda: Client(messages, until, statuses), "127.0.0.1", port) for _ in range(clients)]
    await asyncio.gather(*(client.done for _, client in made))
    return statuses


def request(image: bytes) -> bytes:
    head = f"POST /v1/classify HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: image/jpeg\r\ncontent-length: {len(image)}\r\n\r\n"
    return head.encode() + image


def pictures(kind: str) -> list[bytes]:
    if kind == "photo":
        return photos.make_photos(40)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tiny.jpg"
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (TINY, TINY, 3), np.uint8)).save(path, quality=60)
        return [path.read_bytes()]


def start_service(workers: int, batch_ms: float, log: Path) -> Server:
    port = free_port()
    settings = {"HUBEL_MODEL": MODEL, "HUBEL_WORKERS": str(workers), "HUBEL_MAX_QUEUE": "2048"}
    settings |= {"HUBEL_PORT": str(port), BATCH_MS: str(batch_ms)}
    service = start([sys.executable, "-m", "benchmarks.fronts", "serve"], os.environ | settings, port, log)
    until = time.monotonic() + START_SECONDS
    while f"worker {workers - 1} " not in (text := log.read_text()) or text.count("is ready after") < workers:
        if time.monotonic() > until or service.process.poll() is not None:
            service.stop()
            raise StartError(f"the service does not start: {text[-500:]}")
        time.sleep(0.1)
    return service


def cpu_by_role(service: Server) -> dict[str, float]:
    found = {"worker": 0.0, "engine": 0.0}
    for pid in service.tree():
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        role = "worker" if b"service.processes.worker" in words else "engine" if b"engine" in words else ""
        if role:
            found[role] += cpu_of(pid)
    return found


def measure(options: argparse.Namespace) -> int:
    found: dict[tuple[str, int], list[tuple[float, float, float]]] = {}
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(options.rounds):
            for workers in options.workers if turn % 2 == 0 else options.workers[::-1]:
                service = start_service(workers, options.batch_ms, Path(folder) / "log")
                try:
                    for kind in options.images:
                        messages = [request(image) for image in pictures(kind)]
                        uvloop.run(ask(service.port, options.clients, messages, 1.0))
                        before, began = cpu_by_role(service), time.perf_counter()
                        statuses = uvloop.run(ask(service.port, options.clients, messages, options.seconds))
                        took, after = time.perf_counter() - began, cpu_by_role(service)
                        good = statuses.count(200)
                        wrong += len(statuses) - good
                        cost = [1e6 * (after[role] - before[role]) / max(1, good) for role in ("worker", "engine")]
                        found.setdefault((kind, workers), []).append((good / took, cost[0], cost[1]))
                finally:
                    service.stop()
    print(f"\nbatches of up to {LARGEST} images in {options.batch_ms:g} ms, {options.clients} clients, n = {options.rounds}\n")
    print("| images | workers | images/s | us of a worker an image | us of the engine an image |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for (kind, workers), rows in sorted(found.items()):
        rate, worker, of_engine = (median(column) for column in zip(*rows, strict=True))
        print(f"| {kind} | {workers} | {rate:.0f} | {worker:.0f} | {of_engine:.0f} |")
    if wrong:
        print(f"{wrong} answers were not 200")
    return int(wrong > 0)


def numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


def main(arguments: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["engine"]:
        return serve_engine(words[1:])
    if words[:1] == ["serve"]:
        return serve()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fronts", description=__doc__)
    parser.add_argument("--workers", type=numbers, default=[1, 2], help="how many, several with commas (default: 1,2)")
    parser.add_argument("--images", type=lambda text: text.split(","), default=["tiny", "photo"], help="tiny, photo or both")
    parser.add_argument("--batch-ms", type=float, default=2.0, help="milliseconds that a batch takes (default: 2)")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5, help="turns (default: 5)")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement (default: 4)")
    os.chdir(ROOT)
    return measure(parser.parse_args(words))


if __name__ == "__main__":
    sys.exit(main())
