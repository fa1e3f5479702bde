"""How a process that makes a version ready gives way to those that answer, as far as the system lets it. For __main__.py."""

import os
import threading
from contextlib import suppress

# First SCHED_IDLE: any other thread preempts it at once, whereas nice 19 would let it finish its slice of 3 ms at each step of
# each request. After LATER_SECONDS nice +5, about a third of a normal thread's time, so that loading ends on a busy machine too.
LATER_BY, LOWEST = 5, 19
LATER_SECONDS = 5.0


class Priority:
    """Of all threads of this process.

    It is lowered only where it may be raised again, as root may and who has a limit such as ulimit -e 20: a version that becomes
    live would else give way for ever.
    """

    def __init__(self) -> None:
        self.usual = os.getpriority(os.PRIO_PROCESS, 0)
        self.later = threading.Timer(LATER_SECONDS, self._set, (os.SCHED_OTHER, LATER_BY))
        self.later.daemon = True

    def lower(self) -> bool:
        """For all threads, and those that they start; a part of it is taken back after a while. Whether it could be done."""
        if found := self._can_return():
            self._set(os.SCHED_IDLE, 0)
            self.later.start()
        return found

    def raise_again(self) -> None:
        self.later.cancel()
        self._set(os.SCHED_OTHER, 0)

    def _set(self, policy: int, by: int) -> None:
        for thread in map(int, os.listdir("/proc/self/task")):
            with suppress(OSError):  # it has ended
                os.sched_setscheduler(thread, policy, os.sched_param(0))
                os.setpriority(os.PRIO_PROCESS, thread, min(LOWEST, self.usual + by))

    def _can_return(self) -> bool:
        """Tried by a thread that ends at once."""
        returned: list[bool] = []

        def attempt() -> None:
            with suppress(OSError, AttributeError):  # no such policies
                os.setpriority(os.PRIO_PROCESS, 0, min(LOWEST, self.usual + 1))
                os.setpriority(os.PRIO_PROCESS, 0, self.usual)
                os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
                os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
                returned.append(True)

        thread = threading.Thread(target=attempt)
        thread.start()
        thread.join()
        return bool(returned) and os.path.isdir("/proc/self/task")
