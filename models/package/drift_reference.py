"""What the images of a model are usually like, and how far others are from that: reference.npz of a package.

Training writes it from held-out images, the service compares its traffic with it. docs/drift.md says what the figures mean.
"""

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.errors import ImageError, PackageError
from models.image.header import read_header
from models.package import npz

FILE = "reference.npz"
MAX_BYTES = 2**26  # unpacked
DIRECTIONS = 32  # principal ones of the features that are compared; what lies outside of them is one figure
QUANTILES = np.linspace(0.1, 0.9, 9)
CONFIDENCE_EDGES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999)  # fixed: quantiles lie too near to 1 to compare
Floats = NDArray[np.float32]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Reference:
    """Counts of answers by class and by confidence; of brightness, sharpness and size the edges of bins and the counts in
    them; the mean of the features (d,), their principal directions (k, d), the deviations along those (k,), and the root
    mean square of what lies outside of them, (1,)."""

    classes: Counts
    confidence: Counts
    brightness_edges: Floats
    brightness: Counts
    sharpness_edges: Floats
    sharpness: Counts
    size_edges: Floats
    size: Counts
    mean: Floats
    directions: Floats
    deviations: Floats
    rest: Floats


def make(
    answers: NDArray[np.integer],
    confidence: NDArray[np.floating],
    classes: int,
    features: Floats,
    brightness: NDArray[np.floating],
    sharpness: NDArray[np.floating],
    size: NDArray[np.floating],
) -> Reference:
    """From what a graph answered for images, all (n,) but the features (n, d), which may be of fewer images."""
    (bright_edges, bright), (sharp_edges, sharp), (size_edges, sizes) = map(binned, (brightness, sharpness, size))
    mean, directions, deviations, rest = principal(features)
    return Reference(
        classes=np.bincount(answers, minlength=classes),
        confidence=counts(confidence, CONFIDENCE_EDGES),
        brightness_edges=bright_edges,
        brightness=bright,
        sharpness_edges=sharp_edges,
        sharpness=sharp,
        size_edges=size_edges,
        size=sizes,
        mean=mean,
        directions=directions,
        deviations=deviations,
        rest=rest,
    )


def binned(values: NDArray[np.floating]) -> tuple[Floats, Counts]:
    """Edges at the tenths of ``values``, and how many fall between them. A value that many have gets a bin of its own."""
    tenths = np.quantile(values, QUANTILES, method="lower").astype(np.float32)
    edges = np.unique(tenths)
    often = np.array([edge for edge in edges if (tenths == edge).sum() > 1], np.float32)
    edges = np.unique(np.concatenate([edges, np.nextafter(often, np.float32(np.inf))]))
    return edges, counts(values, edges)


def counts(values: NDArray[np.floating], edges: Floats | tuple[float, ...]) -> Counts:
    """How many values lie in each bin: below the first edge, from each edge to the next, and from the last on."""
    edges = np.asarray(edges, np.float32)
    return np.bincount(np.searchsorted(edges, values.astype(np.float32), side="right"), minlength=len(edges) + 1)


def principal(features: Floats, most: int = DIRECTIONS) -> tuple[Floats, Floats, Floats, Floats]:
    """Mean, ``most`` principal directions, deviations along them and the root mean square of the rest, of features (n, d)."""
    mean = features.mean(0, dtype=np.float64)
    centred = features - mean
    n, d = centred.shape
    small = n < d  # the smaller of the two matrices of products has the same directions
    values, vectors = np.linalg.eigh((centred @ centred.T if small else centred.T @ centred) / max(1, n - 1))
    k = min(most, d, max(1, n - 1))
    variances = values[::-1][:k].clip(0)
    directions = (centred.T @ vectors if small else vectors)[:, ::-1][:, :k].T
    directions = directions / np.linalg.norm(directions, axis=1, keepdims=True).clip(1e-12)
    rest = max(0.0, float(values.sum() - variances.sum()))
    parts = (mean, directions, np.sqrt(variances), np.sqrt([rest]))
    return tuple(part.astype(np.float32) for part in parts)  # pyright: ignore[reportReturnType]


def project(reference: Reference, features: Floats) -> Floats:
    """Features (d,) -> coordinates along the directions, and the length of what lies outside of them, (k + 1,)."""
    centred = features - reference.mean
    along = reference.directions @ centred
    return np.append(along, np.sqrt(max(0.0, float(centred @ centred - along @ along)))).astype(np.float32)


def stability(expected: Counts, found: Counts) -> float:
    """Population stability index of two histograms: the sum of (p - q) ln(p / q) over the bins, less what chance alone gives
    for so few images, (bins - 1) (1/n + 1/m) (Yurdakul 2018, Western Michigan University, dissertation 3208), at least 0.
    Half an image is added to each bin, so that an empty one is no infinity."""
    p, q = ((h + 0.5) / (h.sum() + 0.5 * len(h)) for h in (found, expected))
    by_chance = (len(p) - 1) * (1 / max(1, found.sum()) + 1 / max(1, expected.sum()))
    return max(0.0, float(((p - q) * np.log(p / q)).sum() - by_chance))


def distance(reference: Reference, coordinates: Floats) -> float:
    """Fréchet distance (Dowson and Landau 1982; of features: Heusel et al. 2017, arXiv 1706.08500) between the reference and
    images of ``coordinates`` (n, k + 1), as ``project`` gives them, over the variance of the reference: 0 where they are the
    same, 1 where they lie off, or spread, by as much as the images of the reference differ from one another."""
    along, outside = coordinates[:, :-1].astype(np.float64), coordinates[:, -1].astype(np.float64)
    deviations, rest = reference.deviations.astype(np.float64), float(reference.rest[0])
    covariance = np.atleast_2d(np.cov(along.T))
    roots = np.sqrt(np.linalg.eigvalsh(deviations[:, None] * covariance * deviations).clip(0)).sum()
    spread = float(np.trace(covariance)) + float((deviations**2).sum()) - 2 * float(roots)
    off = float((along.mean(0) ** 2).sum()) + (float(np.sqrt((outside**2).mean())) - rest) ** 2
    total = float((deviations**2).sum()) + rest**2
    return max(0.0, off + spread) / max(total, 1e-12)


def brightness(pixels: NDArray[np.uint8]) -> float:
    """Mean of an image (height, width, 3), 0 to 255."""
    return float(pixels.mean())


def sharpness(pixels: NDArray[np.uint8]) -> float:
    """Sharpness of an image (height, width, 3) as a network sees it, 0 where it is of one colour."""
    return sharpness_of(pixels.mean(2, dtype=np.float32)) or 0.0


def size(image: bytes) -> float:
    """The shorter side of an image file, in pixels; 0 of what is none."""
    try:
        header = read_header(image)
    except ImageError:
        return 0.0
    return float(min(header.width, header.height))


def sharpness_of(grey: Floats) -> float | None:
    """Variance of the Laplacian over the variance of the grey values (height, width): small where edges are soft, whatever
    the contrast (after Pech-Pacheco et al. 2000, ICPR). None of an image of one colour, or too small."""
    variance = float(grey.var())
    if min(grey.shape) < 3 or variance < 1:
        return None
    inner = grey[1:-1, 1:-1]
    laplacian = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * inner
    return float(laplacian.var()) / variance


def write(path: Path, reference: Reference) -> None:
    np.savez_compressed(path, **{field.name: getattr(reference, field.name) for field in fields(Reference)})


def read(data: bytes, classes: int, dimensions: int) -> Reference:
    """What the bytes of reference.npz say; raises PackageError where that does not fit a graph of these outputs."""
    try:
        reference = Reference(**npz.unpack(data, [field.name for field in fields(Reference)], MAX_BYTES))
        _check(reference, classes, dimensions)
    except Exception as err:  # NumPy's and zipfile's own classes share no base
        raise PackageError(f"{FILE} is not the reference of this graph: {err}") from err
    return reference


def _check(reference: Reference, classes: int, dimensions: int) -> None:
    k = len(reference.deviations)
    expected = {"classes": (classes,), "confidence": (len(CONFIDENCE_EDGES) + 1,), "mean": (dimensions,), "rest": (1,)}
    expected |= {"directions": (k, dimensions), "deviations": (k,)}
    for name in ("brightness", "sharpness", "size"):
        expected[name] = (len(getattr(reference, f"{name}_edges")) + 1,)
    for field in fields(Reference):
        array = getattr(reference, field.name)
        if field.name in expected and array.shape != expected[field.name]:
            raise ValueError(f"{field.name} has the shape {array.shape}, not {expected[field.name]}")
        if not np.isfinite(array).all():
            raise ValueError(f"{field.name} holds what is no number")
