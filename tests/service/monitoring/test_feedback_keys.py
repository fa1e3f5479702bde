"""service/monitoring/feedback_keys.py: the file of keys, where one is kept that nobody gave, and what the workers get."""

import logging
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from service.monitoring import feedback_keys
from service.monitoring.feedback_keys import NAME, FeedbackKeyError, find, hand_on, read
from service.settings import Settings

LONG = "k" * 32


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_file_holds_keys_a_line_each_in_their_order(tmp_path: Path) -> None:
    file = write(tmp_path / "keys", f"{'b' * 40}\n\n  {'a' * 32} \r\n", 0o440)
    assert read(file) == (b"b" * 40, b"a" * 32)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds 0 keys, it must hold 1 to 16"),
        ("\n" * 50, "holds 0 keys"),
        (f"{LONG}\n" * 17, "holds 17 keys"),
        (f"{LONG}\nsecret", "line 2 .* has 6 characters, a key has 32 to 1024; 'openssl rand -hex 32' makes one"),
        (f"{'k' * 31}\n", "line 1 .* has 31 characters"),
        ("k" * 1025, "line 1 .* has 1025 characters"),
        ("k" * 40_000, "more than 32768 bytes"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_without_a_word_of_its_keys(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(FeedbackKeyError, match=said) as caught:
        read(write(tmp_path / "file", text))
    assert "secret" not in str(caught.value)
    assert LONG[:20] not in str(caught.value)


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_can_write_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(FeedbackKeyError, match="can be written by others"):
        read(write(tmp_path / "keys", LONG, mode))


def test_a_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(FeedbackKeyError, match=r"none cannot be read: No such file|is no file"):
            find(Settings(store=str(tmp_path), feedback_key_file=str(path)), {})
    assert not list(tmp_path.iterdir())


def test_without_one_a_key_is_made_in_the_store_that_the_next_start_finds(tmp_path: Path) -> None:
    config = Settings(store=str(tmp_path))
    (key,) = find(config, {})
    assert len(key) == 64
    assert find(config, {}) == (key,)
    (file,) = tmp_path.iterdir()
    assert (file.name, stat.S_IMODE(file.stat().st_mode)) == (NAME, 0o600)


def test_services_that_share_a_folder_of_kept_images_share_a_key_there(tmp_path: Path) -> None:
    (kept := tmp_path / "kept").mkdir()
    stores = [tmp_path / "a", tmp_path / "b"]
    one, other = (find(Settings(store=str(store), feedback_dir=str(kept)), {}) for store in stores)
    assert one == other
    assert [path.name for path in kept.iterdir()] == [NAME]


def test_of_many_that_make_a_key_at_once_all_get_the_same(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        found = set(pool.map(lambda _: find(Settings(store=str(tmp_path)), {}), range(64)))
    assert len(found) == 1
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_where_none_can_be_kept_the_log_says_so_once_and_how_to_change_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, os.strerror(30))

    monkeypatch.setattr(feedback_keys.tempfile, "mkstemp", refuse)  # as on a read-only store
    with caplog.at_level(logging.WARNING, "hubel"):
        (key,) = find(Settings(store=str(tmp_path)), {})
    (record,) = caplog.records
    said = record.getMessage()
    assert "is taken until the service stops" in said
    assert f"no key can be kept in {tmp_path} (Read-only file system)" in said
    assert "set HUBEL_FEEDBACK_KEY_FILE" in said
    assert key.decode() not in said
    assert len(key) == 64
    assert not list(tmp_path.iterdir())


def test_a_kept_key_of_another_user_is_no_reason_not_to_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    find(config := Settings(store=str(tmp_path)), {})

    def refuse(file: Path) -> tuple[bytes, ...]:
        raise PermissionError(13, os.strerror(13))

    monkeypatch.setattr(feedback_keys, "_read", refuse)
    with caplog.at_level(logging.WARNING, "hubel"):
        assert len(find(config, {})) == 1
    assert "(Permission denied)" in caplog.text


def test_a_worker_takes_the_keys_of_its_supervisor_whatever_became_of_the_file(tmp_path: Path) -> None:
    keys = (b"a" * 32, os.urandom(64))
    config = Settings(store=str(tmp_path), feedback_key_file=str(tmp_path / "gone"))
    assert find(config, {feedback_keys.VARIABLE: hand_on(keys)}) == keys
