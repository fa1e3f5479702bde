"""A process that gives way does so with all its threads, and takes its place back with all of them."""

import os
import subprocess
import sys
import threading

import pytest

from service.priority import LOWER_BY, LOWEST, Priority
from tests.server import ROOT


def nice_values() -> set[int]:
    return {os.getpriority(os.PRIO_PROCESS, int(thread)) for thread in os.listdir("/proc/self/task")}


def test_threads_old_and_new_give_way_and_return() -> None:
    program = "import sys; from tests.service.test_priority import gives_way_and_returns as test; sys.exit(not test())"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=60, check=False).returncode == 0


def gives_way_and_returns() -> bool:
    before = nice_values()
    priority = Priority()
    release = threading.Event()
    threading.Thread(target=release.wait, daemon=True).start()
    if not priority.lower():
        return nice_values() == before  # the system does not let it return: then it does not give way
    threading.Thread(target=release.wait, daemon=True).start()
    lowered = nice_values()
    priority.raise_again()
    return lowered == {min(LOWEST, priority.usual + LOWER_BY)} and nice_values() == before


def test_where_it_could_not_return_it_does_not_give_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "setpriority", refuse)
    assert not Priority().lower()
