"""A version in a process of its own: what it answers, what is refused, and what happens when it is lost."""

import mmap
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from models.package.manifest import MODEL
from service.engine import client as module
from service.engine.client import EngineClient, EngineError, Load, read, write
from service.stopwatch import Patience
from tests.factories import LABELS, make_package, make_picture, run_onnx
from tests.server import runs

IMAGES = np.stack([np.asarray(make_picture(32, 32, color=color)) for color in LABELS])
GHOST = """
import socket, sys, time
pipe = socket.socket(fileno=int(sys.argv[2]))
what = sys.argv[1]
if what == "late":
    time.sleep(0.25)
    pipe.sendall(b"\\0\\0\\0\\x28\\x83\\xa4type\\xa6Failed\\xa4kind\\xa5Error\\xa6reason\\xa8too late")
if what == "nonsense":
    pipe.sendall(b"\\0\\0\\0\\x03abc")
if what == "endless":
    pipe.sendall(b"\\xff\\xff\\xff\\xff")
if what in ("silent", "nonsense", "endless"):
    time.sleep(1000)
sys.exit(3)
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("remote") / "store"
    make_package(store, graph={"poison": True})
    make_package(store, golden_error=1.0)
    return store


def request(store: Path, version: int = 1) -> Load:
    return Load(str(store / "tiny" / str(version)), "cpu", "auto", 1, "", 8)


@pytest.fixture(scope="module")
def remote(store: Path) -> Iterator[EngineClient]:
    remote = EngineClient(request(store), pass_seconds=30)
    remote.wait(60)
    yield remote
    remote.close()


def test_it_computes_what_the_graph_does(remote: EngineClient, store: Path) -> None:
    expected = run_onnx(store / "tiny/1" / MODEL, IMAGES)
    for count in (1, 3):
        found = remote.run(IMAGES[:count], ["logits", "features"])
        for name in ("logits", "features"):
            assert found[name] == pytest.approx(expected[name][:count], abs=1e-5)
    assert remote.run(IMAGES[:2], ["features"])["features"].shape == (2, 4)


def test_it_computes_all_that_an_answer_is_made_of(tmp_path: Path) -> None:
    folder = make_package(tmp_path, novelty=0.5)
    client = EngineClient(Load(str(folder), "cpu", "auto", 1, "", len(IMAGES)), pass_seconds=30)
    try:
        client.wait(60)
        found = client.run(IMAGES, ["features", "logits", "novelty"])  # as many as its memory is made for
    finally:
        client.close()
    expected = run_onnx(folder / MODEL, IMAGES)
    for name, values in found.items():
        assert values == pytest.approx(expected[name], abs=1e-5)


def test_what_it_answered_stays_when_it_answers_again(remote: EngineClient) -> None:
    first = remote.run(IMAGES[:1], ["logits"])["logits"]
    kept = first.copy()
    remote.answer()
    assert not np.array_equal(remote.run(IMAGES[1:2], ["logits"])["logits"], kept)
    assert np.array_equal(first, kept)


def test_it_says_what_it_is(remote: EngineClient) -> None:
    assert (remote.manifest.id, remote.precision) == ("tiny:1", "fp32")
    assert remote.provider.endswith("ExecutionProvider")


def test_a_batch_that_fails_fails_alone(remote: EngineClient) -> None:
    with pytest.raises(RuntimeError):
        remote.run(np.full((1, 32, 32, 3), 255, np.uint8), ["logits"])
    assert remote.run(IMAGES, ["logits"])["logits"].shape == (3, 3)


def test_one_that_is_not_what_it_promises_is_refused_with_the_reason(store: Path) -> None:
    refused = EngineClient(request(store, 2), pass_seconds=30)
    with pytest.raises(EngineError, match="tiny:2 answers its golden inputs differently"):
        refused.wait(60)
    assert not runs(refused.process.pid)


def test_one_that_is_killed_is_lost_for_good_and_says_how(store: Path) -> None:
    lost = EngineClient(request(store), pass_seconds=30)
    lost.wait(60)
    os.kill(lost.process.pid, signal.SIGKILL)
    for _ in range(2):
        with pytest.raises(EngineError, match=r"its process ended \(SIGKILL, as when the system is short of memory\) while"):
            lost.run(IMAGES, ["logits"])


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("silent", "did not end within 0.5 s while it was loaded"),
        ("gone", r"its process ended \(exit code 3\) while it was loaded"),
    ],
)
def test_one_that_does_not_come_is_ended(store: Path, what: str, reason: str) -> None:
    ghost = EngineClient(request(store), 30, (sys.executable, "-c", GHOST, what))
    with pytest.raises(EngineError, match=reason):
        ghost.wait(0.5 if what == "silent" else 30)
    assert not runs(ghost.process.pid)


def test_one_that_hangs_while_it_computes_is_ended(store: Path) -> None:
    hanging = EngineClient(request(store), pass_seconds=0.3)
    hanging.wait(60)
    os.kill(hanging.process.pid, signal.SIGSTOP)
    began = time.monotonic()
    with pytest.raises(EngineError, match=r"did not end within 0\.3 s while it computed"):
        hanging.run(IMAGES, ["logits"])
    assert time.monotonic() - began < 30  # no speed: it would hang for ever
    assert not runs(hanging.process.pid)


def test_time_in_which_both_stood_still_is_none_that_it_computed(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By another clock, as a test that stands still sees nothing."""
    now = [0.0]

    def jump() -> float:
        now[0] += 50.0
        return now[0]

    monkeypatch.setattr(module, "Patience", lambda step: Patience(step, jump))
    late = EngineClient(request(store), 30, (sys.executable, "-c", GHOST, "late"))
    with pytest.raises(EngineError, match="too late"):
        late.wait(8)
    jumping = EngineClient(request(store), 30, (sys.executable, "-c", GHOST, "silent"))
    with pytest.raises(EngineError, match=r"did not end within 0\.4 s"):
        jumping.wait(0.4)


def test_one_that_talks_nonsense_is_ended(store: Path) -> None:
    for what, reason in (
        ("endless", "its process ended"),
        ("nonsense", "it answered what cannot be understood while it was loaded"),
    ):
        ghost = EngineClient(request(store), 30, (sys.executable, "-c", GHOST, what))
        with pytest.raises(EngineError, match=reason):
            ghost.wait(30)
        assert not runs(ghost.process.pid)


def test_where_memory_is_short_it_goes_before_its_worker(remote: EngineClient, store: Path) -> None:
    score = Path(f"/proc/{remote.process.pid}/oom_score_adj")
    ours = int(Path("/proc/self/oom_score_adj").read_text())
    beside = EngineClient(request(store), pass_seconds=30)
    try:
        assert int(Path(f"/proc/{beside.process.pid}/oom_score_adj").read_text()) == 1000
    finally:
        beside.close()
    remote.answer()
    assert ours < int(score.read_text()) < 1000


def test_it_ends_with_its_worker(store: Path) -> None:
    orphan = EngineClient(request(store), pass_seconds=30)
    orphan.wait(60)
    orphan.pipe.socket.close()
    assert orphan.process.wait(30) == 0


def test_what_is_written_is_read_in_its_order() -> None:
    shared = mmap.mmap(-1, 4096)
    arrays = [np.arange(6, dtype=np.float32).reshape(2, 3), np.arange(2, dtype=np.float32).reshape(2, 1)]
    write(shared, 64, arrays)
    found = read(shared, 64, 2, {"logits": [3], "features": [1]})
    assert [found[name].tolist() for name in ("logits", "features")] == [array.tolist() for array in arrays]
