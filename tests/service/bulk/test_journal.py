"""service/bulk/journal.py: what a killed run leaves is cut back to whole lines, and belongs to one run alone."""

import os
from pathlib import Path

import pytest

from service.bulk.errors import UNREADABLE, BulkError
from service.bulk.journal import Journal, difference, facts_of
from service.bulk.row import Row
from tests.service.bulk.rows import FACTS, numbered, row

ITEMS = numbered(20)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal with five rows."""
    journal = Journal(tmp_path / "journal", FACTS, ITEMS)
    journal.add([row(number) for number in range(5)])
    journal.close()
    return tmp_path / "journal"


def reopened(path: Path) -> int:
    """Rows that a journal still has, once it is opened again."""
    journal = Journal(path, FACTS, ITEMS)
    assert [found.path for found in journal.rows()] == [str(number) for number in range(journal.done)]
    journal.add([row(journal.done)])
    assert [found.path for found in journal.rows()] == [str(number) for number in range(journal.done)]
    journal.close()
    return journal.done - 1


def test_rows_are_there_again(path: Path) -> None:
    assert reopened(path) == 5


def test_wherever_the_file_is_cut_off_the_whole_lines_are_kept(path: Path) -> None:
    whole = path.read_bytes()
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        assert reopened(path) == max(0, whole[:end].count(b"\n") - 1)


@pytest.mark.parametrize("rest", [b"\0" * 50, b"\0\n", b"{}\n", b'{"path":"9"}\n', b'{"path":"5","label":1}\n'])
def test_what_is_no_row_of_the_next_image_is_cut_off(rest: bytes, path: Path) -> None:
    path.write_bytes(path.read_bytes() + rest)
    assert reopened(path) == 5


def test_files_at_the_end_that_could_not_be_read_are_tried_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal", FACTS, ITEMS)
    bad = [Row(str(number), error=UNREADABLE, detail="gone") for number in range(20)]
    journal.add([row(0), bad[1], row(2), bad[3], bad[4]])
    journal.close()
    assert reopened(tmp_path / "journal") == 3


def test_the_output_of_another_run_is_refused_with_what_differs_and_can_be_thrown_away(path: Path) -> None:
    other = FACTS | {"model": "other:2"}
    with pytest.raises(BulkError, match=r"unfinished output of another run \(model fake:1, now other:2\); give --overwrite"):
        Journal(path, other, ITEMS)
    assert reopened(path) == 5
    journal = Journal(path, other, ITEMS, anew=True)
    assert (journal.done, list(journal.rows())) == (0, [])
    journal.close()


def test_to_throw_away_what_is_of_another_run_keeps_what_is_of_this_one(path: Path) -> None:
    journal = Journal(path, FACTS, ITEMS, anew=True)
    assert journal.done == 5
    journal.close()


def test_a_file_that_is_no_journal_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "journal").write_text("my notes\n")
    with pytest.raises(BulkError, match="another run"):
        Journal(tmp_path / "journal", FACTS, ITEMS)
    assert (tmp_path / "journal").read_text() == "my notes\n"


def test_a_journal_has_one_writer(path: Path) -> None:
    journal = Journal(path, FACTS, ITEMS)
    with pytest.raises(BulkError, match="another process writes"):
        Journal(path, FACTS, ITEMS)
    journal.close()


def test_a_link_is_not_written_through(path: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(BulkError, match="cannot be written"):
        Journal(tmp_path / "link", FACTS, ITEMS)


def test_a_full_disk_is_told_and_leaves_whole_lines(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal, write = Journal(path, FACTS, ITEMS), os.write

    def half(handle: int, data: bytes) -> int:
        if len(data) < 200:
            raise OSError(28, "No space left on device")
        return write(handle, data[: len(data) // 2])

    monkeypatch.setattr("service.bulk.journal.os.write", half)
    with pytest.raises(
        BulkError, match=r"No space left on device; 5 images are in it: make room, and run the same command again"
    ):
        journal.add([row(number) for number in range(5, 15)])
    journal.close()
    monkeypatch.undo()
    assert 5 <= reopened(path) < 15


def test_the_list_of_images_and_their_content_are_part_of_what_a_run_is() -> None:
    facts = facts_of(FACTS, ITEMS)
    assert difference(facts, facts_of(FACTS, ITEMS)) == ""
    assert "images 19, now 20" in difference(facts, facts_of(FACTS, ITEMS[:-1]))
    changed = [*ITEMS[:-1], type(ITEMS[0])(ITEMS[-1].path, "other", ITEMS[-1].source)]
    assert difference(facts, facts_of(FACTS, changed)).startswith("list of images ")
