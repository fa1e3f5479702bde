"""Which images of a source are the same picture: exactly, or nearly.

Two pictures are nearly the same where their small grey copies, freed of brightness and contrast, correlate: whole, and in
their details. That finds copies that were saved again, resized or brightened. A difference hash of 64 bits finds fewer of
small images and takes strangers for copies where there is little detail: LOG.md has the figures. Pairs are looked up in a
tree.
"""

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import uniform_filter
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree
from tqdm import tqdm

from models.image.preprocess import Stored, upright

SIDE = 32  # of the small copy, in pixels
QUICKER = 3.0  # a large image is first reduced by whole numbers to so many times the small copy, which is quicker
ALIKE = 0.97  # correlation at half the size, from which a pair is looked at closer
CLOSER = 0.85  # and at the full size, where noise and softness count more
CLOSER_FLAT = 0.99  # the same where most of the picture is flat: two handwritten ones reach 0.97 by chance
DETAILS, BLUR = 0.85, 5  # and of what a blur over so many pixels takes away: sea and sky are alike without the ship
FLAT_STEP, FLAT_SHARE = 3, 0.5  # flat is a pixel whose neighbours differ by at most so much of 255; most is more than this
DETAILS_FLAT, CHAIN = 0.97, 20  # and to be tied; of groups of at most so many images
PLAIN = 4.0  # deviation of 255 below which an image is of one colour, and like all others that are
DIMENSIONS = 16  # of the tree
NEIGHBOURS = 8  # of each image that are compared with it
CHUNK = 10_000  # images or pairs at a time

Floats = NDArray[np.float32]


class Pair(NamedTuple):
    """Two images that are nearly the same picture, the first index the lower.

    likeness: correlation of their small copies. flat: there is little to see in them, so it can be chance.
    """

    first: int
    second: int
    likeness: float
    flat: bool


def squeeze(image: Image.Image) -> Image.Image:
    """The whole image in SIDE x SIDE pixels."""
    return image.resize((SIDE, SIDE), Image.Resampling.BILINEAR, reducing_gap=QUICKER)


def small_copy(stored: Stored) -> NDArray[np.uint8]:
    """Grey and upright, (SIDE, SIDE) uint8."""
    return np.asarray(upright(squeeze(stored.image), stored.orientation).convert("L"))


def exact_copies(pictures: Iterable[Hashable]) -> list[list[int]]:
    """Indices of equal ones, for each that is there more than once."""
    groups: defaultdict[Hashable, list[int]] = defaultdict(list)
    for i, one in enumerate(pictures):
        groups[one].append(i)
    return [group for group in groups.values() if len(group) > 1]


def copies_of(measured: NDArray[np.uint8], small: NDArray[np.uint8]) -> set[int]:
    """Which images, by their small copies, are near copies of one that is measured on; those that may be so by chance are
    none."""
    pairs, n = near_copies(np.concatenate([measured, small]), []), len(measured)
    return {pair.second - n for pair in pairs if pair.first < n <= pair.second and not pair.flat}


class Alike(NamedTuple):
    """m pairs of images whose halved copies correlate: indices (m, 2), the lower first; correlation of the small copies and of
    their details, and whether both are mostly flat, (m,)."""

    pairs: NDArray[np.int64]
    likeness: Floats
    details: Floats
    flat: NDArray[np.bool_]


NONE = Alike(np.empty((0, 2), np.int64), np.empty(0, np.float32), np.empty(0, np.float32), np.empty(0, np.bool_))


def near_copies(small: NDArray[np.uint8], exact: Sequence[Sequence[int]]) -> list[Pair]:
    """Pairs of images that are nearly the same, the likest first. small: (n, SIDE, SIDE), as ``small_copy``.

    Of exact copies the first stands for all; images of one colour are skipped.
    """
    found = compare(small, exact)
    same = (found.likeness >= np.where(found.flat, CLOSER_FLAT, CLOSER)) & (found.details >= DETAILS)
    pairs = [
        Pair(int(found.pairs[k, 0]), int(found.pairs[k, 1]), float(found.likeness[k]), bool(found.flat[k]))
        for k in np.flatnonzero(same)
    ]
    return sorted(pairs, key=lambda pair: -pair.likeness)


def tied(small: NDArray[np.uint8], exact: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """Pairs of images that may be of one scene, (m, 2): a few too many do no harm, for they only stay together.

    Where most is flat, as before a plain wall, details decide; digits are as alike as that by chance, and one would lead to the
    next, so such ties count in small groups alone.
    """
    found = compare(small, exact)
    sure = ~found.flat & (found.likeness >= CLOSER) & (found.details >= DETAILS)
    likely = found.flat & (found.likeness >= ALIKE) & (found.details >= DETAILS_FLAT)
    group = components(len(small), found.pairs[sure | likely])
    few = np.bincount(group, minlength=len(small))[group[found.pairs[:, 0]]] <= CHAIN
    return found.pairs[sure | (likely & few)]


def components(n: int, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """The number of each image's group, (n,), where pairs tie images."""
    links = coo_matrix((np.ones(len(pairs), np.bool_), (pairs[:, 0], pairs[:, 1])), (n, n))
    return connected_components(links, directed=False)[1].astype(np.int64)


def compare(small: NDArray[np.uint8], exact: Sequence[Sequence[int]]) -> Alike:
    """Of all images but those of one colour and exact copies after the first."""
    compared = ~is_plain(small)
    compared[[i for group in exact for i in group[1:]]] = False
    index = np.flatnonzero(compared)
    if len(index) < 2:
        return NONE
    coarse = np.concatenate([normalise(halve(small[index[b : b + CHUNK]])) for b in range(0, len(index), CHUNK)])
    pairs = index[candidates(coarse)]
    if not len(pairs):
        return NONE
    parts: list[tuple[Floats, Floats, NDArray[np.bool_]]] = []
    for b in range(0, len(pairs), CHUNK):
        first, second = (small[pairs[b : b + CHUNK, side]] for side in (0, 1))
        flat = np.minimum(flat_share(first), flat_share(second)) > FLAT_SHARE
        parts.append((correlation(first, second), correlation(details(first), details(second)), flat))
    likeness, finer, flat = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Alike(pairs, likeness, finer, flat)


def is_plain(small: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Of one colour, (n,)."""
    chunks = (small[b : b + CHUNK].std(axis=(1, 2)) < PLAIN for b in range(0, len(small), CHUNK))
    return np.concatenate([np.empty(0, np.bool_), *chunks])


def candidates(vectors: Floats) -> NDArray[np.int64]:
    """Pairs of rows that correlate by ALIKE, (m, 2). vectors: (n, side * side), of mean 0 and length 1.

    They are looked up in a tree of few dimensions: a projection only brings points closer, so what is near stays near.
    """
    points = vectors @ waves(math.isqrt(vectors.shape[1]))
    tree, radius = KDTree(points), float(np.sqrt(2 - 2 * ALIKE))  # the distance of two rows that correlate so
    found: list[NDArray[np.int64]] = []
    for b in tqdm(range(0, len(points), CHUNK), "compare", leave=False, disable=len(points) <= CHUNK):
        _, numbers = tree.query(points[b : b + CHUNK], k=NEIGHBOURS + 1, distance_upper_bound=radius, workers=-1)
        near = np.asarray(numbers)
        row, column = np.nonzero(near < len(points))  # where there is no further neighbour stands their number
        pairs = np.sort(np.stack([row + b, near[row, column]], 1), 1)
        alike = (vectors[pairs[:, 0]] * vectors[pairs[:, 1]]).sum(1) >= ALIKE
        found.append(pairs[alike & (pairs[:, 0] < pairs[:, 1])])
    return np.unique(np.concatenate(found), axis=0)


def waves(side: int) -> Floats:
    """The longest DIMENSIONS waves of the discrete cosine transform but the constant one, (side * side, DIMENSIONS): of
    length 1 and orthogonal. Pictures differ most in them (72 % of the variance of CIFAR-10; the best 16 directions: 73 %)."""
    middles = (np.arange(side) + 0.5) * np.pi / side
    numbers = sorted(((u, v) for u in range(side) for v in range(side) if u + v), key=lambda n: n[0] ** 2 + n[1] ** 2)
    found = [np.outer(np.cos(u * middles), np.cos(v * middles)).ravel() for u, v in numbers[:DIMENSIONS]]
    return np.stack([wave / np.linalg.norm(wave) for wave in found], 1).astype(np.float32)


def halve(small: NDArray[np.uint8]) -> Floats:
    """(n, side, side) -> (n, side / 2, side / 2), weights 1 3 3 1 along each side: softened, so that a shift by half a
    pixel or what a JPEG adds changes little."""
    padded = np.pad(small, ((0, 0), (1, 1), (1, 1)), mode="edge").astype(np.float32)
    rows = padded[:, :-3:2] + 3 * padded[:, 1:-2:2] + 3 * padded[:, 2:-1:2] + padded[:, 3::2]
    halved = rows[:, :, :-3:2] + 3 * rows[:, :, 1:-2:2] + 3 * rows[:, :, 2:-1:2] + rows[:, :, 3::2]
    return np.asarray(halved / 64, np.float32)


def normalise(images: NDArray[np.uint8] | Floats) -> Floats:
    """(n, h, w) -> (n, h * w), each row with mean 0 and length 1: the product of two is their correlation."""
    rows = images.reshape(len(images), -1).astype(np.float32)
    rows = np.asarray(rows - rows.mean(1, keepdims=True), np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-6), np.float32)


def details(small: NDArray[np.uint8]) -> Floats:
    """(n, side, side) -> (n, side / 2, side / 2): the halved image less its blurred self."""
    halved = halve(small)
    return halved - np.asarray(uniform_filter(halved, BLUR, mode="nearest", axes=(1, 2)), np.float32)


def correlation(first: NDArray[np.uint8] | Floats, second: NDArray[np.uint8] | Floats) -> Floats:
    """Of each image with its other, (n,)."""
    return (normalise(first) * normalise(second)).sum(1)


def flat_share(small: NDArray[np.uint8]) -> Floats:
    """Share of the pixels, (n,), that differ little from the next ones to the right and below."""
    signed = small.astype(np.int16)
    right, below = np.abs(np.diff(signed, axis=2))[:, :-1], np.abs(np.diff(signed, axis=1))[:, :, :-1]
    return ((right <= FLAT_STEP) & (below <= FLAT_STEP)).mean(axis=(1, 2), dtype=np.float32)
