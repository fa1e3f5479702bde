"""service/api/explain.py: which form of answer a header asks for, and which class a name means."""

import pytest

from service.api.explain import Explain, index_of, wants_picture
from service.errors import InvalidParameter, TooManyImages
from tests.factories import make_manifest


@pytest.mark.parametrize(
    ("accept", "picture"),
    [
        ("", False),
        ("*/*", False),
        ("application/json", False),
        ("image/png", True),
        ("IMAGE/PNG ; q=1.0", True),
        ("image/*", True),
        ("image/png, */*", True),
        ("image/png, application/json", False),
        ("image/png;q=0.9, application/json", False),
        ("image/png, application/json;q=0.9", True),
        ("application/*;q=0.1, image/*;q=0.2", True),
        ("image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8", True),
        ("application/json, text/plain, */*", False),
        ("text/html", False),
        ("image/png;q=0", False),
        ("image/png;q=nan", False),
        ("image/png;q=9", False),
        ("image/png;q=x", False),
        ("image/png;q=", False),
        (",;,q=1;;image/png", False),
        ("a/b," * 1000 + "image/png", False),
        ("image/png\0", False),
    ],
)
def test_a_picture_is_answered_where_it_is_wanted_more_than_json(accept: str, picture: bool) -> None:
    assert wants_picture(accept) is picture


MANIFEST = make_manifest(labels=("1", "red", "a b+c/%d", "ß"))


@pytest.mark.parametrize(
    ("named", "index"), [("red", 1), ("1", 0), ("0", 0), ("2", 2), ("3", 3), ("003", 3), ("a b+c/%d", 2), ("ß", 3)]
)
def test_a_class_is_a_label_or_else_an_index(named: str, index: int) -> None:
    assert index_of(named, MANIFEST) == index


@pytest.mark.parametrize("named", ["", "Red", " red", "4", "-1", "1.0", "²", "9" * 20, "x" * 5000, "\x1b[2J", "nan"])
def test_another_class_is_refused_with_the_value_and_the_way_out(named: str) -> None:
    with pytest.raises(InvalidParameter, match=r"class is '.*', it must be a label of tiny:1, .* from 0 to 3") as caught:
        index_of(named, MANIFEST)
    assert len(str(caught.value)) < 250
    assert "\x1b" not in str(caught.value)


def test_a_picture_is_of_one_image() -> None:
    Explain(None, "float", draws=False).check(2)
    Explain(None, "float", draws=True).check(1)
    with pytest.raises(TooManyImages, match=r"2 images were sent, a picture .* shows one: send one, or ask for application/json"):
        Explain(None, "float", draws=True).check(2)
