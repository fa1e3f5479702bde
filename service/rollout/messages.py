"""Messages between supervisor and worker: lines of JSON on the pipe between them.

The supervisor sends the desired state, the worker the observed one. Messages carry the full state, so a lost message or a new
worker needs no replay.
"""

import logging
import socket
import time
from collections.abc import Generator
from contextlib import suppress
from datetime import datetime
from typing import TypeVar

import msgspec
from msgspec import Struct

from models.lifecycle.candidate import Mode, Progress

MAX_BYTES = 65_536  # of a line; what is longer is no line of ours
MAX_LINES = 1000  # that are taken in a second: a worker says one or two
T = TypeVar("T")
log = logging.getLogger("hubel")


class ActiveCandidate(Struct, frozen=True):
    """The version that is tried on traffic. requests: seen of it so far, by all workers, of ``wanted``."""

    version: int
    mode: Mode
    percent: float
    started: datetime
    requests: int = 0
    wanted: int = 0


class RefusedVersion(Struct, frozen=True):
    """A version that was to become live or a candidate, and was not."""

    version: int
    reason: str
    at: datetime


class DesiredState(Struct, frozen=True):
    """serve: the version that answers. engines: where each version is found that is loaded. refused: for who asks."""

    serve: int
    engines: dict[int, str] = {}
    trial: ActiveCandidate | None = None
    refused: RefusedVersion | None = None

    @property
    def wanted(self) -> list[int]:
        """Versions that a worker is to be connected to, the one that answers first."""
        return [self.serve, *([self.trial.version] if self.trial else [])]


class ObservedState(Struct, frozen=True, omit_defaults=True):
    """serves: the version that answers; 0 before the worker is ready. progress: what was seen of the candidate since the last
    report.
    """

    serves: int = 0
    progress: Progress | None = None


class Channel:
    """One end of the pipe. Never waits: what the other end does not take now goes before what is said next. What is longer
    than ``MAX_BYTES`` is not sent, and the log says so.
    """

    def __init__(self, pipe: socket.socket) -> None:
        self.pipe = pipe
        self.unsent = b""
        self.unread = b""
        self.second, self.lines = 0, 0  # received in which
        pipe.setblocking(False)

    def send(self, message: DesiredState | ObservedState) -> bool:
        """Whether the message is on its way: not while the end of an earlier one is still here, when it is too long, or when
        nobody is there.
        """
        with suppress(OSError):
            self.unsent = self.unsent[self.pipe.send(self.unsent) :] if self.unsent else b""
            if not self.unsent:
                data = msgspec.json.encode(message)
                if len(data) > MAX_BYTES:
                    log.error("a message of %d bytes is not sent, at most %d may be", len(data), MAX_BYTES)
                    return False
                data += b"\n"
                self.unsent = data[self.pipe.send(data) :]
                return True
        return False

    def parse(self, data: bytes, kind: type[T]) -> Generator[T]:
        """The messages that end in what was received just now; raises msgspec.DecodeError for what is none."""
        *lines, self.unread = (self.unread + data).split(b"\n")
        if any(len(line) > MAX_BYTES for line in (*lines, self.unread)):
            raise msgspec.DecodeError(f"a line of more than {MAX_BYTES} bytes")
        if self._count(len(lines)) > MAX_LINES:
            raise msgspec.DecodeError(f"more than {MAX_LINES} lines in a second")
        yield from (msgspec.json.decode(line, type=kind) for line in lines)

    def _count(self, lines: int) -> int:
        second = int(time.monotonic())
        self.second, self.lines = second, lines + (self.lines if second == self.second else 0)
        return self.lines
