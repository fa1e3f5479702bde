"""A process that gives way and takes its place back, and what the system says of its threads."""

import os
import threading
from contextlib import suppress

from service.engine.niceness import STEPS, Priority


def places() -> set[tuple[int, int]]:
    """Policy and nice value of each thread."""
    found = set()
    for thread in map(int, os.listdir("/proc/self/task")):
        with suppress(ProcessLookupError):  # it has ended: one that was joined may be listed for a moment
            found.add((os.sched_getscheduler(thread), os.getpriority(os.PRIO_PROCESS, thread)))
    return found


def gives_way_and_returns() -> bool:
    before = places()
    priority = Priority()
    release = threading.Event()
    threading.Thread(target=release.wait, daemon=True).start()
    if not priority.lower():
        return places() == before  # the system does not let it return: then it does not give way
    threading.Thread(target=release.wait, daemon=True).start()
    lowered = places()
    for timer, (_, by) in zip(priority.later, STEPS, strict=True):
        timer.function(*timer.args)
        if places() != {(os.SCHED_OTHER, priority.usual + by)}:
            return False
    priority.raise_again()
    priority.later[0].function(*priority.later[0].args)  # one that was about to begin
    return lowered == {(os.SCHED_IDLE, priority.usual)} and places() == before
