"""Opening a file that others put there: plain files alone, and nothing that makes the reader wait or read without end."""

import errno
import os
import stat
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from threading import Timer
from typing import BinaryIO

import pytest

from models import files
from models.errors import PackageError
from tests.models.conftest import contents
from tests.models.special_files import SPECIAL, SPECIAL_IDS


def test_a_plain_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "it").write_bytes(b"data")
    assert files.read(tmp_path / "it", limit=4) == b"data"


@pytest.mark.parametrize(("make", "kind"), SPECIAL, ids=SPECIAL_IDS)
def test_what_is_no_plain_file_is_refused_at_once(tmp_path: Path, make: Callable[[Path], None], kind: str) -> None:
    make(tmp_path / "it")
    with pytest.raises(PackageError, match=f"it is not a plain file but {kind}; a package holds plain files alone"):
        files.read(tmp_path / "it")


@pytest.mark.parametrize(("make", "kind"), [SPECIAL[0], SPECIAL[3]], ids=[SPECIAL_IDS[0], SPECIAL_IDS[3]])
def test_what_takes_the_place_of_a_plain_file_before_it_is_opened_is_refused(
    tmp_path: Path, make: Callable[[Path], None], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "it").write_bytes(b"data")
    check = files.check_plain

    def exchange(path: Path, limit: int) -> None:
        check(path, limit)
        path.unlink()
        make(path)

    monkeypatch.setattr(files, "check_plain", exchange)
    with pytest.raises((PackageError, OSError), match=f"{kind}|symbolic links"):
        files.read(tmp_path / "it")


def test_a_file_that_is_too_long_is_not_read(tmp_path: Path) -> None:
    with open(tmp_path / "it", "wb") as sparse:
        sparse.truncate(10 * 2**30)
    with pytest.raises(PackageError, match=r"it has 10,737,418,240 bytes, at most 2,147,483,648 are read"):
        files.read(tmp_path / "it")


def test_a_file_that_grows_while_it_is_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "it").write_bytes(b"data")
    fdopen = os.fdopen

    def grow(handle: int, mode: str) -> object:
        (tmp_path / "it").write_bytes(b"data and more")
        return fdopen(handle, mode)

    monkeypatch.setattr(os, "fdopen", grow)
    with pytest.raises(PackageError, match="it grew past 8 bytes while it was read"):
        files.read(tmp_path / "it", limit=8)


@pytest.mark.parametrize("content", [b"after", lambda file: file.write(b"after")], ids=["bytes", "function"])
def test_a_file_is_replaced_whole_and_others_may_read_it(tmp_path: Path, content: bytes | Callable[[BinaryIO], object]) -> None:
    (tmp_path / "it").write_bytes(b"before")
    with open(tmp_path / "it", "rb") as reader:
        files.write_atomic(tmp_path / "it", content)
        assert reader.read() == b"before"
    assert contents(tmp_path) == {"it": b"after"}
    assert stat.S_IMODE((tmp_path / "it").stat().st_mode) == 0o644
    files.write_atomic(tmp_path / "it", content, mode=0o600)
    assert stat.S_IMODE((tmp_path / "it").stat().st_mode) == 0o600


def test_a_file_that_cannot_be_written_leaves_the_one_before_and_nothing_beside_it(tmp_path: Path) -> None:
    (tmp_path / "it").write_bytes(b"before")

    def fail(file: BinaryIO) -> None:
        file.write(b"half")
        assert len(list(tmp_path.iterdir())) == 2
        raise KeyError

    with pytest.raises(KeyError):
        files.write_atomic(tmp_path / "it", fail)
    assert contents(tmp_path) == {"it": b"before"}


def test_the_disk_holds_a_durable_file_before_its_name_and_then_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    fsync, replace = os.fsync, os.replace

    def sync(handle: int) -> None:
        said.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        fsync(handle)

    def rename(*paths: str) -> None:
        said.append("rename")
        replace(*paths)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", rename)
    files.write_atomic(tmp_path / "it", b"data")
    assert said == ["file", "rename", "folder"]
    files.write_atomic(tmp_path / "it", b"data", durable=False)
    assert said[3:] == ["rename"]


@pytest.mark.parametrize(("number", "fails"), [(errno.EINVAL, False), (errno.EIO, True)])
def test_a_file_system_that_cannot_sync_is_used_and_a_disk_that_fails_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, fails: bool
) -> None:
    def refuse(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="Input/output error") if fails else nullcontext():
        files.sync(tmp_path)


def test_a_lock_is_anothers_until_it_is_closed(tmp_path: Path) -> None:
    first, second = (os.open(tmp_path, os.O_RDONLY) for _ in range(2))
    assert files.lock(first)
    began = time.monotonic()
    assert not files.lock(second)
    assert not files.lock(second, began + 0.05)
    assert 0.05 <= time.monotonic() - began < 5
    Timer(0.05, os.close, [first]).start()
    assert files.lock(second, time.monotonic() + 30)
    os.close(second)


@pytest.mark.parametrize(
    "change",
    [
        lambda path: files.write_atomic(path, b"same"),
        lambda path: path.write_bytes(b"longer"),
        lambda path: path.write_bytes(b"SAME"),
        lambda path: path.chmod(0o600),
        Path.unlink,
    ],
    ids=["replaced", "longer", "as long", "mode", "gone"],
)
def test_what_identifies_a_file_changes_with_it(tmp_path: Path, change: Callable[[Path], object]) -> None:
    (tmp_path / "it").write_bytes(b"same")
    before = files.identity(tmp_path / "it")
    assert before == files.identity(tmp_path / "it")
    time.sleep(0.02)  # the clock of a file system may go in steps of 10 ms
    change(tmp_path / "it")
    assert before != files.identity(tmp_path / "it")


def test_a_missing_file_is_told_from_a_wrong_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        files.read(tmp_path / "it")
