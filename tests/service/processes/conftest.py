"""Signals as a shell in a terminal leaves them, for whoever runs these tests in the background or behind nohup; what is started
in the place of an engine.
"""

import signal
import sys
from collections.abc import Iterator

import pytest

from service.processes.engines import EngineKeeper
from tests.server import ROOT

ENGINE = (sys.executable, "-m", "tests.service.processes.engine")  # then comes its folder


@pytest.fixture(autouse=True)
def in_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where such programs are found."""
    monkeypatch.chdir(ROOT)


@pytest.fixture(autouse=True)
def not_ignored() -> Iterator[None]:
    """A service leaves signals ignored that were so when it began, and would wait here for ever."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGHUP, signal.SIGQUIT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def pids_of(keeper: EngineKeeper) -> list[int]:
    """Of the processes that run."""
    return [engine.process.pid for engine in keeper.engines.values() if engine.process is not None]
