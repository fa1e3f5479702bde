"""The photographs that every system is asked about: a folder's, or ones made here at the sizes that cameras give."""

import os
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

LIMIT = 128  # a rotation of this many is enough for no cache to help
MADE = 48
COMMON, LARGER = ((500, 375), (375, 500), (500, 333)), ((1024, 768), (1600, 1200))
LARGER_EVERY = 16  # one photograph in so many is a larger one
QUALITY = 87


def given() -> tuple[list[bytes], str]:
    """The photographs of the folder that the environment names, else made ones; see load_photos."""
    folder = os.environ.get("HUBEL_BENCH_PHOTOS")
    return load_photos(Path(folder) if folder else None)


def load_photos(folder: Path | None) -> tuple[list[bytes], str]:
    """JPEG files and a sentence that says what they are. A folder with more than ``LIMIT`` gives evenly spaced ones.

    Raises:
        ValueError: there is no JPEG file in the folder.
    """
    if folder is None:
        photos = make_photos(MADE)
        origin = "made by the benchmark"
    else:
        files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
        if not files:
            raise ValueError(f"HUBEL_BENCH_PHOTOS is {folder}, which holds no *.jpg or *.jpeg file")
        photos = [path.read_bytes() for path in spaced(files, LIMIT)]
        origin = "of a folder (`HUBEL_BENCH_PHOTOS`)"
    return photos, f"{len(photos)} photographs {origin}, {describe(photos)}"


def spaced(files: Sequence[Path], limit: int) -> list[Path]:
    """At most ``limit`` of them, from first to last."""
    count = min(limit, len(files))
    return [files[i * len(files) // count] for i in range(count)]


def describe(photos: Sequence[bytes]) -> str:
    """The middle size in pixels and in kilobytes, and the largest."""
    sizes = sorted((Image.open(BytesIO(photo)).size for photo in photos), key=lambda size: size[0] * size[1])
    (width, height), (widest, highest) = sizes[len(sizes) // 2], sizes[-1]
    kilobytes = float(np.median([len(photo) for photo in photos])) / 1000
    return f"median {width}x{height} pixels and {kilobytes:.0f} kB, up to {widest}x{highest}"


def make_photos(count: int, seed: int = 0) -> list[bytes]:
    """JPEG files that weigh and decode as photographs do; the same for the same seed."""
    return [make_photo(i, seed) for i in range(count)]


def make_photo(number: int, seed: int = 0) -> bytes:
    """A sky that fades, hills and blobs with sharp edges, and grain."""
    sizes = LARGER if number % LARGER_EVERY == LARGER_EVERY - 1 else COMMON
    width, height = sizes[number // (LARGER_EVERY if sizes is LARGER else 1) % len(sizes)]
    random = np.random.default_rng((seed, number))
    image = smooth(random, width, height, cells=6) * 0.7 + smooth(random, width, height, cells=40) * 0.3
    for _ in range(12):
        image[blob(random, width, height)] = random.uniform(20, 235, 3)
    image += smooth(random, width, height, cells=120) * 0.35 - 45
    image += random.normal(0, random.uniform(2, 8), (height, width, 1))
    file = BytesIO()
    Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def smooth(random: np.random.Generator, width: int, height: int, cells: int) -> NDArray[np.float64]:
    """A field (height, width, 3) of colours that flow into one another."""
    coarse = Image.fromarray(random.integers(0, 256, (cells, cells, 3)).astype(np.uint8))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(np.float64)


def blob(random: np.random.Generator, width: int, height: int) -> NDArray[np.bool_]:
    """A mask (height, width) of one ellipse somewhere."""
    y, x = np.ogrid[:height, :width]
    middle_y, middle_x = random.uniform(0, 1, 2) * (height, width)
    radius_y, radius_x = random.uniform(0.03, 0.2, 2) * (height, width)
    return ((y - middle_y) / radius_y) ** 2 + ((x - middle_x) / radius_x) ** 2 < 1
