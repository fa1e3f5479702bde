"""Signals as a shell in a terminal leaves them, for whoever runs these tests in the background or behind nohup."""

import signal
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def not_ignored() -> Iterator[None]:
    """A service leaves signals ignored that were so when it began, and would wait here for ever."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGHUP, signal.SIGQUIT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
