"""service/bulk/ordered_pass.py: in order, however long each part takes, with bounded memory, and no thread left behind."""

import threading
from collections.abc import Sequence

import pytest

from service.bulk import ordered_pass
from service.bulk.item import Item, LocalFile

ITEMS = [Item(str(number), "", LocalFile("")) for number in range(100)]


def names(items: Sequence[Item]) -> list[str]:
    return [item.path for item in items]


def threads() -> int:
    return sum(thread.name.startswith("bulk") for thread in threading.enumerate())


def test_results_come_in_the_order_of_the_items_though_a_later_part_is_prepared_first() -> None:
    second = threading.Event()

    def prepare(items: Sequence[Item]) -> list[str]:
        if items[0].path == "0":
            assert second.wait(60)
        elif items[0].path == "7":
            second.set()
        return names(items)

    parts = list(ordered_pass.run(ITEMS, prepare, list[str].copy, size=7, threads=2))
    assert [result for part in parts for _, result in part] == names(ITEMS)
    assert all(item.path == result for part in parts for item, result in part)
    assert [len(part) for part in parts] == [7] * 14 + [2]


def test_no_more_parts_are_held_than_it_says() -> None:
    prepared = 0

    def prepare(items: Sequence[Item]) -> list[str]:
        nonlocal prepared
        prepared += 1
        return names(items)

    parts = ordered_pass.run(iter(ITEMS), prepare, list[str].copy, size=1, threads=1)
    for taken in range(1, 50):
        next(parts)
        assert prepared <= taken + 4
    parts.close()


def test_threads_end_with_the_generator() -> None:
    parts = ordered_pass.run(ITEMS, names, list[str].copy, size=3, threads=2)
    next(parts)
    assert threads()
    parts.close()
    assert not threads()


def test_what_a_step_raises_ends_the_pass_and_its_threads() -> None:
    def prepare(items: Sequence[Item]) -> list[str]:
        if items[0].path == "30":
            raise RuntimeError("broken")
        return names(items)

    seen: list[str] = []
    results = (result for part in ordered_pass.run(ITEMS, prepare, list[str].copy, size=10, threads=2) for _, result in part)
    with pytest.raises(RuntimeError, match="broken"):
        seen.extend(results)
    assert seen == names(ITEMS)[:30]
    assert not threads()
