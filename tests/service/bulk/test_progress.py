"""service/bulk/progress.py: speed and time left, at most now and then."""

import io

import pytest

from service.bulk import progress as module
from service.bulk.progress import FILE_SECONDS, Progress, duration, line


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_speed_is_of_this_run_and_of_late(clock: Clock) -> None:
    progress = Progress(10_000, 4000, file := io.StringIO())
    for done in (4600, 5200, 5230):
        clock.now += 30
        progress.tell(done)
    assert file.getvalue().splitlines() == [
        "4,600 of 10,000 images, 20.0 images/s, 4:30 left",
        "5,200 of 10,000 images, 20.0 images/s, 4:00 left",
        "5,230 of 10,000 images, 1.0 images/s, 1:19:30 left",
    ]


def test_it_is_told_now_and_then(clock: Clock) -> None:
    file, terminal = io.StringIO(), Terminal()
    both = Progress(10, 0, file), Progress(10, 0, terminal)
    for _ in range(61):
        clock.now += 1
        for progress in both:
            progress.tell(1)
    assert len(file.getvalue().splitlines()) == 61 // FILE_SECONDS
    assert terminal.getvalue().count("\r") == 61


def test_where_rows_go_to_the_same_terminal_it_keeps_still(clock: Clock) -> None:
    progress = Progress(10, 0, file := Terminal(), quiet=True)
    clock.now += 100
    progress.tell(1)
    progress.clear()
    assert file.getvalue() == ""


def test_times_are_written_as_clocks_do() -> None:
    assert [duration(seconds) for seconds in (0.4, 61, 3661)] == ["0:00", "1:01", "1:01:01"]
    assert line(0, 10, 0.0) == "0 of 10 images, 0.0 images/s"


def test_what_is_done_adds_up(clock: Clock) -> None:
    progress = Progress(10, 2, io.StringIO())
    for _ in range(3):
        progress.advance(2)
    assert progress.done == 8
