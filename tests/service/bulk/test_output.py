"""service/bulk/output.py: a file appears whole, by one rename, and it is known what it was made from."""

import io
from pathlib import Path

import pytest

from service.bulk.errors import BulkError
from service.bulk.journal import facts_of
from service.bulk.output import Stream, is_complete, line
from service.bulk.row import Row
from tests.service.bulk.rows import FACTS, numbered, row, run_to

FACTS_10 = facts_of(FACTS, numbered(10))


def test_a_whole_output_is_known_as_that_of_its_run_and_leaves_no_journal(tmp_path: Path) -> None:
    out = tmp_path / "x.csv"
    assert not is_complete(out, FACTS_10, overwrite=False)
    run_to(out, 10)
    assert is_complete(out, FACTS_10, overwrite=False)
    assert not is_complete(out, FACTS_10, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.csv", "x.csv.run.json"]


def test_an_output_of_another_run_is_told_with_what_differs(tmp_path: Path) -> None:
    run_to(tmp_path / "x.csv", 9)
    with pytest.raises(BulkError, match=r"was made from something else \(images 9, now 10\); give --overwrite to replace it"):
        is_complete(tmp_path / "x.csv", FACTS_10, overwrite=False)


def test_an_output_that_was_changed_or_is_no_output_is_not_taken_for_one(tmp_path: Path) -> None:
    out = tmp_path / "x.csv"
    run_to(out, 10)
    out.write_text("mine")
    for _ in range(2):
        with pytest.raises(BulkError, match="is there already and was not made by this command, or changed since"):
            is_complete(out, FACTS_10, overwrite=False)
        (tmp_path / "x.csv.run.json").unlink(missing_ok=True)
    assert out.read_text() == "mine"


def test_what_a_run_that_was_killed_while_it_wrote_the_file_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".x.csv-abc").write_text("half")
    run_to(tmp_path / "x.csv", 10)
    assert not (tmp_path / ".x.csv-abc").exists()


def test_what_is_replaced_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    out = tmp_path / "x.csv"
    run_to(out, 9)
    old = out.read_bytes()
    with pytest.raises(BulkError):
        run_to(out, 10, most_failures=-1, overwrite=True)
    assert out.read_bytes() == old
    run_to(out, 10)
    assert out.read_bytes() != old


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_standard_output_gets_json_and_a_terminal_lines_for_people() -> None:
    rows = [row(0), Row("b\n.jpg", "cat", 0.41, True), Row("c.jpg", error="unreadable", detail="gone")]
    Stream(plain := io.StringIO()).add(rows)
    assert plain.getvalue().splitlines()[0] == '{"path":"0","label":"red","probability":0.5,"unsure":false}'
    assert len(plain.getvalue().splitlines()) == 3
    Stream(terminal := Terminal()).add(rows)
    assert terminal.getvalue() == "0  red  50.0%\nb\\n.jpg  cat  41.0%  unsure\nc.jpg  unreadable: gone\n"


def test_a_name_that_would_command_the_terminal_is_escaped() -> None:
    assert "\x1b" not in line(Row("\x1b[2Jx.jpg", "cat", 0.9, False))
