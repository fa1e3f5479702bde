"""service/bulk/storage.py: images wherever fsspec reaches."""

from collections.abc import Iterator
from typing import Any

import pytest

from service.bulk.errors import BulkError
from service.bulk.walk import walk
from service.errors import BodyTooLarge

fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed")


@pytest.fixture
def place() -> Iterator[Any]:
    memory = fsspec.filesystem("memory")
    for name in ("b.jpg", "a/1.png", "notes.txt", "a/.hidden.jpg"):
        memory.pipe_file(f"/bulk/{name}", name.encode())
    yield memory
    memory.rm("/bulk", recursive=True)


def test_images_below_an_address_are_read_sorted(place: Any) -> None:
    listing = walk(["memory://bulk"])
    assert [item.path for item in listing.items] == ["memory:///bulk/a/1.png", "memory:///bulk/b.jpg"]
    assert [item.source.read(100) for item in listing.items] == [b"a/1.png", b"b.jpg"]
    assert listing.left_out == 2


def test_a_pattern_and_a_single_file_are_found(place: Any) -> None:
    assert [item.path for item in walk(["memory://bulk/*.jpg"]).items] == ["memory:///bulk/b.jpg"]
    assert [item.path for item in walk(["memory://bulk/b.jpg"]).items] == ["memory:///bulk/b.jpg"]


def test_what_is_longer_than_a_file_may_be_is_not_fetched(place: Any) -> None:
    with pytest.raises(BodyTooLarge, match="5 bytes, the limit is 4"):
        walk(["memory://bulk/b.jpg"]).items[0].source.read(4)


def test_a_file_that_is_gone_meanwhile_cannot_be_read(place: Any) -> None:
    (item,) = walk(["memory://bulk/b.jpg"]).items
    place.rm("/bulk/b.jpg")
    with pytest.raises(OSError, match=r"b\.jpg"):
        item.source.read(100)


@pytest.mark.parametrize(
    ("address", "said"),
    [("memory://nothing", "there is nothing at memory://nothing"), ("unheard://of", "unheard://of cannot be used: .*unheard")],
)
def test_an_address_that_leads_nowhere_is_told(address: str, said: str) -> None:
    with pytest.raises(BulkError, match=said):
        walk([address])
