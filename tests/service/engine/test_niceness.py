"""A process that gives way does so with all its threads, and takes its place back with all of them."""

import os
import subprocess
import sys
import threading

import pytest

from service.engine.niceness import Priority
from tests.server import ROOT


def places() -> set[tuple[int, int]]:
    """Policy and nice value of each thread."""
    threads = [int(thread) for thread in os.listdir("/proc/self/task")]
    return {(os.sched_getscheduler(thread), os.getpriority(os.PRIO_PROCESS, thread)) for thread in threads}


def test_threads_old_and_new_give_way_and_return() -> None:
    program = "import sys; from tests.service.engine.test_niceness import gives_way_and_returns as test; sys.exit(not test())"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=60, check=False).returncode == 0


def gives_way_and_returns() -> bool:
    before = places()
    priority = Priority()
    release = threading.Event()
    threading.Thread(target=release.wait, daemon=True).start()
    if not priority.lower():
        return places() == before  # the system does not let it return: then it does not give way
    threading.Thread(target=release.wait, daemon=True).start()
    lowered = places()
    priority.raise_again()
    return lowered == {(os.SCHED_IDLE, priority.usual)} and places() == before


def test_where_it_could_not_return_it_does_not_give_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "setpriority", refuse)
    assert not Priority().lower()
