"""How a process that makes a version ready gives way to those that answer, as far as the system lets it. For engine.py."""

import os
import threading
from contextlib import suppress

LOWER_BY, LOWEST = (
    10,
    19,
)  # nice values of Linux, a thread's own there, taken from the one that starts it; 10: a tenth of the time


class Priority:
    """Of all threads of this process.

    It is lowered only where it may be raised again, as root may and who has a limit such as ulimit -e 20: a version that goes
    into service would else give way for ever.
    """

    def __init__(self) -> None:
        self.usual = os.getpriority(os.PRIO_PROCESS, 0)

    def lower(self) -> bool:
        """For this thread and those that it starts from now on; whether it could be."""
        if found := self._can_return():
            os.setpriority(os.PRIO_PROCESS, 0, min(LOWEST, self.usual + LOWER_BY))
        return found

    def raise_again(self) -> None:
        for thread in os.listdir("/proc/self/task"):
            with suppress(OSError):  # it has ended
                os.setpriority(os.PRIO_PROCESS, int(thread), self.usual)

    def _can_return(self) -> bool:
        """Tried by a thread that ends at once."""
        returned: list[bool] = []

        def attempt() -> None:
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, 0, min(LOWEST, self.usual + 1))
                os.setpriority(os.PRIO_PROCESS, 0, self.usual)
                returned.append(True)

        thread = threading.Thread(target=attempt)
        thread.start()
        thread.join()
        return bool(returned) and os.path.isdir("/proc/self/task")
