"""models/lifecycle/dry_run.py: whatever a package does in its own process, this one gets a reason, in bounded time and memory."""

import time
from pathlib import Path

import pytest

from models.lifecycle import dry_run
from models.lifecycle.dry_run import DryRunError
from models.package import held_out_answers
from tests.factories import make_image
from tests.models.conftest import MakeStore


def test_a_package_is_run_in_a_process_of_its_own_as_the_service_would(
    make_store: MakeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(tiny=1)
    for label in ("red", "blue", "violet"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        (tmp_path / "photos" / label / "a.png").write_bytes(make_image("PNG", color=label))
    (tmp_path / "photos/red/b.jpg").write_bytes(b"no picture")
    (tmp_path / "photos/red/notes.txt").write_text("no picture either")
    monkeypatch.setenv("HUBEL_DEVICE", "cpu")
    monkeypatch.setenv("HUBEL_MAX_BATCH", "3")
    found = dry_run.run(store / "tiny/1", tmp_path / "photos", tmp_path / "answers.npz")
    assert (found.model, found.images, found.left_out) == ("tiny:1", 3, 1)
    assert (found.one.size, found.largest.size) == (1, 3)
    assert min(found.one.seconds, found.largest.seconds, found.load_seconds) > 0
    assert found.memory_bytes > 2**25
    made = held_out_answers.read((tmp_path / "answers.npz").read_bytes(), 3, tmp_path)
    by_image = dict(zip(made.image.tolist(), zip(made.target.tolist(), made.predicted.tolist(), strict=True), strict=True))
    assert by_image[held_out_answers.identity(make_image("PNG", color="red"))] == (0, 0)
    assert by_image[held_out_answers.identity(make_image("PNG", color="blue"))] == (2, 2)
    assert by_image[held_out_answers.identity(make_image("PNG", color="violet"))][0] == held_out_answers.UNKNOWN


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("hangs", "it was not ready after 0.5 s and was stopped; --seconds gives it longer"),
        ("crashes", r"it crashed \(SIGSEGV\): the last word"),
        ("swallows", "it ended with exit code 1: MemoryError"),
        ("killed", r"it was killed \(SIGKILL\)"),
        ("babbles", "it ended with exit code 0"),
        ("lies", "it ended with exit code 0"),
        ("refuses", "the graph is odd"),
        ("lacks", "there is no ONNX Runtime here; run this where the service is installed"),
    ],
)
def test_a_process_that_goes_wrong_gives_a_reason(
    what: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dry_run, "PROGRAM", "tests.models.misbehaviour")
    monkeypatch.setattr(dry_run, "free_memory", lambda: 2**28)
    began = time.monotonic()
    with pytest.raises(DryRunError, match=f"^{reason}"):
        dry_run.run(tmp_path / what, seconds=0.5)
    assert time.monotonic() - began < 50  # no speed: what hangs would end by itself after 60 s


def test_a_process_that_does_not_end_itself_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dry_run, "PROGRAM", "tests.models.misbehaviour")
    monkeypatch.setattr(dry_run, "GRACE_SECONDS", 0.2)
    with pytest.raises(DryRunError, match=r"not ready after 0.5 s"):
        dry_run.run(tmp_path / "hangs-deaf", seconds=0.5)


def test_free_memory_is_what_the_container_has_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = dry_run.free_memory()
    assert machine >= 2**29
    monkeypatch.setattr(dry_run, "CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text(f"{3 * 2**29}\n")
    (tmp_path / "memory.current").write_text(f"{2**29}\n")
    assert dry_run.free_memory() == min(machine, 2**30)
    (tmp_path / "memory.max").write_text("max\n")
    assert dry_run.free_memory() > 2**30
