"""Lines of the log: for people, or as JSON for programs (HUBEL_LOG). Either way an event is one line, whatever is in it."""

import logging
import os
from datetime import UTC, datetime

import msgspec
from msgspec import Struct

from models.terminal.table import printable

MAX_CHARS = 8192  # of an event, and as much again of its traceback
FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
REQUEST = "hubel.request"  # the logger of lines about requests
PRINTED = "stderr"  # the logger of what is printed


class Event(Struct, omit_defaults=True):
    """A line of JSON. more: lines like it that were left out before it."""

    time: datetime
    level: str
    logger: str
    pid: int
    message: str
    traceback: str = ""
    more: int = 0


class RequestEvent(Struct, omit_defaults=True):
    """The line of JSON about a request that was answered: docs/tracing.md describes each field. Nothing in it is the client's own
    text, but for ``given_id``, which is letters, digits, ``.``, ``_`` and ``-``.
    """

    time: datetime
    level: str
    logger: str
    pid: int
    message: str
    id: str
    method: str
    route: str
    status: int
    outcome: str
    duration_ms: float
    stages_ms: dict[str, float]
    bytes: int
    images: int
    failed: int = 0
    pixels: int = 0
    model: str = ""
    version: int = 0
    client: str = ""
    given_id: str = ""
    trace_id: str = ""
    span_id: str = ""


class OneLine(logging.Formatter):
    """No text from elsewhere begins a line, moves a terminal's cursor or goes on for ever."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = record.message.rstrip().replace("\n", "\\n")
        more = getattr(record, "more", 0)
        return super().formatMessage(record)[:MAX_CHARS] + (f" (and {more} more like it before)" if more else "")

    def format(self, record: logging.LogRecord) -> str:
        return bounded(printable(super().format(record), keep="\n"))

    def say(self, level: int, name: str, text: str) -> str:
        """A line that no logger was asked for."""
        return self.format(logging.LogRecord(name, level, "", 0, text, None, None))

    def printed(self, line: str) -> str:
        """What was printed, without its end."""
        return line[:MAX_CHARS]


class JsonLine(OneLine):
    """The same as JSON, each event an object."""

    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage().rstrip()[:MAX_CHARS]
        trace = self.formatException(record.exc_info) if record.exc_info and record.exc_info[0] else record.exc_text or ""
        event = Event(
            at(record.created),
            record.levelname.lower(),
            record.name,
            record.process or os.getpid(),
            printable(text, keep="\n"),
            bounded(printable(trace, keep="\n")),
            getattr(record, "more", 0),
        )
        return encode(event)

    def printed(self, line: str) -> str:
        return self.say(logging.ERROR, PRINTED, line)


def at(seconds: float) -> datetime:
    """Unix time -> UTC."""
    return datetime.fromtimestamp(seconds, UTC)


def bounded(text: str) -> str:
    return text if len(text) <= 2 * MAX_CHARS else f"{text[:MAX_CHARS]} ... {text[-MAX_CHARS:]}"


def encode(event: Event | RequestEvent) -> str:
    return msgspec.json.encode(event).decode()
