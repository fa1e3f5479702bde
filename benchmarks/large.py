"""What decoding large images costs: time of a core and memory, by format and size, as docs/security.md has them.

``python -m benchmarks.large`` makes noisy pictures of 12 to 64 MP of every format, decodes each whole in a process of its own
and prints megabytes of the file, seconds and bytes a pixel at the peak, the median and the greatest of three turns. A quarter
of an hour, 3 GB of memory.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

SIZES = ((4000, 3000), (6000, 4000), (8160, 6144), (9248, 6936))  # telephones and cameras, the last two of 50 and 64 MP
NOISE = 4.0  # standard deviation, of 255: about that of a photograph in daylight
TURNS = 3
FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    "JPEG": ("JPEG", {"quality": 90}),
    "JPEG, progressive": ("JPEG", {"quality": 90, "progressive": True}),
    "JPEG, progressive, quality 97, full chroma": ("JPEG", {"quality": 97, "subsampling": 0, "progressive": True}),
    "PNG": ("PNG", {"compress_level": 1}),
    "PNG with transparency": ("PNG", {"compress_level": 1}),
    "WebP": ("WEBP", {"quality": 80, "method": 0}),
    "WebP, lossless": ("WEBP", {"lossless": True, "quality": 0, "method": 0}),
}
DECODE = """
import re, sys, time
from models.image.spec import InputSpec
from models.image.preprocess import preprocess
def memory(what): return 1024 * int(re.search(what + r":\\s+(\\d+)", open("/proc/self/status").read())[1])
spec = InputSpec(height=32, width=32, resize=32)
file, warm = (open(path, "rb").read() for path in sys.argv[1:])
preprocess(warm, spec)
open("/proc/self/clear_refs", "w").write("5")
before, began = memory("VmRSS"), time.process_time()
preprocess(file, spec)
print(time.process_time() - began, memory("VmHWM") - before)
"""


def picture(width: int, height: int) -> Image.Image:
    """A smooth picture under noise."""
    random = np.random.default_rng(0)
    few = Image.fromarray(random.integers(30, 226, (6, 8, 3)).astype(np.uint8))
    pixels = np.array(few.resize((width, height), Image.Resampling.BICUBIC))
    noise = random.normal(0, NOISE, (1000, width, 3)).astype(np.float32)
    for top in range(0, height, len(noise)):
        rows = pixels[top : top + len(noise)]
        rows[:] = (rows + noise[: len(rows)]).clip(0, 255).astype(np.uint8)
    return Image.fromarray(pixels)


def measure(folder: Path, size: tuple[int, int], turns: int) -> Iterator[tuple[str, int, float, float]]:
    """Of every format: its name, bytes of the file, seconds, bytes a pixel."""
    image = picture(*size)
    for name, (format, options) in FORMATS.items():
        file, warm = folder / "large", folder / "small"
        kind = image.convert("RGBA") if "transparency" in name else image
        kind.save(file, format, **options)
        kind.crop((0, 0, 8, 8)).save(warm, format, **options)
        found = [decode(file, warm) for _ in range(turns)]
        yield name, file.stat().st_size, median(f[0] for f in found), max(f[1] for f in found) / (size[0] * size[1])


def decode(file: Path, warm: Path) -> tuple[float, float]:
    """Seconds of a core and bytes, in another process; ``warm`` is a small file of the same kind that it decodes first."""
    done = subprocess.run([sys.executable, "-c", DECODE, file, warm], capture_output=True, text=True, check=True)
    seconds, grown = map(float, done.stdout.split())
    return seconds, grown


def main(sizes: tuple[tuple[int, int], ...] = SIZES, turns: int = TURNS) -> None:
    print("| format | pixels | file | seconds of a core | bytes a pixel |\n| --- | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder:
        for width, height in sizes:
            for name, length, seconds, each in measure(Path(folder), (width, height), turns):
                print(f"| {name} | {width}x{height} | {length / 1e6:.1f} MB | {seconds:.2f} | {each:.1f} |", flush=True)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    main()
