"""training/data/cache.py: what is read once, and that two results never take the memory."""

import weakref

import numpy as np
from numpy.typing import NDArray

from training.data import cache

calls: list[int] = []
alive: list["weakref.ref[NDArray[np.uint8]]"] = []
held: list[int] = []  # results that were alive when another was made


@cache.once
def load(size: int) -> NDArray[np.uint8]:
    held.append(sum(ref() is not None for ref in alive))
    calls.append(size)
    result = np.zeros(size, np.uint8)
    alive.append(weakref.ref(result))
    return result


def test_the_same_is_given_again_within_and_read_anew_outside() -> None:
    calls.clear()
    with cache.images():
        assert load(3) is load(3)
        assert calls == [3]
    load(3)
    load(3)
    assert calls == [3, 3, 3]


def test_what_was_read_before_is_let_go_of_before_something_else_is_read() -> None:
    for kept in (calls, held, alive):
        kept.clear()
    with cache.images():
        for size in (3, 4, 4, 3):
            load(size)
    assert calls == [3, 4, 3]
    assert held == [0, 0, 0]
    assert not any(ref() is not None for ref in alive)
