"""service/bulk/copies.py: each image in the folder of its class, nothing overwritten, nothing outside, the same names again."""

import errno
import os
from pathlib import Path

import pytest

from service.bulk import copies as module
from service.bulk.copies import LONGEST, Copies, fit
from service.bulk.errors import BulkError
from service.bulk.item import Item
from service.bulk.row import Row
from tests.service.bulk.bytes_items import Bytes


def put(copies: Copies, path: str, label: str | None, data: bytes, unsure: bool = False) -> str | None:
    row = Row(path, label, 0.9, unsure)
    copies.add(Item(path, "", Bytes(data)), row)
    return row.copy


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def copies(tmp_path: Path) -> Copies:
    return Copies(tmp_path / "sorted", ["cat", "dog"], 1000)


def test_images_lie_under_their_classes_and_unsure_ones_apart(copies: Copies) -> None:
    assert put(copies, "a/1.jpg", "cat", b"1") == "cat/1.jpg"
    assert put(copies, "a/2.jpg", "dog", b"2", unsure=True) == "unsure/2.jpg"
    assert put(copies, "a/3.jpg", None, b"3") is None
    assert content(copies.folder) == {"cat/1.jpg": b"1", "unsure/2.jpg": b"2"}


def test_names_that_clash_get_numbers_and_nothing_is_overwritten(copies: Copies) -> None:
    (copies.folder / "cat").mkdir()
    (copies.folder / "cat" / "1.jpg").write_bytes(b"mine")
    names = [put(copies, f"{folder}/1.jpg", "cat", data) for folder, data in (("a", b"1"), ("b", b"2"), ("c", b"2"))]
    assert names == ["cat/1-2.jpg", "cat/1-3.jpg", "cat/1-4.jpg"]
    assert content(copies.folder) == {"cat/1.jpg": b"mine", "cat/1-2.jpg": b"1", "cat/1-3.jpg": b"2", "cat/1-4.jpg": b"2"}


def test_made_again_the_copies_are_those_that_there_are(tmp_path: Path) -> None:
    files = [("a/1.jpg", b"1"), ("b/1.jpg", b"2"), ("c/1.jpg", b"1")]
    assert put(Copies(tmp_path, [], 1000), "a/1.jpg", "cat", b"1") == "cat/1.jpg"
    for _ in range(2):
        again = Copies(tmp_path, [], 1000)
        assert [put(again, path, "cat", data) for path, data in files] == ["cat/1.jpg", "cat/1-2.jpg", "cat/1-3.jpg"]
    assert len(content(tmp_path)) == 3


def test_after_a_kill_names_of_rows_from_before_are_taken(tmp_path: Path) -> None:
    put(Copies(tmp_path, [], 1000), "a/1.jpg", "cat", b"1")
    again = Copies(tmp_path, [], 1000)
    again.note(Row("a/1.jpg", "cat", copy="cat/1.jpg"))
    assert put(again, "b/1.jpg", "cat", b"1") == "cat/1-2.jpg"


@pytest.mark.parametrize(
    ("label", "name"),
    [("../../etc", "_.._etc"), ("/etc/passwd", "_etc_passwd"), ("..", "_"), ("a/b", "a_b"), ("nul\0", "nul_"), (" . ", "_")],
)
def test_a_label_leads_nowhere_else(label: str, name: str, copies: Copies, tmp_path: Path) -> None:
    assert put(copies, "x/..", label, b"1") == f"{name}/_"
    assert [path.name for path in tmp_path.iterdir()] == ["sorted"]


def test_a_link_in_the_place_of_a_class_is_not_followed(copies: Copies, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (copies.folder / "cat").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BulkError, match="sorted/cat cannot be written"):
        put(copies, "1.jpg", "cat", b"1")
    (copies.folder / "dog").mkdir()
    (copies.folder / "dog" / "1.jpg").symlink_to(tmp_path / "elsewhere" / "new.jpg")
    assert put(copies, "1.jpg", "dog", b"1") == "dog/1-2.jpg"
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_long_name_keeps_its_ending() -> None:
    assert len(fit("ö" * 300 + ".jpeg").encode()) <= LONGEST
    assert fit("ö" * 300 + ".jpeg").endswith("ö.jpeg")


def test_a_class_called_unsure_is_not_mixed_with_what_is(tmp_path: Path) -> None:
    copies = Copies(tmp_path, ["unsure"], 1000)
    assert put(copies, "1.jpg", "unsure", b"1") == "unsure/1.jpg"
    assert put(copies, "2.jpg", "unsure", b"2", unsure=True) == "unsure (not the class)/2.jpg"


def test_without_hard_links_nothing_is_overwritten_either(copies: Copies, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(module.os, "link", refuse)
    assert [put(copies, f"{n}/1.jpg", "cat", b"%d" % n) for n in range(2)] == ["cat/1.jpg", "cat/1-2.jpg"]
    assert content(copies.folder) == {"cat/1.jpg": b"0", "cat/1-2.jpg": b"1"}


def test_a_full_disk_is_told_and_leaves_no_half_copy_under_a_name(copies: Copies, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module.os, "link", refuse)
    with pytest.raises(BulkError, match="No space left on device; make room there, and run the same command again"):
        put(copies, "1.jpg", "cat", b"1")
    assert content(copies.folder) == {}


def test_many_classes_need_no_more_open_files(copies: Copies) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for number in range(50):
        put(copies, f"{number}.jpg", f"class {number}", b"1")
    assert len(os.listdir("/proc/self/fd")) == before
