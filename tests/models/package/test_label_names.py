"""models/package/label_names.py: names that look the same, and how a message tells them apart."""

import pytest

from models.package import label_names

COMPOSED, APART = "caf\u00e9", "cafe\u0301"


@pytest.mark.parametrize("name", [APART, f"{COMPOSED} ", f"\u00a0{APART}\u2003", f"\t{COMPOSED}"])
def test_one_name_is_written_in_one_way(name: str) -> None:
    assert label_names.normalised(name) == COMPOSED
    assert label_names.normalised("two  Words") == "two  Words"


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("cat", "Cat", True),
        (COMPOSED, APART.upper(), True),
        ("Stra\u00dfe", "STRASSE", True),
        ("two words", "two\u00a0\u00a0words ", True),
        ("cat", "c\u200bat\ufeff", True),
        ("m2", "m\u00b2", False),
        ("cat", "cats", False),
        (COMPOSED, "cafe", False),
    ],
)
def test_what_looks_the_same_is_folded_to_the_same(first: str, second: str, same: bool) -> None:
    assert (label_names.folded(first) == label_names.folded(second)) == same


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("cat", "cat"),
        ("two words", "two words"),
        (COMPOSED, f"{COMPOSED} (U+00E9)"),
        (f"{APART} ", f"{APART} (U+0301, U+0020)"),
        (" cat", "cat (U+0020)"),
        ("\u732b" * 20, "\u732b" * 20 + f" ({', '.join(['U+732B'] * 12)}, \u2026)"),
    ],
)
def test_a_name_is_spelled_where_it_may_look_like_another(name: str, shown: str) -> None:
    assert label_names.spelled(name) == shown


def test_of_names_that_look_the_same_none_is_meant() -> None:
    assert label_names.by_form(["Cat", "cat", "Dog"]) == {"dog": "Dog"}
    assert label_names.by_writing([COMPOSED, APART, "Dog", "dog"]) == {"Dog": "Dog", "dog": "dog"}
