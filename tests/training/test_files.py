"""What a full disk and a folder that is read-only leave of a run: its files as they were, and one line that says the way out."""

import errno
import os
import resource
import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from models.registry import registry
from tests.models.conftest import contents
from tests.training.conftest import Journey
from training import files
from training.__main__ import main
from training.errors import StorageError
from training.publishing import export
from training.report import speed

COMMANDS = ("evaluate", "export", "report", "publish")


@contextmanager
def full_after(size: int) -> Generator[None]:
    """No file can be longer than ``size`` bytes, which is as near to a full disk as a test without rights can come."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def call(command: str, journey: Journey, run: Path, store: Path) -> int:
    more = {"publish": ["--name", "colours", "--store", str(store)]}.get(command, [str(journey.data)])
    return main([command, str(run), *more])


def told(capsys: pytest.CaptureFixture[str], words: str) -> str:
    """The last line of what was said, which is an error with these words and the way out."""
    err = capsys.readouterr().err.strip().splitlines()[-1]
    assert err.startswith("error: ")
    assert words in err
    assert "ake room" in err
    return err


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("size", [1000])
def test_a_full_disk_is_one_line_and_leaves_the_run_and_the_store_as_they_were(
    command: str,
    size: int,
    journey: Journey,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(speed, "SECONDS", 0.01)
    run, store = tmp_path / "run", tmp_path / "store"
    shutil.copytree(journey.run, run)
    shutil.copytree(journey.store, store)
    before = contents(run), contents(store)

    with full_after(size):
        code = call(command, journey, run, store)

    assert code == 1
    err = told(capsys, "File too large")
    assert "cannot be written" in err
    assert (contents(run), contents(store)) == before


@pytest.mark.parametrize(("number", "words"), [(errno.ENOSPC, "No space left on device"), (errno.EROFS, "Read-only file system")])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_that_cannot_be_written_to_is_told(
    command: str,
    number: int,
    words: str,
    journey: Journey,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(speed, "SECONDS", 0.01)
    run, store = tmp_path / "run", tmp_path / "store"
    shutil.copytree(journey.run, run)
    before = contents(run)
    refuse_below(tmp_path, number, monkeypatch)

    assert call(command, journey, run, store) == 1

    told(capsys, words)
    assert contents(run) == before
    assert not store.exists() or not registry.names(store)


def refuse_below(place: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing new can be made in a folder, whoever asks."""
    opened, made = os.open, os.mkdir

    def refused(path: object) -> bool:
        return isinstance(path, str | Path) and Path(path).is_relative_to(place)

    def open_(path: str, flags: int, *rest: object, **more: object) -> int:
        if refused(path) and flags & os.O_CREAT:
            raise OSError(number, os.strerror(number), str(path))
        return opened(path, flags, *rest, **more)  # type: ignore[arg-type]

    def mkdir(path: str, *rest: object, **more: object) -> None:
        if refused(path):
            raise OSError(number, os.strerror(number), str(path))
        made(path, *rest, **more)  # type: ignore[arg-type]

    plain = Path.open

    def path_open(self: Path, mode: str = "r", *rest: object, **more: object) -> object:
        if refused(self) and set(mode) & set("wxa"):
            raise OSError(number, os.strerror(number), str(self))
        return plain(self, mode, *rest, **more)  # type: ignore[call-overload]

    monkeypatch.setattr(os, "open", open_)
    monkeypatch.setattr(os, "mkdir", mkdir)
    monkeypatch.setattr(Path, "open", path_open)


def test_files_take_their_places_together_or_not_at_all(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text("before")

    def fill(error: Exception | None) -> Callable[[], None]:
        def work() -> None:
            with files.whole(first, second) as (a, b):
                a.write_text("after")
                b.write_text("after")
                if error:
                    raise error

        return work

    with pytest.raises(StorageError, match=f"{first} cannot be written: No space left on device; what was there before stays"):
        fill(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))()
    with pytest.raises(KeyError):
        fill(KeyError())()
    assert contents(tmp_path) == {"first": b"before"}
    fill(None)()
    assert contents(tmp_path) == {"first": b"after", "second": b"after"}


def test_what_an_export_no_longer_makes_is_removed_once_it_has_ended(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("before")
    (tmp_path / "other").write_text("of somebody else")
    with pytest.raises(KeyError), files.staged(tmp_path, ("old", "new"), "last"):
        raise KeyError
    assert contents(tmp_path).keys() == {"old", "other"}
    with files.staged(tmp_path, ("old", "new"), "last") as folder:
        (folder / "new").write_text("made")
        (folder / "last").write_text("made")
    assert contents(tmp_path).keys() == {"other", "new", "last"}


def test_an_export_whose_reference_fails_does_not_count_as_ended(
    journey: Journey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(journey.run, tmp_path / "run")
    monkeypatch.setattr(export.drift_reference, "write", lambda *_: (_ for _ in ()).throw(StorageError("full")))
    with pytest.raises(StorageError):
        export.export(tmp_path / "run", journey.data)
    assert not (tmp_path / "run" / export.FILE).exists()
