"""How far a run is, on standard error: a line that changes on a terminal, else one now and then."""

import sys
import time
from typing import TextIO

TERMINAL_SECONDS, FILE_SECONDS = 0.5, 30.0  # between two lines
RECENT_SECONDS = 20.0  # that the speed is told of
CLEAR = "\r\x1b[K"


class Progress:
    """total: images of the run. done: of these from before. quiet: another text goes to the same terminal."""

    def __init__(self, total: int, done: int, file: TextIO | None = None, quiet: bool = False) -> None:
        self.total = total
        self.done = done
        self.file = file or sys.stderr
        self.quiet = quiet
        self.terminal = self.file.isatty()
        self.said = time.monotonic()
        self.marks = [(self.said, done)]  # time, images done

    def advance(self, images: int) -> None:
        """So many more are done."""
        self.tell(self.done + images)

    def tell(self, done: int) -> None:
        self.done = done
        now = time.monotonic()
        if self.quiet or now - self.said < (TERMINAL_SECONDS if self.terminal else FILE_SECONDS):
            return
        self.said = now
        self.marks.append((now, done))
        while len(self.marks) > 2 and now - self.marks[1][0] > RECENT_SECONDS:
            del self.marks[0]
        began, before = self.marks[0]
        text = line(done, self.total, (done - before) / max(now - began, 1e-9))
        self.file.write(f"{CLEAR}{text}" if self.terminal else f"{text}\n")
        self.file.flush()

    def clear(self) -> None:
        """Before something else is said."""
        if self.terminal and not self.quiet:
            self.file.write(CLEAR)
            self.file.flush()


def line(done: int, total: int, speed: float) -> str:
    """speed: images a second."""
    left = f", {duration((total - done) / speed)} left" if speed > 0 else ""
    return f"{done:,} of {total:,} images, {speed:.1f} images/s{left}"


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
