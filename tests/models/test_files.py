"""Opening a file that others put there: plain files alone, and nothing that makes the reader wait or read without end."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from models import files
from models.errors import PackageError
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


def test_a_missing_file_is_told_from_a_wrong_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        files.read(tmp_path / "it")
