"""How far a long pass is: images a second and the time left, on stderr."""

import sys
import time
from typing import TextIO

SHOWN_SECONDS = 0.2  # between two lines of a terminal that take each other's place
LOGGED_SECONDS = 30.0  # between two lines of a file


class Progress:
    """Of ``total`` images. stream: where it is shown; a terminal has one line, which changes."""

    def __init__(self, total: int, stream: TextIO | None = None) -> None:
        self.total = total
        self.stream = stream or sys.stderr
        self.terminal = self.stream.isatty()
        self.done = 0
        self.began = self.shown = time.monotonic()

    def advance(self, images: int) -> None:
        self.done += images
        now = time.monotonic()
        if now - self.shown >= (SHOWN_SECONDS if self.terminal else LOGGED_SECONDS):
            self.shown = now
            self._write(self.text(now - self.began))

    def text(self, seconds: float) -> str:
        """After so many seconds."""
        rate = self.done / max(seconds, 1e-3)
        left = f", {clock((self.total - self.done) / rate)} left" if self.done else ""
        share = self.done / max(self.total, 1)
        return f"{self.done:,} of {self.total:,} images ({share:.0%}), {rate:.1f} images/s{left}"

    def finish(self) -> str:
        """The whole in a line, which is not written."""
        if self.terminal:
            self._write("", "\r")
        seconds = time.monotonic() - self.began
        return f"{self.done:,} images in {clock(seconds)}, {self.done / max(seconds, 1e-3):.1f} images/s"

    def _write(self, text: str, end: str = "") -> None:
        self.stream.write(f"\r\x1b[K{text}{end}" if self.terminal else f"{text}\n")
        self.stream.flush()


def clock(seconds: float) -> str:
    """ "1:02:03", "2:03" or "3 s"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"
