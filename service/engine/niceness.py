"""How a process that makes a version ready gives way to those that answer, as far as the system lets it. For __main__.py."""

import os
import threading
from contextlib import suppress

# First SCHED_IDLE: any other thread preempts it at once, whereas nice 19 would let it finish its slice of 3 ms at each step of
# each request. Where that has not been enough, as on a machine that is never idle, it is nice +10, about a tenth of a normal
# thread's time, and in the end +5, about a third: loading ends there too, but others are refused what it takes.
STEPS = ((10.0, 10), (30.0, 5))  # seconds after it began to give way, and how nice it is from then on
LOWEST = 19


class Priority:
    """Of all threads of this process.

    It is lowered only where it may be raised again, as root may and who has a limit such as ulimit -e 20: a version that becomes
    live would else give way for ever.
    """

    def __init__(self) -> None:
        self.usual = os.getpriority(os.PRIO_PROCESS, 0)
        self.lock = threading.Lock()
        self.raised = False
        self.later = [threading.Timer(seconds, self._step, (by,)) for seconds, by in STEPS]
        for timer in self.later:
            timer.daemon = True

    def lower(self) -> bool:
        """For all threads, and those that they start; parts of it are taken back after a while. Whether it could be done."""
        if found := self._can_return():
            self._set(os.SCHED_IDLE, 0)
            for timer in self.later:
                timer.start()
        return found

    def raise_again(self) -> None:
        for timer in self.later:
            timer.cancel()
        with self.lock:  # a step that has begun is over
            self.raised = True
            self._set(os.SCHED_OTHER, 0)

    def _step(self, by: int) -> None:
        with self.lock:
            if not self.raised:
                self._set(os.SCHED_OTHER, by)

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
