"""The log: nobody waits for who reads it, what is lost is counted, and what requests cause is written once a second."""

import logging
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from service.telemetry import log as module
from service.telemetry.log import KINDS, LINES, MAX_CHARS, REQUESTS, SERVICE, Lines, Requests, Sparing, Stream, Writer

ROOT = Path(__file__).parents[3]
PATIENCE = 20.0  # seconds


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Its two ends, for reading and writing."""
    ends = os.pipe()
    yield ends
    for end in ends:
        with suppress(OSError):
            os.close(end)


def read(end: int, until: str) -> str:
    """What comes up to a text."""
    text = ""
    while until not in text:
        text += os.read(end, 65_536).decode()
    return text


def test_lines_are_written_in_their_order(pipe: tuple[int, int]) -> None:
    writer = Writer(pipe[1])
    writer.begin()
    for number in range(100):
        writer.put(f"line {number} ü")
    assert writer.flush(PATIENCE)
    assert read(pipe[0], "line 99 ü\n").splitlines() == [f"line {number} ü" for number in range(100)]
    assert writer.dropped() == 0


def test_what_nobody_takes_is_dropped_and_counted_and_said_when_somebody_does(pipe: tuple[int, int]) -> None:
    writer, count = Writer(pipe[1]), 3 * LINES
    writer.begin()
    for number in range(count):
        writer.put(f"{number} {'x' * 500}")  # the pipe holds about 130 of them
    assert not writer.flush(0.05)
    dropped = writer.dropped()
    assert count - LINES - 200 <= dropped <= count - LINES
    assert writer.dropped() == 0
    found: list[str] = []
    reader = threading.Thread(target=lambda: found.append(read(pipe[0], "the end\n")))
    reader.start()
    assert writer.flush(PATIENCE)
    writer.put("the end")
    reader.join(PATIENCE)
    told = re.findall(r" WARNING hubel: (\d+) lines of the log are lost: nobody took them in time\n", found[0])
    assert sum(map(int, told)) == dropped
    assert len(re.findall(r"^\d+ x{500}$", found[0], re.MULTILINE)) == count - dropped


@pytest.mark.parametrize("place", ["a pipe without a reader", "/dev/full"])
def test_what_cannot_be_written_is_dropped_and_the_next_is_tried(pipe: tuple[int, int], place: str) -> None:
    if place.startswith("/"):
        writer = Writer(os.open(place, os.O_WRONLY))
    else:
        writer = Writer(pipe[1])
        os.close(pipe[0])
    writer.begin()
    for _ in range(7):
        writer.put("a line")
    assert writer.flush(PATIENCE)
    assert writer.dropped() == 7


def test_a_descriptor_that_does_not_wait_is_waited_for(pipe: tuple[int, int]) -> None:
    os.set_blocking(pipe[1], False)
    writer = Writer(pipe[1])
    writer.begin()
    for _ in range(200):
        writer.put("y" * 1000)
    writer.put("the end")
    assert read(pipe[0], "the end\n").count("y" * 1000 + "\n") == 200
    assert writer.dropped() == 0


ENDING = """
import logging, sys, warnings
from service.telemetry.log import set_up
set_up("info")
for number in range(5000):
    logging.getLogger("hubel").error("%d %s", number, "x" * 100)
    print(number, "printed", file=sys.stderr)
warnings.warn("a warning")
{end}
"""


@pytest.mark.parametrize(
    ("end", "code"), [("sys.exit(3)", 3), ("sys.exit('error: so it ends')", 1), ("raise ValueError('so it ends')", 1)]
)
def test_a_process_whose_log_nobody_reads_goes_on_and_ends(end: str, code: int) -> None:
    process = subprocess.Popen([sys.executable, "-c", ENDING.format(end=end)], cwd=ROOT, stderr=subprocess.PIPE)
    try:
        assert process.wait(30) == code
    finally:
        process.kill()
        process.communicate()


def test_what_a_process_said_last_is_read() -> None:
    run = subprocess.run(
        [sys.executable, "-c", "import logging, sys; from service.telemetry.log import set_up; set_up('info')\n"
         "logging.getLogger('hubel').info('begun\\x1b[2J\\nand on'); print('half', file=sys.stderr); sys.exit('error: over')"],
        cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    first, *rest = run.stderr.splitlines()
    assert first.endswith(r" INFO hubel: begun\x1b[2J\nand on")
    assert rest == ["half", "error: over"]
    assert run.returncode == 1


def record(name: str, text: str = "it fails: %s", *values: object, level: int = logging.WARNING) -> logging.LogRecord:
    return logging.LogRecord(name, level, "", 0, text, values, None)


def test_of_a_kind_one_is_written_a_second_with_the_number_of_the_others() -> None:
    clock = Clock()
    sparing = Sparing(clock)
    assert [sparing.filter(record("asyncio", "it fails: %s", number)) for number in range(40)] == [True] + 39 * [False]
    assert sparing.filter(record("asyncio", "another"))
    assert sparing.filter(record("asyncio", level=logging.ERROR))
    assert sparing.filter(record("uvicorn.error"))
    clock.now += 1
    again = record("asyncio", "it fails: %s", 41)
    assert sparing.filter(again)
    assert Lines(Writer(), sparing).format(again).endswith("WARNING asyncio: it fails: 41 (and 39 more like it before)")
    assert not sparing.left_out()


def test_what_was_left_out_is_said_when_nothing_more_comes() -> None:
    clock = Clock()
    sparing = Sparing(clock)
    lines = Lines(Writer(), sparing)
    for _ in range(305):
        sparing.filter(record("asyncio", "it fails: %s", 1))
    assert lines.left_out() == []
    clock.now += 1
    (line,) = lines.left_out()
    assert line.endswith("WARNING asyncio: 304 more like: it fails: %s")
    assert lines.left_out() == []


def test_what_the_service_says_of_itself_is_never_left_out() -> None:
    sparing = Sparing(Clock())
    assert all(sparing.filter(record(SERVICE, "worker %d is ready", place)) for place in range(64))


def test_a_great_many_kinds_are_one_and_are_forgotten() -> None:
    clock = Clock()
    sparing = Sparing(clock)
    passed = [sparing.filter(record("asyncio", f"failed at {number}")) for number in range(10 * KINDS)]
    assert passed.count(True) == KINDS + 1
    assert len(sparing.kinds) == KINDS + 1
    clock.now += 1
    assert sparing.filter(record("asyncio", "another"))
    assert len(sparing.kinds) <= 3


def test_lines_that_requests_cause_are_asked_for_before_they_are_made(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    sparing = Sparing(clock)
    monkeypatch.setattr(module, "SPARING", sparing)
    log = Requests(logging.getLogger(REQUESTS))
    for number in range(100):
        log.warning("requests refused: %s", number)
    clock.now += 1
    log.warning("requests refused: %s", "again")
    assert [found.getMessage() for found in caplog.records] == ["requests refused: 0", "requests refused: again"]
    assert sparing.filter(caplog.records[1])
    assert Lines(Writer(), sparing).format(caplog.records[1]).endswith("again (and 99 more like it before)")


def test_no_text_from_elsewhere_makes_a_line_or_goes_on_for_ever() -> None:
    lines = Lines(Writer(), Sparing())
    text = lines.format(record(SERVICE, "refused: %s", "a\n2026-01-01 ERROR hubel: b\x1b]0;title\x07\u2028c\r"))
    assert text.endswith(r"refused: a\n2026-01-01 ERROR hubel: b\x1b]0;title\x07\u2028c")
    assert len(lines.format(record(SERVICE, "refused: %s", "x" * 1_000_000))) <= MAX_CHARS
    try:
        raise ValueError("y" * 1_000_000)
    except ValueError:
        failed = logging.LogRecord(SERVICE, logging.ERROR, "", 0, "failed", (), sys.exc_info())
    text = lines.format(failed)
    assert "\nTraceback (most recent call last):\n" in text
    assert len(text) <= 2 * MAX_CHARS + 10


def test_what_is_printed_is_written_by_whole_lines(pipe: tuple[int, int]) -> None:
    writer = Writer(pipe[1])
    writer.begin()
    stream = Stream(writer)
    print("one", 2, file=stream, end="")
    assert writer.flush(PATIENCE)
    print(" and\nmore", file=stream)
    assert read(pipe[0], "more\n") == "one 2 and\nmore\n"
