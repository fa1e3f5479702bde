"""A process that gives way does so with all its threads, and takes its place back with all of them."""

import os
import subprocess
import sys

import pytest

from service.engine.niceness import Priority
from tests.server import ROOT


def test_threads_old_and_new_give_way_and_return() -> None:
    program = "import sys; from tests.service.engine.giving_way import gives_way_and_returns as test; sys.exit(not test())"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=60, check=False).returncode == 0


def test_where_it_could_not_return_it_does_not_give_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "setpriority", refuse)
    assert not Priority().lower()
