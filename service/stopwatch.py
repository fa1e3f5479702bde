"""How long something has kept others waiting, in time in which they could wait: what passed while this process itself stood
still is nobody's hang.

A machine that is suspended, a container that is paused, a process that gets no core: its timers are due when it goes on, all at
once, before it has looked what the others say.
"""

import time
from collections.abc import Callable

STEPS = 4  # times in a limit that one looks
LONGEST_STEP = 1.0


def step_of(limit: float) -> float:
    """Seconds between two looks at something that has ``limit`` seconds."""
    return min(LONGEST_STEP, limit / STEPS)


class Awake:
    """A clock, in seconds, of the time in which this process ran: of the time between two looks, ``most`` seconds count."""

    def __init__(self, most: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.most = most
        self.clock = clock
        self.last = clock()
        self.ran = 0.0

    def now(self) -> float:
        now = self.clock()
        self.ran += min(now - self.last, self.most)
        self.last = now
        return self.ran


class Patience:
    """Look at it every ``step`` seconds. What stood still for longer gets all its time once more, but once alone: something that
    hangs is found after twice its limit at most.
    """

    def __init__(self, step: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.step = step
        self.clock = clock
        self.restart()

    def restart(self) -> None:
        """It gave a sign of life."""
        self.last = self.clock()
        self.waited = 0.0
        self.renewed = False

    def seconds(self) -> float:
        """How long it has been waited for."""
        now = self.clock()
        passed, self.last = now - self.last, now
        if passed > 2 * self.step and not self.renewed:
            self.waited, self.renewed = 0.0, True
        else:
            self.waited += min(passed, 2 * self.step)
        return self.waited
