"""A thread keeps the stack that its signal handlers run on, whatever loads a network in it and wherever that ends."""

import ctypes
import json
import mmap
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from service.inference import signal_stack
from service.inference.signal_stack import DISABLE, SignalStack
from tests.factories import make_package
from tests.server import ROOT

SIZE = 65_536  # bytes; more than any processor's registers take


def test_whichever_thread_frees_a_network_every_thread_can_take_a_signal_afterwards(tmp_path: Path) -> None:
    make_package(tmp_path, name="good")
    make_package(tmp_path, name="damaged", golden_error=1.0)
    make_package(tmp_path, name="odd", graph={"poison": True})
    command = [sys.executable, "-m", "tests.service.freeing", str(tmp_path)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    ends = json.loads(run.stdout)
    assert ends == dict.fromkeys(ends, 0), run.stderr
    assert len(ends) == 6


def take(stack: SignalStack) -> None:
    assert ctypes.CDLL(None).sigaltstack(ctypes.byref(stack), None) == 0


def fields(stack: SignalStack) -> tuple[int | None, int, int]:
    return stack.address, stack.flags, stack.size


@pytest.mark.parametrize("own", [True, False], ids=["a stack of its own", "none"])
def test_a_thread_has_the_stack_that_it_had_before_also_after_a_failure(own: bool) -> None:
    memory = mmap.mmap(-1, 2 * SIZE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    mine = SignalStack(address=address, size=SIZE) if own else SignalStack(flags=DISABLE)
    found = signal_stack.current()  # pytest's
    try:
        take(mine)
        before = fields(signal_stack.current())
        with suppress(RuntimeError), signal_stack.kept():
            take(SignalStack(address=address + SIZE, size=SIZE))
            assert fields(signal_stack.current()) != before
            raise RuntimeError
        assert fields(signal_stack.current()) == before
    finally:
        take(found)


def test_a_stack_that_has_become_too_small_is_left_off(monkeypatch: pytest.MonkeyPatch) -> None:
    found = signal_stack.current()
    memory = mmap.mmap(-1, SIZE)
    monkeypatch.setattr(signal_stack, "current", lambda: SignalStack(address=1, size=1))
    try:
        with signal_stack.kept():
            take(SignalStack(address=ctypes.addressof(ctypes.c_char.from_buffer(memory)), size=SIZE))
        monkeypatch.undo()
        assert signal_stack.current().flags == DISABLE
    finally:
        take(found)
