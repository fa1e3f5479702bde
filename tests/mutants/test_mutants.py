"""The lists of mutants fit the code and the tests as they are, and the runner tells a test that can fail from one that cannot."""

import ast
import builtins
import importlib
import re
from pathlib import Path

import pytest

from tests.mutants.__main__ import ROOT, Function, Mutant, areas, find, judge, read, replaced

EVERY = [(area, mutant) for area in areas() for mutant in read(area)]
EACH = pytest.mark.parametrize("mutant", [pytest.param(mutant, id=f"{area}: {mutant.what}") for area, mutant in EVERY])


def statements(function: Function) -> list[str]:
    """What a function does, without its docstring."""
    return [ast.unparse(statement) for statement in function.body[ast.get_docstring(function) is not None :]]


def names(function: Function) -> tuple[set[str], set[str]]:
    """Those that a function reads, and those that it has of its own."""
    nodes = list(ast.walk(function))
    loaded = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    own = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    own |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    return loaded, own | {alias.asname or alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}


def test_there_are_mutants() -> None:
    assert areas() == ["access", "admission", "limits", "supply"]
    assert all(read(area) for area in areas())
    assert len({mutant.function for _, mutant in EVERY}) == len(EVERY)


@EACH
def test_a_mutant_is_a_function_that_does_something_else(mutant: Mutant) -> None:
    source = (ROOT / mutant.file).read_text()
    before, after = find(source, mutant.name), find(replaced(source, mutant.name, mutant.body), mutant.name)
    assert ast.dump(before.args) == ast.dump(after.args)
    assert statements(after) == [ast.unparse(statement) for statement in ast.parse(mutant.body.strip()).body]
    assert statements(before) != statements(after)


@EACH
def test_a_mutant_needs_no_name_that_is_not_there(mutant: Mutant) -> None:
    """Else its tests would fail for that."""
    loaded, own = names(find(replaced((ROOT / mutant.file).read_text(), mutant.name, mutant.body), mutant.name))
    known = {*dir(builtins), *vars(importlib.import_module(mutant.function.partition(":")[0]))}
    assert loaded - own <= known


@EACH
def test_a_mutant_names_tests_that_exist(mutant: Mutant) -> None:
    assert 1 <= len(mutant.tests) <= 3
    for test in mutant.tests:
        file, _, name = test.partition("::")
        assert re.search(rf"^(async )?def {re.escape(name)}\(", (ROOT / file).read_text(), re.M), test


SOURCE = '''import functools

LIMIT = 3


class Gate:
    @functools.cache
    def allows(
        self, n: int
    ) -> bool:
        """Whether it does."""
        found = n <= LIMIT  # inclusive
        return found


def allowed(n):
    return n <= LIMIT
'''


def test_the_body_alone_is_replaced() -> None:
    assert replaced(SOURCE, "Gate.allows", "if n:\n    return True\nreturn False\n") == SOURCE.replace(
        '''        """Whether it does."""
        found = n <= LIMIT  # inclusive
        return found
''',
        """        if n:
            return True
        return False
""",
    )


@pytest.mark.parametrize(("source", "count"), [(SOURCE, 0), ("def f(): 1\ndef f(): 2\n", 2)])
def test_a_function_that_is_not_there_once_is_refused(source: str, count: int) -> None:
    with pytest.raises(ValueError, match=f"there are {count} functions 'f', not one"):
        replaced(source, "f", "pass")


def project(folder: Path, test: str) -> Path:
    (folder / "limit.py").write_text(SOURCE)
    (folder / "test_it.py").write_text(f"def test_limit():\n    {test}\n")
    return folder


REMOVED = Mutant("no limit", "limit:allowed", "return True", ["test_it.py::test_limit"])


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
    missing = Mutant("no limit", "limit:allowed", "return True", ["test_it.py::test_nothing"])
    assert judge(project(tmp_path, "pass"), missing)[0] == "BROKEN"
