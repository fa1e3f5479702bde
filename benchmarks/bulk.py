"""hubel classify and the floor by turns, on the same images.

    python -m benchmarks.bulk FOLDER --package models/store/cifar10/2 --images 10000 --rounds 3

The images of FOLDER are copied, again and again, until there are as many as asked for; the floor has those of FOLDER in memory.
What is compared is the speed that the command tells, from the first image to the last; its start is told beside it.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path
from statistics import mean, median

from benchmarks import machine
from benchmarks.processes import ROOT
from benchmarks.results import Turn
from benchmarks.turns import FloorProcess

SPEED = re.compile(r"images in [\d.]+ s, ([\d.]+) images/s")
FLOOR_SECONDS = 10.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bulk", description="hubel classify beside the floor, by turns.")
    parser.add_argument("folder", type=Path, help="images, without folders in it")
    parser.add_argument("--package", type=Path, default=ROOT / "models/store/cifar10/2", help="STORE/NAME/VERSION")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    sources = sorted(options.folder.iterdir())
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "images"
        folder.mkdir()
        for number, source in enumerate(islice(cycle(sources), options.images)):
            shutil.copyfile(source, folder / f"{number:06}{source.suffix}")
        measure(options, folder)
    return 0


def measure(options: argparse.Namespace, folder: Path) -> None:
    machine.warn()
    package: Path = options.package.resolve()
    floor = FloorProcess(package, options.folder)
    ratios: list[float] = []
    try:
        before = floor.measure(Turn(FLOOR_SECONDS, 0.1)).rate
        for _ in range(options.rounds):
            speed, seconds = classify(package, folder)
            after = floor.measure(Turn(FLOOR_SECONDS, 0.1)).rate
            ratios.append(speed / mean((before, after)))
            started = seconds - options.images / speed
            print(
                f"floor {before:.1f}, bulk {speed:.1f}, floor {after:.1f} images/s: {ratios[-1]:.3f}; {started:.1f} s beside",
                flush=True,
            )
            before = after
    finally:
        floor.stop()
    print(
        f"{package.parent.name}: ratio to the floor {median(ratios):.3f}, median of n = {len(ratios)}, {options.images:,} images"
    )


def classify(package: Path, folder: Path) -> tuple[float, float]:
    """Images a second as it tells, and its seconds in all."""
    out = folder.parent / "table.jsonl"
    command = [sys.executable, "-m", "service", "classify", str(folder), "--out", str(out), "--overwrite"]
    model = {"HUBEL_STORE": str(package.parents[1]), "HUBEL_MODEL": f"{package.parent.name}:{package.name}"}
    began = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, env=os.environ | model, capture_output=True, text=True, check=True)
    found = SPEED.search(done.stderr)
    assert found is not None, done.stderr
    return float(found[1]), time.monotonic() - began


if __name__ == "__main__":
    sys.exit(main())
