"""Exact search: the rows of a matrix of unit vectors whose cosine with a query is highest."""

import numpy as np
from numpy.typing import NDArray

from service.similar.bounds import Doubles, Floats, stand_in

FIRST = 4  # times as many rows as are wanted are compared first, to know which product decides
FEW = 16  # stand-ins that leave more than a share of 1 / FEW help nothing: to read all rows in a row is quicker then
BLOCK = 2048  # rows picked at a time: their copy stays in the processor's cache
DIGITS = 12  # of a product in double precision that the order of its sum does not change
Numbers = NDArray[np.int64]


def nearest(
    vectors: Floats, query: Floats, k: int, bounds: Floats | None = None, basis: Doubles | None = None
) -> tuple[Numbers, Doubles]:
    """The numbers of the k rows with the highest dot product with the query, highest first, and these products.

    vectors (n, d) and query (d,): float32, of length 1 at most. Of equal products the lower number comes first. bounds
    (n, LEADING) and basis, as of bounds.py: to leave most rows out unread; the result is the same.
    """
    n, d = vectors.shape
    rounding = d * float(np.finfo(np.float32).eps)  # more than a sum of d products in single precision can be off
    left = None if bounds is None or basis is None else promising(vectors, query, k, bounds, basis, rounding)
    if left is None or len(left) > n // FEW:
        left, products = np.arange(n), vectors @ query
    else:
        products = np.concatenate([vectors[left[b : b + BLOCK]] @ query for b in range(0, len(left), BLOCK)])
    close = left[products >= decisive(vectors, query, k, left, products) - rounding]
    exact = score(vectors, query, close)
    order = np.lexsort((close, -exact))[:k]
    return close[order], exact[order]


def promising(vectors: Floats, query: Floats, k: int, bounds: Floats, basis: Doubles, rounding: float) -> Numbers:
    """The rows that may be among the k nearest, as far as their stand-ins tell."""
    highest = bounds @ stand_in(query[None], basis)[0]
    return np.flatnonzero(highest >= decisive(vectors, query, k, np.arange(len(vectors)), highest) - rounding)


def decisive(vectors: Floats, query: Floats, k: int, rows: Numbers, estimates: Floats) -> float:
    """A product that k of the rows reach: the k-th highest among those with the highest estimates."""
    k, some = min(k, len(rows)), min(FIRST * k, len(rows))
    first = np.argpartition(estimates, len(rows) - some)[len(rows) - some :]
    return float(np.partition(score(vectors, query, rows[first]), some - k)[some - k])


def score(vectors: Floats, query: Floats, rows: Numbers) -> Doubles:
    """Dot products of some rows with the query, in double precision."""
    exact = query.astype(np.float64)
    return np.concatenate([vectors[rows[b : b + BLOCK]].astype(np.float64) @ exact for b in range(0, len(rows), BLOCK)]).round(
        DIGITS
    )
