"""How much was in use at most, so that what a rush has taken can be given back once it is over."""

from collections import deque

QUIET_TURNS = 5  # after which what none of them found in use is not needed any more


class HighWater:
    """kept: what is not given back in any case. mark: what has been in use at most, and was not given back since."""

    def __init__(self, kept: int) -> None:
        self.kept = kept
        self.mark = 0
        self.peaks: deque[int] = deque(maxlen=QUIET_TURNS)

    def turn(self, used: int) -> int | None:
        """Note what was in use at most since the turn before; how much is to be kept, where that is less than there has been."""
        self.mark = max(self.mark, used)
        self.peaks.append(used)
        keep = max(self.kept, *self.peaks)
        if keep >= self.mark or len(self.peaks) < QUIET_TURNS:
            return None
        self.mark = keep
        return keep
