"""How a process that makes a version ready gives way to those that answer, as far as the system lets it. For engine.py."""

import os
import threading
from contextlib import suppress

LOWER_BY, LATER_BY = 10, 5  # nice values of Linux, a thread's own there: a tenth, and a third, as much time as the others get
LATER_SECONDS = 3.0  # on a busy machine it would else take for ever
LOWEST = 19


class Priority:
    """Of all threads of this process.

    It is lowered only where it may be raised again, as root may and who has a limit such as ulimit -e 20: a version that goes
    into service would else give way for ever.
    """

    def __init__(self) -> None:
        self.usual = os.getpriority(os.PRIO_PROCESS, 0)
        self.later = threading.Timer(LATER_SECONDS, self._set, (LATER_BY,))
        self.later.daemon = True

    def lower(self) -> bool:
        """For all threads, and those that they start; a part of it is taken back after a while. Whether it could be done."""
        if found := self._can_return():
            self._set(LOWER_BY)
            self.later.start()
        return found

    def raise_again(self) -> None:
        self.later.cancel()
        self._set(0)

    def _set(self, by: int) -> None:
        for thread in os.listdir("/proc/self/task"):
            with suppress(OSError):  # it has ended
                os.setpriority(os.PRIO_PROCESS, int(thread), min(LOWEST, self.usual + by))

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
