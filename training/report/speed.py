"""How many images/s ONNX Runtime computes here, for each graph of a run and whatever this machine can compute it on."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from models.package import precision as precisions
from models.package.precision import GRAPHS, Precision
from training.data.pixels import Pixels
from training.publishing import export

BATCHES = (1, 16)
WARM, LEAST, SECONDS = 2, 5, 0.6  # calls before the clock starts; calls and seconds that it runs


def measure(run: Path, pixels: Pixels) -> list[dict[str, Any]]:
    """provider, precision, batch, images_per_second (by the median call) and calls; the logits alone are computed.

    pixels: (n, height, width, 3) uint8, real images.
    """
    ways: list[tuple[str, Precision]] = [
        (provider, precision)
        for provider in export.installed()
        for precision in precisions.computable(provider)
        if (run / GRAPHS[precision]).is_file()
    ]
    found: list[dict[str, Any]] = []
    for provider, precision in tqdm(ways, "speed", unit=" ways", leave=False):
        session = export.open_session(run / GRAPHS[precision], provider, precision)
        for batch in BATCHES:
            images = pixels[np.arange(batch) % len(pixels)]
            seconds = seconds_of(partial(session.run, ["logits"], {"images": images}))
            rate = batch / float(np.median(seconds))
            found.append(
                {
                    "provider": provider,
                    "precision": precision,
                    "batch": batch,
                    "images_per_second": round(rate, 1),
                    "calls": len(seconds),
                }
            )
    return found


def seconds_of(call: Callable[[], object]) -> list[float]:
    """Seconds of each call."""
    for _ in range(WARM):
        call()
    seconds: list[float] = []
    while len(seconds) < LEAST or sum(seconds) < SECONDS:
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return seconds
