"""kill -9 of whoever changes the store, at any moment: the next reader finds the old or the new, whole, and the next writer
goes on."""

import random
import shutil
import signal
import time
from pathlib import Path

import pytest

from models.lifecycle import candidate, gate, retention
from models.lifecycle.candidate import Candidate
from models.registry import registry
from tests.forks import CONTEXT
from tests.models import busy
from tests.models.conftest import MakeStore, pointer

LONGEST = 0.12  # seconds after the first round until the kill; a round takes 2 to 20 ms
ACTS = ("publish", "promote", "end", "remove")
VISIBLE = {"tiny", "current.json", "candidate.json", "progress.json", "1.gate.json", "2.gate.json"}


def kill(act: str, store: Path, files: Path, after: float) -> None:
    """Start ``act``, and kill it ``after`` seconds from when it is at work."""
    here, there = CONTEXT.Pipe()
    process = CONTEXT.Process(target=busy.work, args=(act, store, files, there))
    process.start()
    assert here.poll(30)
    assert here.recv_bytes() == b"ready"
    time.sleep(after)
    process.kill()
    process.join(30)
    assert process.exitcode == -signal.SIGKILL
    process.close()
    here.close()
    there.close()


def check(store: Path) -> None:
    """What a service that starts now would find, and every other reader."""
    now = pointer(store)
    assert registry.verify(registry.resolve(store, "tiny")).version == now.version
    assert now.history[-1].event in ("promote", "canary", "end", "remove")
    puts = [change for change in now.history if change.event == "promote"]
    assert (puts[-1].version, puts[-1].reason) == (now.version, now.reason)  # nothing in service without a record
    for folder in registry.packages(store):
        registry.verify(folder)
    running = candidate.read(store, "tiny")
    assert running is None or running.version != now.version
    for version in (1, 2):
        gate.read(store, "tiny", version)
    names = {path.name for folder in (store, store / "tiny") for path in folder.iterdir()}
    assert {name for name in names if not name.startswith(".") and not name.isdigit()} <= VISIBLE


def go_on(store: Path) -> None:
    """Whatever was left, the next of each works, and the broom leaves nothing hidden."""
    if (running := candidate.read(store, "tiny")) is not None:
        candidate.end(store, "tiny", False, f"left over: {running.version}")
    other = 3 - pointer(store).version
    if (store / "tiny" / str(other)).exists():
        candidate.start(store, "tiny", Candidate(other, "shadow", 10))
        candidate.end(store, "tiny", False, "test")
    retention.sweep(store, age=-10)
    assert [path for folder in (store, store / "tiny") for path in folder.iterdir() if path.name.startswith(".")] == []


def hold(act: str, rounds: int, store: Path, files: Path) -> None:
    random.seed(f"{act} {rounds}")
    for _ in range(rounds):
        kill(act, store, files, random.uniform(0, LONGEST))
        check(store)
        go_on(store)
        if act == "publish":  # lest the disk fill
            retention.collect(store, "tiny", keep=2)


@pytest.mark.parametrize("act", ACTS)
def test_a_kill_leaves_the_old_or_the_new(act: str, make_store: MakeStore, tmp_path: Path) -> None:
    store = make_store(tiny=2)
    shutil.copytree(store / "tiny/1", tmp_path / "files")
    hold(act, 5, store, tmp_path / "files")


@pytest.mark.long
@pytest.mark.parametrize("act", ACTS)
def test_50_kills_leave_the_old_or_the_new(act: str, make_store: MakeStore, tmp_path: Path) -> None:
    store = make_store(tiny=2)
    shutil.copytree(store / "tiny/1", tmp_path / "files")
    hold(act, 50, store, tmp_path / "files")
