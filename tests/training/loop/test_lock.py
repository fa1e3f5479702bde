"""training/loop/lock.py: one process at a time, and nothing left behind."""

import os
import re
from pathlib import Path

import pytest

from training.errors import CheckpointError
from training.loop import lock
from training.loop.checkpoint import SIDECAR


def test_a_folder_that_is_held_is_refused_and_the_holder_named(tmp_path: Path) -> None:
    with (
        lock.held(tmp_path / "run"),
        pytest.raises(CheckpointError, match=rf"process {os.getpid()} trains into {re.escape(str(tmp_path / 'run'))}: "),
        lock.held(tmp_path / "run"),
    ):
        pass


def test_a_folder_that_was_let_go_can_be_held_again(tmp_path: Path) -> None:
    for _ in range(2):
        with lock.held(tmp_path):
            pass


def test_a_folder_in_which_nothing_came_to_be_is_removed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="stopped"), lock.held(tmp_path / "runs" / "run"):
        raise ValueError("stopped")

    assert not (tmp_path / "runs" / "run").exists()


@pytest.mark.parametrize("name", [SIDECAR, "notes.txt"])
def test_a_folder_that_holds_something_stays(name: str, tmp_path: Path) -> None:
    with lock.held(tmp_path / "run"):
        (tmp_path / "run" / name).write_text("{}")

    assert (tmp_path / "run" / name).exists()


def test_a_folder_that_was_there_before_stays(tmp_path: Path) -> None:
    with lock.held(tmp_path):
        pass

    assert tmp_path.exists()


def test_a_lock_file_that_its_holder_removed_locks_nobody(tmp_path: Path) -> None:
    """As when a run that came to nothing removes it just after another process has opened it."""
    with lock.held(tmp_path / "run"):
        (tmp_path / "run" / lock.FILE).unlink()
        with lock.held(tmp_path / "run"):
            assert (tmp_path / "run" / lock.FILE).read_text() == str(os.getpid())


@pytest.mark.parametrize("place", ["file/run", "file"])
def test_a_folder_that_cannot_be_made_is_an_error_that_names_it(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    with (
        pytest.raises(CheckpointError, match=rf"{place} cannot be written to \(.*choose another --out"),
        lock.held(tmp_path / place),
    ):
        pass
