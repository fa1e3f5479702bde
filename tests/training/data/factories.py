"""Makers of pictures that are alike or strangers, and of a look at them."""

from collections.abc import Sequence
from functools import cache, partial

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from tests.factories import encode
from training.data.sources.source import Item, Part, Source
from training.inspection.facts import Look, examine_file


def make_look(files: Sequence[bytes], splits: Sequence[str] | None = None, labels: Sequence[str] | None = None) -> Look:
    """As from a folder of these files; all are images."""
    labels = labels or ["cat"] * len(files)
    pairs = enumerate(zip(files, labels, strict=True))
    items = [Item(f"{i}.png", f"{i}.png", label, partial(bytes, data)) for i, (data, label) in pairs]
    found = [examine_file(data) for data in files]
    small = np.stack([small for _, small in found])
    source = Source(Part("train", tuple(sorted(set(labels))), tuple(items)))
    return Look(source, list(splits or ["train"] * len(files)), items, [facts for facts, _ in found], small, {"train": []})


@cache
def photo(seed: int, side: int = 128) -> Image.Image:
    """Noise of all scales, as photographs have it."""
    random = np.random.default_rng(seed)
    layers = [
        Image.fromarray(random.integers(0, 256, (n, n, 3)).astype(np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
        for n in (3, 7, 20, 60)
    ]
    image = layers[0]
    for layer in layers[1:]:
        image = Image.blend(image, layer, 0.35)
    return image


def digit(seed: int) -> Image.Image:
    """A white stroke on black, 28x28, as somebody writes a 1."""
    random = np.random.default_rng(seed)
    image, lean = Image.new("L", (112, 112)), random.uniform(0, 20)
    points = [(56 + lean * (1 - t) + random.uniform(-6, 6), 16 + 40 * t + random.uniform(-6, 6)) for t in range(3)]
    ImageDraw.Draw(image).line(points, fill=255, width=int(random.integers(8, 16)), joint="curve")
    return image.filter(ImageFilter.GaussianBlur(2)).resize((28, 28), Image.Resampling.BILINEAR)


def saved_anew(image: Image.Image) -> bytes:
    return encode(image, "JPEG", quality=40)
