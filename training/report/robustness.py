"""How accuracy falls when images get worse or the camera moves: compression, blur, light, rotation, shifts.

Each kind of disturbance changes the pixels that the network would get, (height, width, 3) uint8. What a rotation or a shift
brings in from outside is the image mirrored at its edges.
"""

from collections.abc import Callable
from functools import partial
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter
from tqdm import tqdm

from training.data.dataset import ImageSet

Pixels = NDArray[np.uint8]
Answer = Callable[[Pixels], NDArray[np.float32]]
MOST_IMAGES, LEAST_IMAGES, SECONDS = 1000, 100, 40


class Kind(NamedTuple):
    """A way to disturb an image, and the strengths to try."""

    name: str
    unit: str
    change: Callable[[Pixels, float], Pixels]
    values: tuple[float, ...]


def compress(pixels: Pixels, quality: float) -> Pixels:
    """Through a JPEG file of ``quality``, with halved chroma."""
    file = BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=int(quality))
    return np.asarray(Image.open(file, formats=["JPEG"]))


def blur(pixels: Pixels, percent: float) -> Pixels:
    """By a Gaussian whose deviation is ``percent`` of the shorter side."""
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(percent / 100 * min(pixels.shape[:2]))))


def brighten(pixels: Pixels, factor: float) -> Pixels:
    """Every value times ``factor``, 255 at most."""
    return np.asarray(ImageEnhance.Brightness(Image.fromarray(pixels)).enhance(factor))


def rotate(pixels: Pixels, degrees: float) -> Pixels:
    """Counter-clockwise about the middle."""
    height, width, _ = pixels.shape
    around = max(height, width) // 2
    padded = Image.fromarray(np.pad(pixels, ((around, around), (around, around), (0, 0)), "symmetric"))
    turned = np.asarray(padded.rotate(degrees, Image.Resampling.BILINEAR))
    return turned[around : around + height, around : around + width]


def shift(pixels: Pixels, percent: float) -> Pixels:
    """To the right and down by ``percent`` of each side, in whole pixels."""
    height, width, _ = pixels.shape
    down, right = round(percent / 100 * height), round(percent / 100 * width)
    return np.pad(pixels, ((down, 0), (right, 0), (0, 0)), "symmetric")[:height, :width]


KINDS = (
    Kind("JPEG quality", "", compress, (90, 70, 50, 30, 20, 10)),
    Kind("blur", "% of the side", blur, (1, 2, 3, 5, 8)),
    Kind("brightness", "times", brighten, (0.25, 0.5, 0.75, 1.5, 2)),
    Kind("rotation", "degrees", rotate, (5, 15, 30, 45, 90, 180)),
    Kind("shift right and down", "% of the side", shift, (3.125, 6.25, 12.5, 25)),
)


def measure(answer: Answer, images: ImageSet, rate: float) -> dict[str, Any]:
    """Accuracy on disturbed images: ``samples``, ``plain``, the accuracy on the same images as they are, and of each kind
    its name, unit and ``points``, each a value with its accuracy.

    answer: gives logits (n, classes) of pixels (n, height, width, 3) uint8. rate: images/s that it answers; as many images are
    taken, evenly, as are answered in SECONDS or so: LEAST_IMAGES at least, MOST_IMAGES at most.
    """
    steps = sum(len(kind.values) for kind in KINDS) + 1
    n = min(len(images), max(LEAST_IMAGES, min(MOST_IMAGES, int(SECONDS * rate / steps))))
    chosen = images.subset(np.linspace(0, len(images) - 1, n).round().astype(np.int64))
    with tqdm(total=steps * n, desc="robustness", unit=" images", leave=False) as bar:

        def accuracy(change: Callable[[Pixels], Pixels]) -> float:
            answers = answer(np.stack([change(image) for image in chosen.pixels])).argmax(axis=1)
            bar.update(n)
            return round(float((answers == chosen.targets).mean()), 4)

        plain = accuracy(lambda image: image)
        kinds = [
            {
                "name": kind.name,
                "unit": kind.unit,
                "points": [{"value": v, "accuracy": accuracy(partial(_changed, kind.change, v))} for v in kind.values],
            }
            for kind in KINDS
        ]
    return {"samples": n, "plain": plain, "kinds": kinds}


def _changed(change: Callable[[Pixels, float], Pixels], value: float, pixels: Pixels) -> Pixels:
    return change(pixels, value)
