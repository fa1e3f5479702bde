"""training/data/parallel.py: work on all cores, in order, that can be stopped."""

import time

import pytest

from training.data.parallel import in_threads


def test_results_come_in_order_with_a_bar_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    def square(i: int) -> int:
        time.sleep(0.01 if i == 0 else 0)
        return i * i

    assert list(in_threads(square, 50, "square")) == [i * i for i in range(50)]

    said = capsys.readouterr()
    assert said.out == ""
    assert "square: " in said.err


def test_an_error_of_the_work_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        list(in_threads(lambda i: 1 // (i - 3), 10, "divide"))


def test_work_that_has_not_begun_is_dropped_when_nobody_wants_it() -> None:
    begun: list[int] = []

    def work(i: int) -> None:
        begun.append(i)
        time.sleep(0.01)

    results = in_threads(work, 2000, "work")
    next(results)
    results.close()

    assert len(begun) < 1000
