"""The error tree: each has a status and a stable code, and the module's docstring shows it as it is."""

import inspect
import re

import pytest

from service import errors
from service.errors import ClientError, HubelError, Overloaded, ServerError, WrongMethod


def kinds(base: type[HubelError]) -> list[type[HubelError]]:
    """Every class below ``base``, depth first."""
    return [kind for child in base.__subclasses__() for kind in (child, *kinds(child))]


def concrete() -> list[type[HubelError]]:
    return [kind for kind in kinds(HubelError) if not kind.__subclasses__()]


def documented_tree() -> list[tuple[str, str, str]]:
    """(name, parent's name, status or "") of each class in the docstring, by indentation."""
    rows: list[tuple[str, str, str]] = []
    above: dict[int, str] = {}
    for line in inspect.cleandoc(errors.__doc__ or "").splitlines():
        found = re.fullmatch(r"( *)([A-Z]\w+)(?: {2,}(\d{3})(?:  .*)?)?", line)
        if found:
            indent, name, status = len(found[1]), found[2], found[3] or ""
            above[indent] = name
            rows.append((name, above.get(indent - 4, ""), status))
    return rows


@pytest.mark.parametrize("kind", concrete(), ids=lambda kind: kind.__name__)
def test_every_error_has_a_status_a_code_and_a_title(kind: type[HubelError]) -> None:
    assert 400 <= kind.status < 600
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", kind.code)
    assert re.fullmatch(r"[A-Z].*[a-z]", kind.title)


def test_codes_and_titles_are_unique() -> None:
    assert len({kind.code for kind in concrete()}) == len(concrete())
    assert len({kind.title for kind in concrete()}) == len(concrete())


def test_statuses_say_whose_fault_it_is() -> None:
    for kind in concrete():
        assert issubclass(kind, ClientError) == (kind.status < 500), kind
        assert issubclass(kind, ServerError) == (kind.status >= 500), kind


def test_the_docstring_shows_the_tree_with_every_class_and_status() -> None:
    tree = [("HubelError", "", "")]
    tree += [
        (kind.__name__, kind.__mro__[1].__name__, str(kind.status) if kind in concrete() else "") for kind in kinds(HubelError)
    ]
    assert documented_tree() == tree


def test_a_wrong_method_names_the_allowed_one_in_a_header() -> None:
    assert WrongMethod("no", "POST").headers() == {"allow": "POST"}


def test_overload_says_when_to_come_back() -> None:
    assert Overloaded("no", 7).headers() == {"retry-after": "7"}


def test_other_errors_need_no_header() -> None:
    assert errors.InternalError("no").headers() == {}
