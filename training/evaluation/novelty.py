"""How unlike an image is to those that a network was trained on, by its features: what is learnt of them, and the score.

Features (n, d) are scaled to length 1, and a Gaussian is laid through those of training images: of its covariance the principal
directions are kept, the rest counts alike in every direction (Tipping and Bishop 1999, Journal of the Royal Statistical Society B
61, 611). The distance from it (Mahalanobis; of features: Lee et al. 2018, arXiv 1807.03888) says little by itself, so it is told
as the share of held-out images that are nearer: `novelty`, 0 to 1. training/publishing/novelty.py computes the same in a graph.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from models.package.drift_reference import principal

FILE = "novelty.npz"
THRESHOLD = 0.97  # of the novelty: so many of the held-out images are nearer, 3 in 100 are not
TRAINING_IMAGES = 2500  # that the Gaussian is of, at most
DIRECTIONS, IMAGES_A_DIRECTION = 64, 10
LEAST = 20  # images, of those that are trained on and of those held out, that say something
LEVELS = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98)  # shares of the held-out images, between which is interpolated, and
BEYOND = 5  # held-out images, at least, that lie further than the last of these
HALVINGS, LEAST_STEP = 14, 1e-3
TINY = 1e-6
Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Gaussian:
    """mean: (d,). directions: (d, k), each divided by the deviation along it. surplus: (k,), what a direction counts for beyond
    the rest. rest: the variance in each other direction."""

    mean: NDArray[np.float32]
    directions: NDArray[np.float32]
    surplus: NDArray[np.float32]
    rest: NDArray[np.float32]

    def distance(self, features: Floats) -> Floats:
        """Of features (n, d): (n,), about 1 for what the Gaussian is of."""
        centred = unit(features) - self.mean
        along = centred @ self.directions
        squared = along**2 @ self.surplus + (centred**2).sum(1) / self.rest
        return np.sqrt(squared.clip(0) / len(self.mean))


@dataclass(frozen=True)
class Curve:
    """Distance -> novelty, straight lines between distances and shares, both (j,) and rising."""

    distances: NDArray[np.float32]
    shares: NDArray[np.float32]

    def novelty(self, distance: Floats) -> Floats:
        """Of distances (n,): (n,), from 0 to 1."""
        return np.interp(distance, self.distances, self.shares)


@dataclass(frozen=True)
class Reference:
    """What a network's training images are like, and what the distances of held-out ones are."""

    gaussian: Gaussian
    curve: Curve

    def novelty(self, features: Floats) -> Floats:
        """Of features (n, d): (n,), from 0 to 1."""
        return self.curve.novelty(self.gaussian.distance(features))


def unit(features: Floats) -> Floats:
    """Features (n, d) of length 1; those of length 0 stay."""
    return features / np.linalg.norm(features, axis=1, keepdims=True).clip(TINY)


def fit(trained: NDArray[np.float32], held_out: NDArray[np.float32]) -> Reference | None:
    """From features (n, d) of images that were trained on, and of others of the same classes; None where there are too few."""
    if min(len(trained), len(held_out)) < LEAST:
        return None
    gaussian = fit_gaussian(trained)
    return Reference(gaussian, fit_curve(gaussian.distance(held_out)))


def fit_gaussian(features: NDArray[np.float32]) -> Gaussian:
    n, d = features.shape
    k = max(1, min(DIRECTIONS, n // IMAGES_A_DIRECTION, d - 1))
    mean, directions, deviations, rest = principal(unit(features), k)
    variances = (deviations.astype(np.float64) ** 2).clip(TINY**2)
    left = max(float(rest[0]) ** 2 / max(1, d - k), TINY**2)
    return Gaussian(
        mean=mean,
        directions=(directions.T / np.sqrt(variances)).astype(np.float32),
        surplus=(1 - variances / left).astype(np.float32),
        rest=np.array(left, np.float32),
    )


def fit_curve(distances: Floats) -> Curve:
    """From the distances of held-out images (n,): through some of their quantiles, and beyond the last of these as an exponential
    tail, along which half of what is left remains from one point to the next."""
    levels = np.array([level for level in LEVELS if (1 - level) * len(distances) >= BEYOND] or [0.0])
    knots, first = np.unique(np.quantile(distances, levels).astype(np.float32)[::-1], return_index=True)
    beyond = distances[distances > knots[-1]] - knots[-1]
    step = max(float(beyond.mean()) if len(beyond) else 0.0, LEAST_STEP * float(knots[-1]), TINY)
    shares, halves = levels[::-1][first], np.arange(1, HALVINGS + 1)
    tail = 1 - (1 - shares[-1]) * np.append(0.5 ** halves[:-1], 0)
    points = np.concatenate([knots, knots[-1] + step * np.log(2) * halves]), np.concatenate([shares, tail])
    return Curve(*(point.astype(np.float32) for point in points))


def write(file: IO[bytes], reference: Reference) -> None:
    np.savez(file, **asdict(reference.gaussian), **asdict(reference.curve))


def read(path: Path) -> Reference:
    """Raises OSError, ValueError or KeyError where it is not there or damaged."""
    with np.load(path, allow_pickle=False) as found:
        gaussian, curve = ({name: found[name] for name in kind.__annotations__} for kind in (Gaussian, Curve))
    return Reference(Gaussian(**gaussian), Curve(**curve))
