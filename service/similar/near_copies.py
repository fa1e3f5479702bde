"""Groups of images in an index whose feature vectors are nearly the same: copies that were mirrored, cropped or saved again.

training/data/near_duplicates.py compares pictures; this compares what a network makes of them, and so finds pictures of the
same thing too.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator

import numpy as np
from msgspec import Struct

from service.similar.bounds import Floats
from service.similar.index import Index
from service.similar.search import Numbers

THRESHOLD = 0.85
BLOCK = 2048  # vectors that are compared with as many others at a time


class Group(Struct):
    """Images that a chain of pairs ties, each at least as alike as the threshold. score: cosine of its least alike pair."""

    score: float
    images: list[str]


def near_copies(index: Index, threshold: float, advance: Callable[[int], object] = lambda _: None) -> list[Group]:
    """The groups of at least two images, the most alike first. Of files with the same content the first stands for all.

    advance: told how many more images have been compared with those before them.
    """
    n = index.manifest.images
    first = _first_of_equal(index)
    ties = _Ties(n)
    for i in np.flatnonzero(first != np.arange(n)):
        ties.join(int(first[i]), int(i), 1.0)
    rows = np.unique(first)
    for a, b, score in _pairs(index, rows, threshold, advance):
        ties.join(a, b, score)
    groups = [Group(score, [index.name(i) for i in members]) for members, score in ties.groups()]
    return sorted(groups, key=lambda group: (-group.score, group.images))


def _first_of_equal(index: Index) -> Numbers:
    """For each image the number of the first with the same content, (n,)."""
    _, firsts, inverse = np.unique(index.hashes, axis=0, return_index=True, return_inverse=True)
    return firsts[inverse.ravel()]


def _pairs(index: Index, rows: Numbers, threshold: float, advance: Callable[[int], object]) -> Iterator[tuple[int, int, float]]:
    """Pairs of ``rows`` with a cosine of at least the threshold. Vectors whose stand-ins tell that it is lower are not read."""
    upper = index.vectors if index.bounds is None else index.bounds
    least = threshold - upper.shape[1] * float(np.finfo(np.float32).eps)
    for b in range(0, len(rows), BLOCK):
        left = rows[b : b + BLOCK]
        some = upper[left]
        for c in range(0, b + 1, BLOCK):
            right = rows[c : c + BLOCK]
            i, j = np.nonzero(some @ upper[right].T >= least)
            yield from _checked(index.vectors, left[i], right[j], threshold)
        advance(len(left))


def _checked(vectors: Floats, first: Numbers, second: Numbers, threshold: float) -> Iterator[tuple[int, int, float]]:
    ahead = second < first  # each pair once, none with itself
    first, second = first[ahead], second[ahead]
    for b in range(0, len(first), BLOCK):
        a, c = first[b : b + BLOCK], second[b : b + BLOCK]
        scores = np.einsum("ij,ij->i", vectors[a], vectors[c], dtype=np.float64)
        for k in np.flatnonzero(scores >= threshold):
            yield int(a[k]), int(c[k]), float(scores[k])


class _Ties:
    """Which of n images belong together (a disjoint-set forest)."""

    def __init__(self, n: int) -> None:
        self.above = list(range(n))
        self.scores: dict[int, float] = {}

    def root(self, i: int) -> int:
        while self.above[i] != i:
            self.above[i] = self.above[self.above[i]]
            i = self.above[i]
        return i

    def join(self, a: int, b: int, score: float) -> None:
        low, high = sorted((self.root(a), self.root(b)))
        found = min(score, self.scores.get(low, 1.0), self.scores.pop(high, 1.0) if high != low else 1.0)
        self.above[high] = low
        self.scores[low] = found

    def groups(self) -> list[tuple[list[int], float]]:
        members: defaultdict[int, list[int]] = defaultdict(list)
        for i in range(len(self.above)):
            members[self.root(i)].append(i)
        return [(found, round(min(1.0, self.scores[root]), 6)) for root, found in members.items() if len(found) > 1]
