"""The lists of changes fit the code and the tests as they are, and the runner tells a test that can fail from one that cannot."""

import re
from pathlib import Path

import pytest

from tests.mutants.__main__ import ROOT, Mutant, apply, areas, judge, read

EVERY = [(area, mutant) for area in areas() for mutant in read(area)]


def test_there_are_changes() -> None:
    assert "supply" in areas()
    assert all(read(area) for area in areas())


@pytest.mark.parametrize(("area", "mutant"), EVERY, ids=[f"{area}: {mutant.what}" for area, mutant in EVERY])
def test_a_change_fits_the_code_and_names_tests_that_exist(area: str, mutant: Mutant) -> None:
    assert (ROOT / mutant.file).read_text().count(mutant.old) == 1
    assert mutant.old != mutant.new
    assert mutant.tests
    for test in mutant.tests:
        file, _, name = test.partition("::")
        function = name.partition("[")[0].rpartition("::")[2]
        assert re.search(rf"^ *(async )?def {re.escape(function)}\(" if name else "", (ROOT / file).read_text(), re.M), test


def project(folder: Path, test: str) -> Path:
    (folder / "limit.py").write_text("LIMIT = 3\n\n\ndef allowed(n):\n    return n <= LIMIT\n")
    (folder / "test_it.py").write_text(f"def test_limit():\n    {test}\n")
    return folder


REMOVED = Mutant("no limit", "limit.py", "n <= LIMIT", "True", ["test_it.py::test_limit"])


@pytest.mark.parametrize(
    ("test", "verdict"),
    [
        ("from limit import allowed; assert not allowed(4)", "caught"),
        ("from limit import allowed; assert allowed(3)", "SURVIVED"),
    ],
    ids=["a test that guards", "a test that does not"],
)
def test_a_verdict_says_whether_a_test_failed(tmp_path: Path, test: str, verdict: str) -> None:
    assert judge(project(tmp_path, test), REMOVED)[0] == verdict


def test_tests_that_are_not_there_are_no_verdict(tmp_path: Path) -> None:
    missing = Mutant("no limit", "limit.py", "n <= LIMIT", "True", ["test_it.py::test_nothing"])
    assert judge(project(tmp_path, "pass"), missing)[0] == "BROKEN"


@pytest.mark.parametrize(("text", "count"), [("LIMIT", 2), ("nothing", 0)])
def test_a_change_whose_text_is_not_there_once_is_refused(tmp_path: Path, text: str, count: int) -> None:
    with pytest.raises(ValueError, match=f"holds the text of 'it' {count} times, not once"):
        apply(project(tmp_path, "pass"), Mutant("it", "limit.py", text, "x", []))
