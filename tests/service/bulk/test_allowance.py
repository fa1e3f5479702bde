"""service/bulk/allowance.py: a share or a count of images that may fail."""

import re

import pytest

from service.bulk.allowance import DEFAULT, most, parse


@pytest.mark.parametrize(("text", "images", "allowed"), [("1%", 1000, 10), ("1%", 10, 1), ("0.5%", 1000, 5), ("7", 10, 7)])
def test_a_share_is_rounded_up_and_a_count_is_taken(text: str, images: int, allowed: int) -> None:
    assert most(parse(text), images) == allowed


@pytest.mark.parametrize("text", ["0%", "0"])
def test_none_may_mean_none(text: str) -> None:
    assert most(parse(text), 10**6) == 0


@pytest.mark.parametrize("text", ["", "%", "-1", "101%", "1.5", "many", "1 %", "1e3", "nan%"])
def test_what_is_neither_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        parse(text)


def test_the_default_is_one_of_them() -> None:
    assert parse(DEFAULT) == DEFAULT
