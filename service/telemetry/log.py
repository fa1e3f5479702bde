"""The log: standard error, one line an event, the same in every process of a service. lines.py makes the lines.

Lines wait in a queue for a thread that writes them, so that no process waits for whoever reads the log: what finds no room is
dropped and counted. Of what requests cause, and of what libraries say, each kind of line is written once a second.
"""

import atexit
import io
import logging
import os
import select
import sys
import threading
import time
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Literal

from service.telemetry.lines import FORMAT, MAX_CHARS, JsonLine, OneLine

LINES = 1000  # most that wait to be written
REQUEST_LINES = LINES // 2  # while so many wait, those about requests are dropped, so that all others find room
NEVER = logging.CRITICAL + 1
EVERY_SECONDS = 1.0  # a kind of line that requests cause
FLUSH_SECONDS = 1.0  # at the end of a process, for what still waits
KINDS, KIND_CHARS = 200, 100  # most that are told apart, and by how much of them
SERVICE, REQUESTS = "hubel", "hubel.requests"
LOST = "{} lines of the log are lost: nobody took them in time"
Form = Literal["text", "json"]


def set_up(level: str, form: Form = "text") -> None:
    """form: of the lines, which begin with the ``level``; as JSON there is one for each request too."""
    if form == "json":
        WRITER.formatter = JsonLine()
        WRITER.request_level = logging.getLevelNamesMapping()[level.upper()]
    handler = Lines(WRITER, SPARING)
    SPARING.on = True
    logging.basicConfig(level=level.upper(), handlers=[handler])
    logging.captureWarnings(True)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it warns of every malformed body
    sys.stderr = Stream(WRITER)
    WRITER.begin(handler.left_out)
    atexit.register(WRITER.flush, FLUSH_SECONDS)


def of_requests() -> "Requests":
    """For what a client can cause: one line a second of each kind, by level and text without its arguments."""
    return Requests(logging.getLogger(REQUESTS))


class Writer:
    """Writes lines to a file descriptor in a thread. What is put while ``LINES`` wait is dropped, and so is what cannot be
    written, as nobody is there to read it or the disk is full; a line says how many when one can be written again.
    """

    def __init__(self, descriptor: int = 2) -> None:
        self.descriptor = descriptor
        self.formatter = OneLine(FORMAT)
        self.request_level = NEVER  # of lines about requests, the least severe that is written
        self.waiting: SimpleQueue[str | threading.Event] = SimpleQueue()  # which a signal's handler may put into as well
        self.lock = threading.RLock()
        self.untold = 0  # dropped, and no line said so yet
        self.uncounted = 0  # dropped, and nobody took the number yet
        self.more: Callable[[], list[str]] = list
        self.thread: threading.Thread | None = None

    def begin(self, more: Callable[[], list[str]] = list) -> None:
        """more: lines that are to be written as well, asked for about once a second while there is something to write."""
        self.more = more
        if self.thread is None:
            self.thread = threading.Thread(target=self._run, name="log", daemon=True)
            self.thread.start()

    def put(self, line: str, most: int = LINES) -> None:
        """Never waits. line: without its end. most: lines that may wait before it."""
        if self.waiting.qsize() < most:
            self.waiting.put(line)
        else:
            self._count(1)

    def dropped(self) -> int:
        """Lines that were dropped since this was called last."""
        with self.lock:
            found, self.uncounted = self.uncounted, 0
        return found

    def flush(self, seconds: float) -> bool:
        """Whether all that waits was written, or could not be, by then."""
        if self.thread is None:
            return True
        done = threading.Event()
        self.waiting.put(done)
        return done.wait(seconds)

    def _run(self) -> None:
        asked, soon = time.monotonic(), False  # soon: something was said, so more of its kind may have been left out
        while True:
            try:
                line = self.waiting.get(timeout=EVERY_SECONDS if soon else None)
            except Empty:
                line, soon = None, False
            if isinstance(line, str):
                soon = True
                self._write(line)
            if line is None or isinstance(line, threading.Event) or time.monotonic() - asked >= EVERY_SECONDS:
                asked = time.monotonic()
                for text in self.more():
                    soon = True
                    self._write(text)
            if isinstance(line, threading.Event):
                line.set()

    def _write(self, line: str) -> None:
        if not self._send(line):
            self._count(1)
        elif (lost := self._take()) and not self._send(self.formatter.say(logging.WARNING, SERVICE, LOST.format(lost))):
            self._count(lost, again=True)

    def _send(self, line: str) -> bool:
        data = (line + "\n").encode(errors="backslashreplace")
        while data:
            try:
                data = data[os.write(self.descriptor, data) :]
            except BlockingIOError:  # whoever shares it wants it so
                with suppress(OSError, ValueError):
                    select.select([], [self.descriptor], [])
            except OSError:
                return False
        return True

    def _count(self, lines: int, again: bool = False) -> None:
        with self.lock:
            self.untold += lines
            self.uncounted += 0 if again else lines

    def _take(self) -> int:
        with self.lock:
            found, self.untold = self.untold, 0
        return found


@dataclass
class Kind:
    """Of lines. last: when one was written, in seconds of the clock. more: left out since then."""

    last: float
    more: int = 0


class Sparing(logging.Filter):
    """Lets one record of a kind pass in ``EVERY_SECONDS``, with the number of those left out before it as ``more``. What the
    service says of itself passes always. on: while it is not, all pass.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.clock = clock
        self.on = True
        self.lock = threading.RLock()
        self.kinds: dict[tuple[str, int, str], Kind] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name in (SERVICE, REQUESTS):  # the latter were asked for before
            return True
        more = self.take(record.name, record.levelno, str(record.msg))
        record.more = more
        return more is not None

    def take(self, name: str, level: int, text: str) -> int | None:
        """How many of a kind were left out before one that may pass; None for one that may not."""
        if not self.on:
            return 0
        key, now = (name, level, text[:KIND_CHARS]), self.clock()
        with self.lock:
            if key not in self.kinds and len(self.kinds) >= KINDS:
                self._forget(now)
                key = key if len(self.kinds) < KINDS else (name, level, "of other kinds")
            kind = self.kinds.get(key)
            if kind is not None and now - kind.last < EVERY_SECONDS:
                kind.more += 1
                return None
            self.kinds[key] = Kind(now)
            return kind.more if kind else 0

    def left_out(self) -> list[tuple[str, int, str, int]]:
        """Logger, level, text without its arguments, and number of what was left out and is over by now; said once."""
        now = self.clock()
        with self.lock:
            found = [(*key, kind.more) for key, kind in self.kinds.items() if kind.more and now - kind.last >= EVERY_SECONDS]
            for name, level, text, _ in found:
                self.kinds[name, level, text] = Kind(now)
        return found

    def _forget(self, now: float) -> None:
        self.kinds = {key: kind for key, kind in self.kinds.items() if kind.more or now - kind.last < EVERY_SECONDS}


class Requests(logging.LoggerAdapter[logging.Logger]):
    """Asks before a record is made, which costs more than the rest of a refusal that is one of many."""

    def log(self, level: int, msg: object, *args: object, **more: Any) -> None:
        if (left_out := SPARING.take(REQUESTS, level, str(msg))) is not None:
            super().log(level, msg, *args, **more, extra={"more": left_out})

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        return msg, kwargs


class Lines(logging.Handler):
    """Has what is logged written."""

    def __init__(self, writer: Writer, sparing: Sparing) -> None:
        super().__init__()
        self.writer = writer
        self.sparing = sparing
        self.addFilter(sparing)
        self.setFormatter(writer.formatter)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.writer.put(self.format(record))
        except Exception:
            self.handleError(record)

    def left_out(self) -> list[str]:
        say = self.writer.formatter.say
        return [say(level, name, f"{more} more like: {text}") for name, level, text, more in self.sparing.left_out()]


class Stream(io.TextIOBase):
    """In the place of sys.stderr, so that what Python, a library or ``print`` says there waits for nobody either."""

    encoding, errors = "utf-8", "backslashreplace"

    def __init__(self, writer: Writer) -> None:
        self.writer = writer
        self.lock = threading.RLock()
        self.begun = ""

    def write(self, text: str) -> int:
        with self.lock:
            *lines, rest = (self.begun + text).split("\n")
            self.begun = rest[-MAX_CHARS:]
        for line in lines:
            self.writer.put(self.writer.formatter.printed(line))
        return len(text)

    def flush(self) -> None:
        """A line goes on until it ends."""

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.writer.descriptor


WRITER, SPARING = Writer(), Sparing()
SPARING.on = False  # until this process has a log
