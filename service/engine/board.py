"""Numbers that all processes of a service see at once, without a message: what waits in each front, what each engine does.

Each number has one writer. Times are seconds of time.perf_counter, which on Linux is the same clock in all processes.
"""

import mmap
import os
from dataclasses import dataclass

from service.inference.admission import ADMITTED, LINED

FRONTS, ENGINES = 64, 8  # most of each at a time
WORD = 8  # bytes of a number, a double
KINDS = 5  # of a front's numbers: images admitted, when work of each share was last, images in the line
ENGINE_WORDS = 4
WORDS = KINDS * FRONTS + ENGINE_WORDS * ENGINES
SIZE = WORD * WORDS
ALIVE, PASS_BEGAN, SECONDS_PER_IMAGE, SPARE_FROM = range(ENGINE_WORDS)


class Board:
    """``handle``: a descriptor of the memory, to be passed on to other processes."""

    def __init__(self, handle: int) -> None:
        self.handle = handle
        self.words = memoryview(mmap.mmap(handle, SIZE)).cast("d")
        self.rows = tuple(
            EngineRow(self.words[begin : begin + ENGINE_WORDS]) for begin in range(KINDS * FRONTS, WORDS, ENGINE_WORDS)
        )

    @classmethod
    def make(cls) -> "Board":
        handle = os.memfd_create("hubel-board")
        os.truncate(handle, SIZE)
        return cls(handle)

    def numbers(self, kind: int) -> "memoryview[float]":
        """One kind of the fronts' numbers, by their place: 0 is images admitted, 1 to 3 times of the shares, 4 images in
        the line of decoding that the network will soon have."""
        return self.words[kind * FRONTS : (kind + 1) * FRONTS]

    def coming(self) -> int:
        """Images that the one engine has to compute: those admitted, and those in the line. 0 where there are several engines,
        as nobody knows whose they are."""
        if sum(row.alive > 0 for row in self.rows) > 1:
            return 0
        return int(sum(self.numbers(ADMITTED)) + sum(self.numbers(LINED)))

    def forget(self, place: int) -> None:
        """The front in a place is gone, and with it what waited there."""
        for kind in range(KINDS):
            self.numbers(kind)[place] = 0.0

    def engine(self, place: int) -> "EngineRow":
        return self.rows[place]

    def computing(self) -> bool:
        """Whether any engine computes a batch."""
        return any(row.pass_began for row in self.rows)


@dataclass(frozen=True)
class EngineRow:
    """What an engine says of itself, which alone changes it.

    seconds_per_image: a moving average while it is busy, a guess until a batch has run. spare_from: when there is time again for
    what nobody waits for.
    """

    words: "memoryview[float]"

    def beat(self, now: float) -> None:
        """A sign of life, given whenever it looks what has come."""
        self.words[ALIVE] = now

    def begin(self, now: float) -> None:
        self.words[PASS_BEGAN] = now

    def end(self, seconds_per_image: float, spare_from: float) -> None:
        self.words[SECONDS_PER_IMAGE] = seconds_per_image
        self.words[SPARE_FROM] = spare_from
        self.words[PASS_BEGAN] = 0.0

    def clear(self) -> None:
        """For the next in this place."""
        for word in range(ENGINE_WORDS):
            self.words[word] = 0.0

    @property
    def pass_began(self) -> float:
        """When the batch that it computes was begun; 0 while it computes none."""
        return self.words[PASS_BEGAN]

    @property
    def seconds_per_image(self) -> float:
        return self.words[SECONDS_PER_IMAGE]

    @property
    def spare_from(self) -> float:
        return self.words[SPARE_FROM]

    @property
    def alive(self) -> float:
        """When it last gave a sign of life; 0 while there is none."""
        return self.words[ALIVE]
