"""What each image file of a source is like: format, size, brightness, sharpness, and a small grey copy to compare.

Decoded by models.image.preprocess.
"""

import hashlib
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.errors import ImageError
from models.image.header import read_header
from models.image.preprocess import TURNED, decode, upright
from models.image.spec import InputSpec
from models.package.drift_reference import sharpness_of
from training.data.near_duplicates import SIDE, squeeze
from training.data.parallel import in_threads
from training.data.sources.source import Item, Source, reason

LOOK = InputSpec(height=128, width=128, resize=128)  # JPEGs of 768 pixels and more are decoded at a fraction of their size
SHARPNESS_SIDE = 256  # pixels; sharpness depends on the size it is measured at
COLOURED = 2.0  # mean distance between the channels, of 255, from which an image is not grey


@dataclass(frozen=True, slots=True)
class Facts:
    """One image. Lengths in pixels, as it is seen.

    turned: EXIF says that it is stored in another way than it is seen.
    coloured: it is not grey throughout.
    deviation: of the grey values of the small copy, of 255; low, high: 1 % of them are below and above.
    sharpness: variance of the Laplacian over the variance of the grey values; none in an image of one colour.
    file, pixels: digests, of the file and of what is seen.
    highest: value of a grey image of 16 bits, of 65535; None of others.
    """

    format: str
    width: int
    height: int
    turned: bool
    coloured: bool
    deviation: float
    low: int
    high: int
    sharpness: float | None
    file: bytes
    pixels: bytes
    highest: int | None = None


@dataclass(frozen=True)
class Look:
    """All images of a source that can be decoded, in the order of its parts.

    splits, items, facts: one each an image. small: (n, SIDE, SIDE) uint8, grey, squeezed into a square.
    left_out: "name: reason" by split.
    """

    source: Source
    splits: list[str]
    items: list[Item]
    facts: list[Facts]
    small: NDArray[np.uint8]
    left_out: dict[str, list[str]]

    def __len__(self) -> int:
        return len(self.items)

    @property
    def labels(self) -> list[str]:
        return [item.label for item in self.items]

    @property
    def groups(self) -> list[str]:
        return [item.group for item in self.items]

    @property
    def files(self) -> list[bytes]:
        return [facts.file for facts in self.facts]

    @property
    def seen(self) -> list[bytes]:
        return [facts.pixels for facts in self.facts]

    @property
    def classes(self) -> dict[str, tuple[str, ...]]:
        return {split: part.classes for split, part in self.source.parts.items()}


def look(source: Source) -> Look:
    """Read and decode every image of every part once."""
    listed = [(split, item) for split, part in source.parts.items() for item in part.items]
    left_out = {split: list(part.left_out) for split, part in source.parts.items()}
    small = np.empty((len(listed), SIDE, SIDE), np.uint8)

    def examine(i: int) -> Facts | str:
        try:
            facts, small[i] = examine_file(listed[i][1].read())
        except (ImageError, OSError) as err:
            return reason(err)
        return facts

    found = list(in_threads(examine, len(listed), "inspect"))
    for (split, item), why in zip(listed, found, strict=True):
        if isinstance(why, str):
            left_out[split].append(f"{item.name}: {why}")
    kept = [i for i, facts in enumerate(found) if isinstance(facts, Facts)]
    facts = [facts for facts in found if isinstance(facts, Facts)]
    return Look(source, [listed[i][0] for i in kept], [listed[i][1] for i in kept], facts, small[kept], left_out)


def examine_file(data: bytes) -> tuple[Facts, NDArray[np.uint8]]:
    """Facts and the small grey copy, (SIDE, SIDE) uint8; raises ImageError."""
    header, stored = read_header(data), decode(data, spec=LOOK)
    image = upright(stored.image, stored.orientation)
    turned = stored.orientation in TURNED
    width, height = (header.height, header.width) if turned else (header.width, header.height)
    reduced = squeeze(image)
    channels = np.asarray(reduced).astype(np.int16)
    coloured = float((channels.max(2) - channels.min(2)).mean()) >= COLOURED
    seen = hashlib.blake2b(np.asarray(image).tobytes(), digest_size=16, salt=f"{width}x{height}".encode()).digest()
    file = hashlib.blake2b(data, digest_size=16).digest()
    small = np.asarray(reduced.convert("L"))
    values = np.sort(small, axis=None)
    low, high = int(values[len(values) // 100]), int(values[-1 - len(values) // 100])
    facts = Facts(
        format=header.format,
        width=width,
        height=height,
        turned=stored.orientation != 1,
        coloured=coloured,
        deviation=float(small.std()),
        low=low,
        high=high,
        sharpness=sharpness(image),
        file=file,
        pixels=seen,
        highest=highest(data) if header.format == "png" else None,  # no other has 16 bits
    )
    return facts, small


def highest(data: bytes) -> int | None:
    """The highest value in the file of a grey image of 16 bits; None of others. To be asked of files that can be decoded."""
    with Image.open(BytesIO(data)) as image:
        if not image.mode.startswith("I"):
            return None
        return int(np.asarray(image).max())


def sharpness(image: Image.Image) -> float | None:
    """Variance of the Laplacian of the grey image, its shorter side at most SHARPNESS_SIDE pixels, over the variance of
    its grey values: small where edges are soft, whatever the contrast (after Pech-Pacheco et al. 2000, ICPR)."""
    grey = image.convert("L")
    if (longer := SHARPNESS_SIDE / min(grey.size)) < 1:
        grey = grey.resize((round(grey.width * longer), round(grey.height * longer)), Image.Resampling.BILINEAR)
    return sharpness_of(np.asarray(grey, np.float32))
