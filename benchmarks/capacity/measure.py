"""A curve, measured: the network's passes alone, then the service by one client, by many, and by requests that come at random."""

import os
import random
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks import environments, fronts, poisson, processes, wrk
from benchmarks.arrivals import Arrivals
from benchmarks.bodies import Bodies, single
from benchmarks.capacity.curve import Curve, Pass, Point
from benchmarks.classifier import Classifier
from benchmarks.numbers import Spread
from benchmarks.processes import Server
from benchmarks.systems import HUBEL
from service import settings

CLIENTS = 32
SHARES = (0.5, 0.7, 0.9)
LEAST_PASSES = 20
PAUSE = 0.02  # seconds, on average, before a pass that is measured


def measure(model: str, photos: Sequence[bytes], rounds: int, seconds: float) -> Curve:
    """seconds: of each measurement; the open loops take four times as long. Raises PrepareError and StartError."""
    package = environments.package_of(model)
    passes, decoding = passes_of(package, photos, seconds)
    sent = single(HUBEL, photos)
    with serving(package, sent) as server:
        return curve_of(model, server, sent, passes, decoding, rounds, seconds)


def passes_of(package: Path, photos: Sequence[bytes], seconds: float) -> tuple[list[Pass], list[float]]:
    """Passes of 1, 2, 4, ... images up to what the service computes together, and decoding, in milliseconds.

    Before each pass its photographs are decoded, so that caches are as in a service; and before a pass of one, which a service
    computes that is not busy, there is a pause: a small network that runs over and over again takes half the time.
    """
    os.environ["BENCH_PACKAGE"] = str(package)
    classifier, draw = Classifier(), random.Random(0)
    largest = classifier.settings.max_batch or classifier.session.way.batch
    sizes = [*(2**i for i in range(largest.bit_length()) if 2**i < largest), largest]
    passes, decoding = list[Pass](), list[float]()
    for size in sizes:
        spans, until = list[float](), time.perf_counter() + seconds
        while time.perf_counter() < until or len(spans) < LEAST_PASSES:
            if size == 1:
                time.sleep(draw.expovariate(1 / PAUSE))
            began = time.perf_counter()
            pixels = np.stack([classifier.decode(draw.choice(photos)) for _ in range(size)])
            decoded = time.perf_counter()
            classifier.session.run(pixels, classifier.manifest.answer_outputs)
            spans.append(1000 * (time.perf_counter() - decoded))
            if size == 1:
                decoding.append(1000 * (decoded - began))
        passes.append(Pass(size, sorted(spans)))
    return passes, decoding


@contextmanager
def serving(package: Path, sent: Bodies) -> Generator[Server]:
    """The service, up and warm."""
    port, began = processes.free_port(), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        command = [environments.python_of(HUBEL.group), *HUBEL.command]
        server = processes.start(command, environments.variables(HUBEL, package, port), port, Path(folder) / "log")
        try:
            processes.wait_for_answer(server, sent, began)
            wrk.load(port, sent, CLIENTS, 2, server.cpu_seconds)
            server.wait_until_idle()
            yield server
        finally:
            server.stop()


def curve_of(
    model: str, server: Server, sent: Bodies, passes: list[Pass], decoding: list[float], rounds: int, seconds: float
) -> Curve:
    config, info = settings.read(), processes.info(server.port)
    fronts_ms, alone = zip(*(alone_of(server, sent, seconds) for _ in range(rounds)), strict=True)
    loops = Loops(server, sent, seconds)
    points = [loops.point(share, seed) for seed in range(rounds) for share in SHARES]
    many = loops.closed
    rates = [one.rate for one in many]
    return Curve(
        model=model,
        provider=str(info["provider"]),
        precision=str(info["precision"]),
        cores=settings.available_cores(),
        threads=config.inference_threads(),
        lanes=config.decoding_threads() * config.worker_count(),
        passes=passes,
        decode_ms=decoding,
        front_ms=median(fronts_ms),
        alone_ms=median(alone),
        wrk_ms=median(one.client_ms for one in many),
        clients=CLIENTS,
        capacity=Spread(median(rates), min(rates), max(rates), len(rates)),
        memory_mb=server.memory_mb(),
        points=points,
    )


def alone_of(server: Server, sent: Bodies, seconds: float) -> tuple[float, float]:
    """One client: milliseconds of the workers' CPU time for an image, and the median answer."""
    before, began = fronts.cpu_by_role(server)["worker"], time.perf_counter()
    seen = wrk.load(server.port, sent, 1, seconds, server.cpu_seconds)
    took = time.perf_counter() - began
    return 1000 * (fronts.cpu_by_role(server)["worker"] - before) / (seen.rate * took), seen.p50_ms


class Loops:
    """Open loops with a closed one before and after each, as the pace of a machine that others use too changes by the minute."""

    def __init__(self, server: Server, sent: Bodies, seconds: float) -> None:
        self.server, self.sent, self.seconds = server, sent, seconds
        self.closed = [self.close()]

    def close(self) -> wrk.Closed:
        found = wrk.load(self.server.port, self.sent, CLIENTS, self.seconds, self.server.cpu_seconds)
        self.server.wait_until_idle()
        return found

    def point(self, share: float, seed: int) -> Point:
        """At this share of the capacity that was just measured."""
        rate, seconds = share * self.closed[-1].rate, 4 * self.seconds
        seen = poisson.load(Arrivals(self.server.port, rate, seconds, seed=seed), self.sent)
        self.server.wait_until_idle()
        self.closed.append(self.close())
        good = seen.answers.get("200", poisson.Group(0, float("nan"), float("nan"), float("nan")))
        return Point(
            share,
            rate,
            seconds,
            seed,
            capacity=(self.closed[-2].rate + self.closed[-1].rate) / 2,
            client_ms=1000 * seen.client_cpu / seen.offered,
            p50_ms=good.p50_ms,
            p99_ms=good.p99_ms,
            failed=seen.sent + seen.unsent - good.count,
        )
