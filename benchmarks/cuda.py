"""What a GPU makes of a package: batches of changing sizes, the provider's options, memory, and the service over HTTP.

    python -m benchmarks.cuda [--stand-in] [--seconds 480] [FOLDER ...]    make bench DEVICE=cuda does the same

A FOLDER is a package, such as models/store/cifar10/2, which is measured where none is given. It needs nothing from a package
index: the Python that runs it has ONNX Runtime with CUDA, and for HTTP the service's packages and wrk. What there is no time
for is left out, and said. --stand-in: with benchmarks/cuda_stand_in.py in the place of a GPU, which shows that the script works
and what batches of changing sizes cost.
"""

import argparse
import ctypes
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from statistics import median

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from benchmarks import cuda_stand_in, environments, photos, processes, wrk
from benchmarks.cuda_stand_in import Gpu
from benchmarks.environments import BUNDLED
from benchmarks.systems import HUBEL
from benchmarks.turns import ask
from models.image.preprocess import Pixels
from models.package.manifest import OUTPUTS
from models.registry import registry
from service.inference.backends import cuda_graph, pinned
from service.inference.backends.cuda_graph import GraphSession
from service.inference.backends.opening import Session, first_line, open_session
from service.inference.session import OnnxSession

BATCHES = 60  # of random sizes, in one turn
TURNS = 5
MAX_BATCH = {False: 64, True: 8}  # on a GPU, and on the stand-in, whose answers a processor computes while it loads
SECONDS = {False: 0.5, True: 0.05}  # that each setting of the options is measured for, at each size
PREPARING, STAND_IN_SECONDS, PLANNING = 3, 0.004, 0.05
CLIENTS = (64, 256)
NAMES = OUTPUTS[:2]
Compute = Callable[[Pixels], object]


@dataclass
class Bench:
    """folder: of the package. until: of time.monotonic(), when it shall have ended. gpu: the stand-in, if there is no other."""

    folder: Path
    until: float
    gpu: Gpu | None = None

    def __post_init__(self) -> None:
        self.most = MAX_BATCH[self.gpu is not None]

    def run(self) -> None:
        print(f"\n## {self.folder.parent.name}:{self.folder.name}\n")
        for part, needed in ((self.changing, 90), (self.options, 120), (self.shared, 60), (self.http, 60)):
            if self.gpu is None and time.monotonic() + needed > self.until:
                print(f"{part.__name__}: left out, there is no time for it")
                continue
            try:
                part()
            except Exception as err:  # of any kind: the parts after it can still be measured
                print(f"{part.__name__}: failed: {type(err).__name__}: {first_line(err)}")

    def changing(self) -> None:
        """Batches of random sizes, beside what they would be if no size had to be planned: the same sorted by size, or on the
        stand-in without its time for planning.
        """
        began, before = time.perf_counter(), memory_used()
        loaded = self.load()
        opened = time.perf_counter() - began
        one = self.rates(lambda images: loaded.run(images, NAMES), loaded)
        used, began = memory_used(), time.perf_counter()
        loaded.warm(self.most)
        warmed, after = time.perf_counter() - began, memory_used()
        each = self.rates(lambda images: loaded.run(images, NAMES), loaded)
        print(f"{loaded.provider} in {loaded.precision}, batches of {', '.join(map(str, loaded.sizes))}; n = {TURNS} turns")
        if loaded.skipped_backends:
            print(f"skipped: {', '.join(loaded.skipped_backends)}")
        print(f"opened in {opened:.1f} s, warmed in {warmed:.1f} s")
        print(f"memory of the GPU: {used - before:.0f} MB with one session, {after - before:.0f} MB with one for each size")
        calm = "sorted by size" if self.gpu is None else "nothing planned"
        print(f"\n| batches of random sizes | images/s | {calm} | ratio |\n| --- | ---: | ---: | ---: |")
        for title, (random, other) in (("one session", one), ("a session for each size", each)):
            ratio = median(a / b for a, b in zip(random, other, strict=True))
            print(f"| {title} | {median(random):,.0f} | {median(other):,.0f} | {ratio:.3f} |", flush=True)
        loaded.close()

    def load(self) -> OnnxSession:
        return OnnxSession(self.folder, "cuda", "auto", threads=1)

    def rates(self, compute: Compute, loaded: OnnxSession) -> tuple[list[float], list[float]]:
        """Images a second of each turn: of batches of random sizes, and of the same without planning."""
        random, images = np.random.default_rng(0), sample(self.most, loaded)
        found: tuple[list[float], list[float]] = ([], [])
        with approximate(self.gpu):
            for turn in range(-1, TURNS):
                drawn = random.integers(1, self.most + 1, BATCHES).tolist()
                for rates, order in zip(found, (drawn, drawn if self.gpu else sorted(drawn)), strict=True):
                    if self.gpu is not None:
                        self.gpu.planning = PLANNING if rates is found[0] else 0.0
                    began = time.perf_counter()
                    for size in order:
                        compute(images[:size])
                    if turn >= 0:  # the one before is to get warm
                        rates.append(sum(order) / (time.perf_counter() - began))
        return found

    def options(self) -> None:
        """Images a second of one session at one size, for each setting of the provider."""
        loaded, sizes = self.load(), (1, self.most // 4, self.most)
        print(f"\n| search | layout | CUDA graph | {' | '.join(map(str, sizes))} | opened and first batch, s |")
        print(f"| --- | --- | --- | {'---: | ' * len(sizes)}---: |")
        for search, nhwc, graph in product(("HEURISTIC", "EXHAUSTIVE"), ("0", "1"), (False, True)):
            cells, spent = list[str](), 0.0
            for size in sizes:
                began = time.perf_counter()
                try:
                    session = self.open(loaded, size, graph, cudnn_conv_algo_search=search, prefer_nhwc=nhwc)
                    images = sample(size, loaded)
                    session.run(NAMES, {"images": images})
                    spent += time.perf_counter() - began
                    with approximate(self.gpu):
                        cells.append(f"{self.rate(session, images):,.0f}")
                except Exception as err:  # such as a graph that is not recorded
                    cells.append(first_line(err)[:40])
            layout = "NHWC" if nhwc == "1" else "NCHW"
            print(f"| {search} | {layout} | {'yes' if graph else 'no'} | {' | '.join(cells)} | {spent:.1f} |", flush=True)
        loaded.close()

    def rate(self, session: Session, images: Pixels) -> float:
        """Images a second, from the median of as many batches as fit into SECONDS."""
        for _ in range(PREPARING):
            session.run(NAMES, {"images": images})
        taken: list[float] = []
        until = time.perf_counter() + SECONDS[self.gpu is not None]
        while (began := time.perf_counter()) < until or not taken:
            session.run(NAMES, {"images": images})
            taken.append(time.perf_counter() - began)
        return len(images) / median(taken)

    def open(self, loaded: OnnxSession, size: int, graph: bool, **options: str) -> Session:
        path = self.folder / loaded.way.graph
        way = replace(loaded.way, options=lambda threads: loaded.way.options(threads) | options)
        data = registry.load(self.folder, loaded.manifest, loaded.way.graph)
        session = open_session(path, data, way, 1, cuda_graph.OPTIONS if graph else {})
        return GraphSession(session, sample(size, loaded).shape, loaded.manifest.outputs) if graph else session

    def shared(self) -> None:
        """One session that records a CUDA graph for each size, so that the weights are there once: as fast, and right?"""
        loaded = self.load()
        before = memory_used()
        data = registry.load(self.folder, loaded.manifest, loaded.way.graph)
        session = open_session(self.folder / loaded.way.graph, data, loaded.way, 1, cuda_graph.OPTIONS)
        loaded.warm(self.most)
        both, graphs = memory_used(), dict[int, GraphSession]()
        for size in loaded.sizes:
            graphs[size] = GraphSession(session, sample(size, loaded).shape, loaded.manifest.outputs, str(size))
        took = memory_used() - both

        def compute(images: Pixels) -> dict[str, NDArray[np.float32]]:
            size = next(size for size in loaded.sizes if size >= len(images))
            filled = np.zeros((size, *images.shape[1:]), np.uint8)
            filled[: len(images)] = images
            return {
                name: rows[: len(images)] for name, rows in zip(NAMES, graphs[size].run(NAMES, {"images": filled}), strict=True)
            }

        apart = 0.0
        for size in (*loaded.sizes, *reversed(loaded.sizes)):
            images = sample(size, loaded)
            other = loaded.run(images, NAMES)
            apart = max(apart, *(float(np.abs(array - other[name]).max()) for name, array in compute(images).items()))
        random, _ = self.rates(compute, loaded)
        print(f"\nOne session with a graph for each size: {median(random):,.0f} images/s at random sizes (n = {TURNS});")
        print(f"its graphs take {took:.0f} MB, a session for each size {both - before:.0f} MB; largest difference {apart:.2g}")
        loaded.close()

    def http(self) -> None:
        """Photographs over HTTP."""
        if self.gpu is not None:
            print("\nhttp: left out, the stand-in is in this process alone")
            return
        wrk.find()
        sent, words = photos.given()
        single, _ = ask(HUBEL, sent)
        port = processes.free_port()
        environment = environments.variables(HUBEL, self.folder, port) | {"HUBEL_DEVICE": "cuda"}
        with tempfile.TemporaryDirectory() as folder:
            began = time.monotonic()
            server = processes.start([sys.executable, *HUBEL.command], environment, port, Path(folder) / "log")
            try:
                processes.wait_for_answer(server, single, began)
                print(f"\n{words}; up after {server.start_seconds:.1f} s\n")
                print("| clients | images/s | p50, ms | p99, ms | errors |\n| ---: | ---: | ---: | ---: | ---: |")
                for clients in CLIENTS:
                    seen = wrk.load(port, single, clients, 8, server.cpu_seconds)
                    print(f"| {clients} | {seen.rate:,.0f} | {seen.p50_ms:.1f} | {seen.p99_ms:.1f} | {seen.errors} |", flush=True)
            finally:
                server.stop()


def sample(size: int, loaded: OnnxSession) -> Pixels:
    spec = loaded.manifest.input
    return np.random.default_rng(size).integers(0, 256, (size, spec.height, spec.width, 3)).astype(np.uint8)


class approximate:
    """Meanwhile the stand-in computes nothing, so that its times are what it is told to take."""

    def __init__(self, gpu: Gpu | None) -> None:
        self.gpu = gpu

    def __enter__(self) -> None:
        if self.gpu is not None:
            self.gpu.exact, self.gpu.seconds, self.gpu.planning = False, STAND_IN_SECONDS, PLANNING

    def __exit__(self, *_: object) -> None:
        if self.gpu is not None:
            self.gpu.exact, self.gpu.seconds, self.gpu.planning = True, 0.0, 0.0


def memory_used() -> float:
    """MB of the GPU that are not free, whoever holds them; NaN without CUDA's runtime."""
    free, whole = ctypes.c_size_t(), ctypes.c_size_t()
    cuda = pinned.runtime()
    if cuda is None or cuda.cudaMemGetInfo(ctypes.byref(free), ctypes.byref(whole)):
        return float("nan")
    return (whole.value - free.value) / 1e6


def describe_gpu() -> str:
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown GPU"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cuda", description="Measure packages on a GPU.")
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER", help="a package: STORE/NAME/VERSION")
    parser.add_argument("--seconds", type=float, default=480, help="after which no further part is begun (default: 480)")
    parser.add_argument("--stand-in", action="store_true", help="without a GPU: show that the script works")
    options = parser.parse_args(arguments)
    until = time.monotonic() + options.seconds
    gpu = Gpu() if options.stand_in else None
    with cuda_stand_in.installed(gpu) if gpu else nullcontext():
        print(f"# {'a stand-in' if gpu else describe_gpu()}, ONNX Runtime {onnxruntime.__version__}")
        for folder in options.folders or [registry.resolve(registry.STORE, BUNDLED)]:
            Bench(folder, until, gpu).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
