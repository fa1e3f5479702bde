"""Which version is live: promoting, rolling back, and what a damaged pointer stops."""

from pathlib import Path

import pytest

from models.package.manifest import PackageError
from models.registry import registry
from tests.factories import make_package
from tests.models.conftest import MakeStore, contents, pointer


def in_service(store: Path) -> int:
    return pointer(store).version


def test_promote_remembers_what_was_in_service_before(make_store: MakeStore) -> None:
    store = make_store(tiny=3)
    for version in (2, 3, 1):
        assert registry.promote(store, "tiny", version, f"try {version}").version == version
    assert (pointer(store).version, pointer(store).before, pointer(store).reason) == (1, [2, 3], "try 1")


def test_promoting_the_version_in_service_keeps_its_history(make_store: MakeStore) -> None:
    store = make_store(tiny=2)
    registry.promote(store, "tiny", 2, "test")
    registry.promote(store, "tiny", 2, "again")
    assert (pointer(store).version, pointer(store).before) == (2, [1])


@pytest.mark.parametrize("version", [2, 3], ids=["damaged", "missing"])
def test_promote_refuses_what_does_not_verify_and_changes_nothing(make_store: MakeStore, version: int) -> None:
    store = make_store(tiny=2)
    (store / "tiny/2/model.onnx").write_bytes(b"another graph")
    before = contents(store)
    with pytest.raises(PackageError, match=rf"tiny/2/model.onnx was changed|no version '{version}'"):
        registry.promote(store, "tiny", version, "test")
    assert contents(store) == before


def test_rolling_back_goes_step_by_step_to_the_first(make_store: MakeStore) -> None:
    store = make_store(tiny=3)
    registry.promote(store, "tiny", 3, "test")
    registry.promote(store, "tiny", 2, "test")
    assert registry.roll_back(store, "tiny").reason == "rolled back from 2"
    assert (in_service(store), pointer(store).before) == (3, [1])
    registry.roll_back(store, "tiny")
    assert (in_service(store), pointer(store).before) == (1, [])
    with pytest.raises(PackageError, match=r"no version of tiny was live before; there is tiny:1, tiny:2, tiny:3"):
        registry.roll_back(store, "tiny")
    assert in_service(store) == 1


def test_rolling_back_passes_over_versions_that_were_removed(make_store: MakeStore, tmp_path: Path) -> None:
    store = make_store(tiny=3)
    registry.promote(store, "tiny", 2, "test")
    registry.promote(store, "tiny", 3, "test")
    (store / "tiny/2").rename(tmp_path / "removed")
    assert registry.roll_back(store, "tiny").version == 1


def test_rolling_back_to_a_damaged_version_is_refused(make_store: MakeStore) -> None:
    store = make_store(tiny=2)
    registry.promote(store, "tiny", 2, "test")
    (store / "tiny/1/card.md").unlink()
    with pytest.raises(PackageError, match=r"tiny/1/card.md is missing"):
        registry.roll_back(store, "tiny")
    assert in_service(store) == 2


def test_a_pointer_to_a_removed_version_is_named(make_store: MakeStore, tmp_path: Path) -> None:
    store = make_store(tiny=2)
    (store / "tiny/1").rename(tmp_path / "removed")
    with pytest.raises(PackageError, match=r"no version '1' of model tiny in .*; there is 2"):
        registry.resolve(store, "tiny")


@pytest.mark.parametrize(
    "content", [b"", b"2", b'{"version": 0}', b'{"version": 2, "promoted": "2026-01-01T00:00:00Z", "reason": "\xff"}'],
    ids=["empty", "number", "no version", "wrong UTF-8"],
)  # fmt: skip
def test_a_damaged_pointer_is_refused_until_a_version_is_promoted(make_store: MakeStore, content: bytes) -> None:
    store = make_store(tiny=2)
    (store / "tiny/current.json").write_bytes(content)
    for read in (registry.pointer, registry.resolve, registry.roll_back):
        with pytest.raises(PackageError, match=r"current.json is damaged: .*; promote a version again to replace it"):
            read(store, "tiny")
    assert registry.resolve(store, "tiny:1") == store / "tiny/1"
    registry.promote(store, "tiny", 2, "mended")
    assert (in_service(store), pointer(store).before) == (2, [])


def test_publishing_beside_a_damaged_pointer_leaves_the_pointer(make_store: MakeStore) -> None:
    store = make_store(tiny=1)
    (store / "tiny/current.json").write_bytes(b"damaged")
    assert make_package(store).name == "2"
    assert (store / "tiny/current.json").read_bytes() == b"damaged"
