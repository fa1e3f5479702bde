"""service/bulk/formats.py: the same rows in each form, and no cell of a CSV that a spreadsheet computes."""

import csv
import sys
from pathlib import Path

import msgspec
import pytest

from service.bulk.errors import BulkError, Failure
from service.bulk.formats import FORMULA, cell, writer_of
from service.bulk.item import Item
from service.bulk.journal import Journal
from service.bulk.output import Table
from service.bulk.row import Row, row_of
from tests.service.bulk.bytes_items import Bytes
from tests.service.bulk.rows import FACTS

ROWS = [
    Row('a,"b"\n;c.jpg', "soccer ball", 0.980289, False, 0.788912),
    Row("=cmd|' /C calc'!A0.jpg", "@label", 1.0, True),
    row_of("é ü.jpg", Failure("unsupported_format", "the file looks like text")),
]


def written(out: Path, rows: list[Row] = ROWS) -> Path:
    items = [Item(row.path, "", Bytes(b"")) for row in rows]
    table = Table(out, FACTS, items, overwrite=False, copies=False)
    table.add(rows)
    table.finish()
    return out


def test_csv_holds_every_row_and_formulas_are_text(tmp_path: Path) -> None:
    data = written(tmp_path / "x.csv").read_bytes()
    rows = list(csv.DictReader(data.decode().splitlines(keepends=True)))
    assert [row["path"] for row in rows] == ['a,"b"\n;c.jpg', "'=cmd|' /C calc'!A0.jpg", "é ü.jpg"]
    assert [row["label"] for row in rows] == ["soccer ball", "'@label", ""]
    assert [row["probability"] for row in rows] == ["0.980289", "1.0", ""]
    assert [row["unsure"] for row in rows] == ["false", "true", ""]
    assert [row["error"] for row in rows] == ["", "", "unsupported_format"]
    assert data.startswith(b'"path","label","probability","unsure","novelty","error","detail"\n"a,""b""\n;c.jpg",')


@pytest.mark.parametrize("sign", FORMULA)
def test_text_that_begins_like_a_formula_gets_an_apostrophe(sign: str) -> None:
    assert cell(f"{sign}1+1") == f"'{sign}1+1"


def test_numbers_and_other_text_stay() -> None:
    assert [cell(value) for value in (-0.5, None, "a=b", "1-2", "")] == [-0.5, None, "a=b", "1-2", ""]


def test_jsonl_holds_the_rows_as_they_are(tmp_path: Path) -> None:
    lines = written(tmp_path / "x.jsonl").read_bytes().splitlines()
    assert [msgspec.json.decode(line, type=Row) for line in lines] == ROWS


def test_parquet_holds_the_rows_with_their_types(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    table = parquet.read_table(written(tmp_path / "x.parquet"))
    assert [str(field.type) for field in table.schema] == ["string", "string", "double", "bool", "double", "string", "string"]
    assert [msgspec.convert(row, Row) for row in table.to_pylist()] == ROWS


def test_without_pyarrow_parquet_is_refused_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(BulkError, match=r"x\.parquet needs pyarrow, which is not installed: .*parquet.*; or name a \.jsonl"):
        writer_of(Path("x.parquet"))


@pytest.mark.parametrize("name", ["table", "table.xlsx"])
def test_another_ending_is_refused_with_those_there_are(name: str) -> None:
    with pytest.raises(BulkError, match=r"let it end in \.csv, \.jsonl, \.parquet"):
        writer_of(Path(name))


def test_columns_are_those_of_a_row_and_a_journal_that_is_empty_gives_the_head_alone(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal", FACTS, [])
    with open(tmp_path / "x", "wb") as file:
        writer_of(Path("x.csv"))(journal, ("path", "label"), file)
    journal.close()
    assert (tmp_path / "x").read_bytes() == b'"path","label"\n'
