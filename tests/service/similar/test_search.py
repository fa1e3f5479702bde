"""service/similar/search.py and bounds.py: the same rows as a comparison with all of them, in the same order."""

import numpy as np
import pytest

from service.similar import bounds, search
from service.similar.bounds import Floats
from service.similar.search import nearest
from tests.service.similar.indexes import make_vectors

VECTORS = make_vectors(5000, 512)
VECTORS[[100, 4000]] = VECTORS[50]  # copies
BASIS = bounds.basis_of(VECTORS)
STAND_INS = bounds.stand_in(VECTORS, BASIS)


def all_compared(vectors: Floats, query: Floats, k: int) -> tuple[list[int], list[float]]:
    """Numbers and products of the nearest rows, of equal ones the lower number first."""
    products = (vectors.astype(np.float64) @ query.astype(np.float64)).round(search.DIGITS)
    order = sorted(range(len(vectors)), key=lambda i: (-products[i], i))[:k]
    return order, [float(products[i]) for i in order]


def queries() -> list[Floats]:
    """Like some rows, and like none."""
    random = np.random.default_rng(1)
    near = VECTORS[random.integers(0, 5000, 40)] + random.normal(size=(40, 512)).astype(np.float32) * 0.01
    far = np.abs(random.normal(size=(3, 512))).astype(np.float32)
    return [query / np.linalg.norm(query) for query in (*near, *far, VECTORS[50], VECTORS[4000])]


@pytest.mark.parametrize("k", [1, 10, 100])
@pytest.mark.parametrize("bounded", [False, True], ids=["all vectors", "by stand-ins"])
def test_recall_is_1_in_the_order_of_a_comparison_with_all(bounded: bool, k: int) -> None:
    for query in queries():
        rows, products = nearest(VECTORS, query, k, STAND_INS, BASIS) if bounded else nearest(VECTORS, query, k)
        assert (rows.tolist(), products.tolist()) == all_compared(VECTORS, query, k)


def test_copies_come_in_the_order_of_their_numbers() -> None:
    assert nearest(VECTORS, VECTORS[4000], 3, STAND_INS, BASIS)[0].tolist() == [50, 100, 4000]


def test_stand_ins_never_tell_less_than_the_vectors() -> None:
    found = STAND_INS @ STAND_INS[:500].T
    assert (found >= VECTORS @ VECTORS[:500].T - 1e-5).all()
    assert np.allclose(BASIS @ BASIS.T, np.eye(bounds.LEADING - 1), rtol=0, atol=1e-12)


def test_most_vectors_are_left_unread() -> None:
    left = [len(search.promising(VECTORS, query, 10, STAND_INS, BASIS, 1e-4)) for query in queries()[:40]]
    assert np.median(left) < len(VECTORS) / search.FEW


def test_more_than_there_are_is_all_there_are() -> None:
    rows, products = nearest(VECTORS[:3], VECTORS[1], 10)
    assert sorted(rows.tolist()) == [0, 1, 2]
    assert rows[0] == 1
    assert products[0] == pytest.approx(1, abs=1e-6)
    assert nearest(VECTORS[:1], VECTORS[1], 1)[0].tolist() == [0]


def test_a_picture_without_features_finds_something() -> None:
    rows, products = nearest(VECTORS, np.zeros(512, np.float32), 2, STAND_INS, BASIS)
    assert (rows.tolist(), products.tolist()) == ([0, 1], [0, 0])
