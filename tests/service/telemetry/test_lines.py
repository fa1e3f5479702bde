"""Lines as JSON: one object a line, whatever is in it."""

import json
import logging
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from service.telemetry.lines import MAX_CHARS, JsonLine
from service.telemetry.log import REQUEST_LINES, SERVICE, Lines, Sparing, Stream, Writer

ROOT = Path(__file__).parents[3]
HOSTILE = 'a\n{"level":"error"}\r\x1b]0;title\x07\u2028\u202e\ud800"\\\x00\x7f\x85'


def record(text: str, *values: object) -> logging.LogRecord:
    return logging.LogRecord(SERVICE, logging.WARNING, "", 0, text, values, None)


def test_a_line_is_an_object_with_the_documented_fields() -> None:
    event = json.loads(JsonLine().format(record("worker %d is ready", 3)))
    assert datetime.fromisoformat(event.pop("time")).utcoffset() is not None
    assert event.pop("pid") > 0
    assert event == {"level": "warning", "logger": "hubel", "message": "worker 3 is ready"}


@pytest.mark.parametrize("place", ["message", "argument", "printed"])
def test_no_text_from_elsewhere_ends_the_line_or_commands_a_terminal(place: str) -> None:
    given = {"message": [HOSTILE], "argument": ["%s", HOSTILE]}
    line = JsonLine().printed(HOSTILE) if place == "printed" else JsonLine().format(record(*given[place]))
    assert line.isprintable()
    event = json.loads(line)
    assert event["message"].startswith('a\n{"level":"error"}\\r\\x1b]0;title\\x07\\u2028\\u202e\\ud800"\\')
    assert event["level"] == ("error" if place == "printed" else "warning")


def test_a_traceback_is_in_its_event_and_neither_goes_on_for_ever() -> None:
    try:
        raise ValueError("y" * 1_000_000)
    except ValueError:
        failed = logging.LogRecord(SERVICE, logging.ERROR, "", 0, "failed " + "x" * 1_000_000, (), sys.exc_info())
    event = json.loads(JsonLine().format(failed))
    assert event["traceback"].startswith("Traceback (most recent call last):\n")
    assert len(event["message"]) == MAX_CHARS
    assert len(event["traceback"]) <= 2 * MAX_CHARS + 5


def test_what_was_left_out_before_a_line_is_a_number() -> None:
    sparing, writer = Sparing(lambda: 100.0), Writer()
    writer.formatter = JsonLine()
    lines = Lines(writer, sparing)
    again = record("it fails")
    again.more = 39
    assert json.loads(lines.format(again))["more"] == 39


def test_lines_about_requests_leave_room_for_all_others() -> None:
    writer = Writer()  # which nobody has begun
    for _ in range(2 * REQUEST_LINES):
        writer.put("{}", REQUEST_LINES)
    assert writer.dropped() == REQUEST_LINES
    writer.put("the service says something of itself")
    assert writer.dropped() == 0


def test_what_is_printed_is_an_object_too() -> None:
    writer = Writer()
    writer.formatter = JsonLine()
    print("100 %s\nhalf", file=Stream(writer), end="")
    line = writer.waiting.get()
    assert isinstance(line, str)
    assert json.loads(line)["message"] == "100 %s"


def test_a_process_that_ends_says_why_as_an_object() -> None:
    run = subprocess.run(
        [sys.executable, "-c", "import logging, sys, warnings; from service.telemetry.log import set_up; set_up('info', 'json')\n"
         "logging.getLogger('hubel').info('begun\\x1b'); warnings.warn('so'); sys.exit('error: over')"],
        cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    events = [json.loads(line) for line in run.stderr.splitlines()]
    assert [event["logger"] for event in events] == ["hubel", "py.warnings", "stderr"]
    assert events[0]["message"] == "begun\\x1b"
    assert events[2]["message"] == "error: over"
    assert run.returncode == 1
