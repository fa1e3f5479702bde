"""service/similar/progress.py: what is told of a long pass."""

from io import StringIO

import pytest

from service.similar.progress import Progress, clock


@pytest.mark.parametrize(("seconds", "text"), [(0, "0 s"), (59.4, "59 s"), (60, "1:00"), (125, "2:05"), (3723, "1:02:03")])
def test_times_are_told_as_clocks_do(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_rate_and_time_left_are_those_of_what_is_done() -> None:
    progress = Progress(1000, StringIO())
    assert progress.text(1.0) == "0 of 1,000 images (0%), 0.0 images/s"
    progress.advance(250)
    assert progress.text(10.0) == "250 of 1,000 images (25%), 25.0 images/s, 30 s left"


def test_a_file_gets_no_line_for_what_takes_a_moment() -> None:
    stream = StringIO()
    progress = Progress(10, stream)
    progress.advance(10)
    assert progress.finish().startswith("10 images in 0 s")
    assert stream.getvalue() == ""


def test_a_terminal_has_one_line_that_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: True)
    progress = Progress(10, stream)
    progress.shown -= 1
    progress.advance(5)
    assert "\n" not in stream.getvalue()
    assert "5 of 10 images" in stream.getvalue()
