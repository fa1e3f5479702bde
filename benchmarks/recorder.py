"""What it costs a request that its answer is signed, its image kept and its drift noted: ``python -m benchmarks.recorder``.

Microseconds of the event loop for each image, the median of 15 rounds of 200 answers, in turns; and of the network, where an
image is answered with its features. The package is the bundled one.
"""

import asyncio
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, cast

import numpy as np

from benchmarks.photos import make_photo
from models.captures import captured
from models.registry import registry
from service.http.request import Request, new_id
from service.inference.job import Job
from service.inference.postprocess import classify
from service.inference.session import OnnxSession
from service.monitoring.answer_token import AnswerTokens
from service.monitoring.capture import DAY, MB, Bounds, Capture
from service.monitoring.drift import Drift
from service.monitoring.recorder import Recorder
from service.telemetry.metrics import DriftGauges

ROUNDS, ANSWERS = 15, 200
PAUSE = 0.5  # between rounds, for what is kept to be written


def request() -> Request:
    return Request("POST", "/v1/classify", "", {}, cast(Any, None), new_id())


def microseconds(what: Callable[[], object], n: int) -> float:
    began = time.perf_counter()
    for _ in range(n):
        what()
    return 1e6 * (time.perf_counter() - began) / n


def measure_network(runtime: OnnxSession) -> None:
    """With features and without, by size of batch."""
    spec = runtime.manifest.input
    pixels = np.random.default_rng(0).integers(0, 256, (16, spec.height, spec.width, 3)).astype(np.uint8)
    print(f"{runtime.manifest.id} on {runtime.provider} in {runtime.precision}")
    for images in (pixels[:1], pixels):
        ways = {name: partial(runtime.run, images, name.split()) for name in ("logits", "features logits")}
        found: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(10 * ROUNDS):
            for name, run in ways.items():
                found[name].append(microseconds(run, 3))
        print(f"batch of {len(images)}: " + ", ".join(f"{name} {median(times):.0f} us" for name, times in found.items()))


async def measure_answers(runtime: OnnxSession, folder: Path) -> None:
    """Of photographs; the folder of kept images is on the disk of temporary files."""
    spec = runtime.manifest.input
    pixels = np.zeros((spec.height, spec.width, 3), np.uint8)
    logits = runtime.run(pixels[None], ["logits"])["logits"][0]
    answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    answer.set_result({"logits": logits})
    job, result = Job(pixels, ("logits",), answer, 0.0), classify(logits, runtime.manifest)
    captured.prepare(folder / "kept")
    counted: list[str] = []
    keeper = Capture(folder / "kept", Bounds(10_000, DAY, 1000 * MB, 1.0, 3600), counted.append)
    drift, tokens = Drift(lambda _: None, DriftGauges("tiny")), AnswerTokens([bytes(64)], "tiny", DAY)
    ways = {"signed": Recorder(tokens, None, drift), "signed and kept": Recorder(tokens, keeper, drift)}
    taken: dict[str, list[float]] = {name: [] for name in ("signing alone", "verifying alone", *ways)}
    image = make_photo(0)
    for i in range(ROUNDS):
        sign = partial(tokens.sign, "web", f"{i:032x}", 0, 1, 3, 0.9, False)
        taken["signing alone"].append(microseconds(sign, ANSWERS))
        taken["verifying alone"].append(microseconds(partial(tokens.verify_recent, "web", sign()), ANSWERS))
        for name, recorder in ways.items():
            sent = [image + i.to_bytes(2)]  # another image to the hash, the same to a decoder
            take = partial(recorder.take, request(), sent, [job], [result], runtime.manifest)
            taken[name].append(microseconds(take, ANSWERS))
            await asyncio.sleep(PAUSE)
    for name, times in taken.items():
        print(f"{name}: {median(times):.1f} us an image")
    ways["signed and kept"].close()
    print(f"images of {len(image)} bytes: {dict(Counter(counted))}")


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        runtime = OnnxSession(registry.resolve(registry.STORE, "cifar10"), "cpu", "auto", threads=1)
        measure_network(runtime)
        asyncio.run(measure_answers(runtime, Path(folder)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
