"""service/similar/ordered_pass.py: all items once, in order, prepared ahead and no further than that."""

import threading
from collections.abc import Sequence

import pytest

from service.similar import ordered_pass


def doubled(part: Sequence[int]) -> list[int]:
    return [2 * item for item in part]


@pytest.mark.parametrize(("n", "size", "threads"), [(0, 4, 2), (1, 4, 2), (8, 4, 1), (101, 4, 3)])
def test_every_item_comes_once_in_order_in_parts(n: int, size: int, threads: int) -> None:
    parts = list(ordered_pass.run(range(n), doubled, lambda prepared: prepared, size, threads))
    assert [pair for part in parts for pair in part] == [(i, 2 * i) for i in range(n)]
    assert all(len(part) == size for part in parts[:-1])


def test_work_is_finished_in_the_calling_thread_and_prepared_in_others() -> None:
    where: dict[str, set[str]] = {"prepare": set(), "finish": set()}

    def prepare(part: Sequence[int]) -> Sequence[int]:
        where["prepare"].add(threading.current_thread().name)
        return part

    def finish(part: Sequence[int]) -> Sequence[int]:
        where["finish"].add(threading.current_thread().name)
        return part

    list(ordered_pass.run(range(20), prepare, finish, 2, 2))
    assert where["finish"] == {threading.current_thread().name}
    assert where["finish"].isdisjoint(where["prepare"])


def test_a_bounded_number_of_items_is_taken_ahead() -> None:
    rest = iter(range(1000))
    run = ordered_pass.run(rest, doubled, lambda prepared: prepared, 5, 2)
    next(run)
    assert next(rest) <= 5 * (2 * 2 + 2)
    run.close()


def test_what_a_part_raises_is_raised() -> None:
    def fail(part: Sequence[int]) -> Sequence[int]:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        list(ordered_pass.run(range(3), fail, lambda part: part, 2, 2))
