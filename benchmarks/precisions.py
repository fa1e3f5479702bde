"""Speed of a package in every precision that its manifest allows, on every provider that is installed.

    python -m benchmarks.precisions FOLDER...    folders of packages; prints one table

Batches of 16 made images, no decoding; the ways take turns of SECONDS each.
"""

import sys
import time
from pathlib import Path
from statistics import median

import numpy as np

from models.image.preprocess import Pixels
from models.package.precision import PRECISIONS
from service import settings
from service.inference.backends import choice
from service.inference.session import DeviceError, OnnxSession

BATCH, TURNS, SECONDS = 16, 5, 0.7


def ways(folder: Path) -> dict[str, OnnxSession]:
    """A session for each provider and precision that this machine and package have."""
    found: dict[str, OnnxSession] = {}
    threads = settings.read().inference_threads()
    for provider in choice.PROVIDERS["auto"]:
        choice.PROVIDERS["cpu"] = (provider,)  # this one alone
        for precision in PRECISIONS:
            try:
                loaded = OnnxSession(folder, "cpu", precision, threads)
            except DeviceError:
                continue
            found[f"{loaded.provider.removesuffix('ExecutionProvider')} {precision}"] = loaded
    return found


def rate(loaded: OnnxSession, images: Pixels) -> float:
    """Images a second, over SECONDS after one batch."""
    loaded.run(images, ("logits",))
    began, count = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - began) < SECONDS:
        loaded.run(images, ("logits",))
        count += BATCH
    return count / elapsed


def measure(folder: Path) -> dict[str, list[float]]:
    sessions = ways(folder)
    spec = next(iter(sessions.values())).manifest.input
    images = np.random.default_rng(0).integers(0, 256, (BATCH, spec.height, spec.width, 3)).astype(np.uint8)
    rates: dict[str, list[float]] = {name: [] for name in sessions}
    for _ in range(TURNS):
        for name, loaded in sessions.items():
            rates[name].append(rate(loaded, images))
    return rates


def main(folders: list[Path]) -> None:
    print(f"| model | computed by | images/s, median of {TURNS} | lowest, highest |\n| --- | --- | ---: | ---: |")
    for folder in folders:
        for name, values in measure(folder).items():
            print(f"| {folder.parent.name} | {name} | {median(values):.0f} | {min(values):.0f}, {max(values):.0f} |", flush=True)


if __name__ == "__main__":
    main([Path(folder) for folder in sys.argv[1:]])
