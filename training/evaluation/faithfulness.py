"""Whether class activation maps say what a network goes by: ROAD, remove and debias (Rong et al. 2022, arXiv 2202.00449).

The pixels that a map says most for are taken out of an image and filled from around them, and so are those that it says least
for. If it is right, the probability of the answer falls much in the first case and little in the second: half the difference is
the score, 0 where the map says nothing. As such a score favours smooth maps, whatever they show, those of two baselines stand
beside it: the distance from the centre of the image, where things mostly are, and a map of random numbers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.evaluation.infill import Infill

REMOVED = (0.3, 0.6)  # shares of the pixels that are taken out
MAP, CENTRE, RANDOM = KINDS = ("map", "centre", "random")
TIE = 1e-3  # of a map of random numbers, added so that equal places come in some order
Pixels = NDArray[np.uint8]
Maps = NDArray[np.float32]
Answer = Callable[[Pixels], NDArray[np.floating]]  # pixels (n, height, width, 3) uint8 -> probabilities (n, classes)


@dataclass
class Scores:
    """Of each image, by the kind of map."""

    found: dict[str, list[float]] = field(default_factory=lambda: {kind: [] for kind in KINDS})

    def told(self) -> dict[str, dict[str, float]]:
        """Mean score and its standard error of each kind, and by how much maps are above each baseline, of the same images."""
        scores = {kind: np.array(values) for kind, values in self.found.items()}
        more = {f"above_{kind}": scores[MAP] - scores[kind] for kind in (CENTRE, RANDOM)}
        return {name: _mean(values) for name, values in (scores | more).items()}


def _mean(values: NDArray[np.floating]) -> dict[str, float]:
    error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0
    return {"score": round(float(values.mean()), 4), "error": round(float(error), 4)}


def road(answer: Answer, pixels: Pixels, maps: Maps, classes: Sequence[int] | NDArray[np.int64]) -> Scores:
    """pixels: (n, height, width, 3) uint8. maps: (n, h, w), of the class of each image, which is its answer."""
    random = np.random.default_rng(0)
    scores, shape, size = Scores(), (maps.shape[1], maps.shape[2]), pixels.shape[1:3]
    of_centre = [Infill(taken) for taken in masks(centre(shape), size)]
    for image, found, index in zip(pixels, maps, classes, strict=True):
        values = found / max(float(found.max()), 1e-12) + TIE * random.random(shape)
        of_map, of_random = ([Infill(taken) for taken in masks(each, size)] for each in (values, random.random(shape)))
        filled = [infill.fill(image, random) for infill in (*of_map, *of_centre, *of_random)]
        given = answer(np.stack(filled))[:, int(index)].reshape(len(KINDS), 2, len(REMOVED))
        most, least = given.mean(2).T
        for kind, score in zip(KINDS, (least - most) / 2, strict=True):
            scores.found[kind].append(float(score))
    return scores


def centre(shape: tuple[int, int]) -> NDArray[np.floating]:
    """(h, w): 1 in the middle, less with the distance from it."""
    down, across = (np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in shape)
    return 1 - np.hypot(down[:, None], across) / np.sqrt(2)


def masks(values: NDArray[np.floating], size: tuple[int, ...]) -> list[NDArray[np.bool_]]:
    """For a map (h, w), which pixels (height, width) are taken out: of those that it says most for each share of REMOVED, then of
    those that it says least for."""
    smooth = np.asarray(Image.fromarray(values.astype(np.float32)).resize((size[1], size[0]), Image.Resampling.BILINEAR))
    order = np.argsort(-smooth, axis=None, kind="stable")
    found: list[NDArray[np.bool_]] = []
    for ranked in (order, order[::-1]):
        for share in REMOVED:
            taken = np.zeros(smooth.size, np.bool_)
            taken[ranked[: max(1, round(share * smooth.size))]] = True
            found.append(taken.reshape(smooth.shape))
    return found


def likeness(first: Maps, second: Maps) -> float | None:
    """Mean correlation of two maps (n, h, w) of each image, of two classes: 1 where they are the same, so that a map says nothing
    about the class (Adebayo et al. 2018, arXiv 1810.03292); None where all are even."""
    a, b = (maps.reshape(len(maps), -1) - maps.mean((1, 2))[:, None] for maps in (first, second))
    lengths = np.sqrt((a**2).sum(1) * (b**2).sum(1))
    good = lengths > 0
    return round(float(((a * b).sum(1)[good] / lengths[good]).mean()), 4) if good.any() else None
