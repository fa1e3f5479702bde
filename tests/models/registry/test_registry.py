"""How packages get into the store and are found in it, and that nothing is left half done."""

import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from threading import Barrier
from typing import Any

import msgspec
import pytest

from models.package.manifest import PackageError
from models.registry import registry
from tests.factories import make_files, make_manifest, make_package
from tests.models.conftest import MakeStore, contents, pointer

PUBLISHERS = 6


def make_draft_files(folder: Path) -> Path:
    folder.mkdir()
    make_files(folder, make_manifest())
    return folder


def test_versions_are_numbered_from_1_for_each_name(tmp_path: Path) -> None:
    made = [make_package(tmp_path, name) for name in ("tiny", "tiny", "other", "tiny")]
    assert [str(folder.relative_to(tmp_path)) for folder in made] == ["tiny/1", "tiny/2", "other/1", "tiny/3"]
    assert registry.names(tmp_path) == ["other", "tiny"]
    assert registry.versions(tmp_path, "tiny") == [1, 2, 3]
    assert list(registry.packages(tmp_path)) == [tmp_path / "other/1", *(tmp_path / f"tiny/{n}" for n in (1, 2, 3))]


def test_versions_count_up_past_9_and_past_gaps(make_store: MakeStore) -> None:
    store = make_store(tiny=1)
    (store / "tiny/1").rename(store / "tiny/9")
    assert make_package(store).name == "10"
    assert registry.versions(store, "tiny") == [9, 10]


def test_publish_sets_version_date_and_hashes(tmp_path: Path) -> None:
    files = make_draft_files(tmp_path / "files")
    before = datetime.now(UTC)
    manifest = registry.publish(tmp_path / "store", files, make_manifest(version=77, created=datetime(2000, 1, 1, tzinfo=UTC)))
    assert manifest.version == 1
    assert before <= manifest.created <= datetime.now(UTC)
    assert manifest.files == {path.name: registry.sha256(path) for path in files.iterdir()}
    assert registry.verify(tmp_path / "store/tiny/1") == manifest


def test_a_published_package_can_be_published_again(tmp_path: Path) -> None:
    folder = make_package(tmp_path / "here")
    again = registry.publish(tmp_path / "there", folder, registry.verify(folder))
    assert registry.verify(tmp_path / "there/tiny/1") == again


def test_the_first_version_goes_into_service_and_later_ones_wait(make_store: MakeStore) -> None:
    store = make_store(tiny=1)
    first = pointer(store)
    assert (first.version, first.reason, first.before) == (1, "first version", [])
    make_package(store)
    make_package(store)
    assert pointer(store) == first


def test_publishing_leaves_earlier_versions_as_they_are(make_store: MakeStore) -> None:
    store = make_store(tiny=2)
    before = contents(store)
    make_package(store)
    assert before.items() <= contents(store).items()


def test_folder_and_pointer_can_be_read_by_another_user(tmp_path: Path) -> None:
    folder = make_package(tmp_path)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "tiny/current.json").stat().st_mode) == 0o644


def take_golden_away(files: Path) -> None:
    (files / "golden.npz").unlink()


def add_hidden_file(files: Path) -> None:
    (files / ".notes").touch()


def add_folder(files: Path) -> None:
    (files / "plots").mkdir()


def leave_as_it_is(files: Path) -> None:
    assert files.is_dir()


@pytest.mark.parametrize("published", [{}, {"tiny": 1}], ids=["first", "second"])
@pytest.mark.parametrize(
    ("changes", "prepare", "message"),
    [
        ({"name": "../evil"}, leave_as_it_is, r"\$.name"),
        ({"temperature": -1.0}, leave_as_it_is, r"\$.temperature"),
        ({}, take_golden_away, "files lacks golden.npz"),
        ({}, add_hidden_file, r"\$.files"),
        ({}, add_folder, "plots is not a plain file"),
    ],
    ids=["name", "field", "missing file", "hidden file", "folder"],
)
def test_a_package_that_cannot_be_published_leaves_the_store_untouched(
    tmp_path: Path,
    make_store: MakeStore,
    published: dict[str, int],
    changes: dict[str, Any],
    prepare: Callable[[Path], None],
    message: str,
) -> None:
    store = make_store(**published)
    before = contents(store)
    prepare(make_draft_files(tmp_path / "files"))
    draft = msgspec.structs.replace(make_manifest(), **changes)
    with pytest.raises(PackageError, match=message):
        registry.publish(store, tmp_path / "files", draft)
    assert contents(store) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["files", "store"]


def test_publish_leaves_nothing_but_the_version_and_the_pointer(tmp_path: Path) -> None:
    make_package(tmp_path)
    listed = {"tiny", "tiny/1", "tiny/current.json"}
    assert set(contents(tmp_path)) == listed | {
        f"tiny/1/{name}" for name in ("card.md", "golden.npz", "manifest.json", "model.onnx")
    }


def test_a_plain_file_in_the_place_of_a_version_stops_publishing(tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny/1").touch()
    with pytest.raises(PackageError, match="cannot be written to: Not a directory; nothing was published"):
        make_package(tmp_path)
    assert set(contents(tmp_path)) == {"tiny", "tiny/1"}


def test_publishers_at_the_same_time_get_different_numbers(tmp_path: Path, make_store: MakeStore) -> None:
    files, store = make_draft_files(tmp_path / "files"), make_store(tiny=1)
    start = Barrier(PUBLISHERS)

    def publish(_: int) -> int:
        start.wait(timeout=10)
        return registry.publish(store, files, make_manifest()).version

    with ThreadPoolExecutor(PUBLISHERS) as pool:
        given = list(pool.map(publish, range(PUBLISHERS)))
    assert sorted(given) == list(range(2, PUBLISHERS + 2))
    assert [registry.verify(folder).version for folder in registry.packages(store)] == [1, *sorted(given)]
    assert pointer(store).version == 1


@pytest.mark.parametrize(
    ("reference", "folder"),
    [("tiny", "tiny/2"), ("tiny:", "tiny/2"), ("tiny:1", "tiny/1"), ("tiny:03", "tiny/3")],
)
def test_a_reference_resolves_to_a_folder(make_store: MakeStore, reference: str, folder: str) -> None:
    store = make_store(tiny=3)
    registry.promote(store, "tiny", 2, "test")
    assert registry.resolve(store, reference) == store / folder


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        (
            "large",
            "no model 'large' in .*; there is other, tiny. Train .* one with '.*hubel run DATA --name large --store .*'",
        ),
        ("", "no model ''"),
        ("tiny:3", "no version '3' of model tiny in .*; there is 1, 2"),
        ("tiny:0", "no version '0'"),
        ("tiny:-1", "no version '-1'"),
        ("tiny:latest", "no version 'latest'"),
        ("tiny:²", "no version '²'"),
        ("tiny:1:2", "no version '1:2'"),
    ],
)
def test_a_reference_to_nothing_names_what_there_is(make_store: MakeStore, reference: str, message: str) -> None:
    store = make_store(tiny=2, other=1)
    with pytest.raises(PackageError, match=message):
        registry.resolve(store, reference)


def test_a_store_that_does_not_exist_holds_nothing(tmp_path: Path) -> None:
    assert registry.names(tmp_path / "nowhere") == []
    with pytest.raises(PackageError, match=r"no model 'tiny' in .*nowhere; there is none"):
        registry.resolve(tmp_path / "nowhere", "tiny")


def test_a_name_without_a_version_in_service_asks_for_one(make_store: MakeStore) -> None:
    store = make_store(tiny=2)
    (store / "tiny/current.json").unlink()
    with pytest.raises(PackageError, match=r"no version of tiny is live; name one \(tiny:2\) or promote one. There is 1, 2"):
        registry.resolve(store, "tiny")
