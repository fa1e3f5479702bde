"""A store holds folders and plain files: a link, pipe, socket or device anywhere in it is refused, and nothing hangs."""

import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import onnx
import pytest

from models.errors import PackageError
from models.package import manifest as manifests
from models.registry import registry
from tests.factories import make_files, make_manifest
from tests.models.conftest import MakeStore, contents, pointer
from tests.models.package.external_data import EXTERNAL, hide_in_constant, tensor
from tests.models.special_files import SPECIAL, SPECIAL_IDS

Make = Callable[[Path], None]


@pytest.mark.parametrize("name", ["manifest.json", "model.onnx", "extra"])
@pytest.mark.parametrize(("make", "kind"), SPECIAL, ids=SPECIAL_IDS)
def test_in_the_place_of_a_file_it_is_refused(make_store: MakeStore, make: Make, kind: str, name: str) -> None:
    folder = make_store(tiny=1) / "tiny/1"
    (folder / name).unlink(missing_ok=True)
    make(folder / name)
    with pytest.raises(PackageError, match=f"{name} is not a plain file but {kind}"):
        registry.verify(folder)


@pytest.mark.parametrize(("make", "kind"), SPECIAL, ids=SPECIAL_IDS)
def test_in_the_place_of_the_pointer_it_is_refused_until_promoting_replaces_it(
    make_store: MakeStore, make: Make, kind: str
) -> None:
    store = make_store(tiny=2)
    (store / "tiny/current.json").unlink()
    make(store / "tiny/current.json")
    for read in (registry.pointer, registry.resolve, registry.roll_back):
        with pytest.raises(PackageError, match=rf"current.json is damaged: .* is not a plain file but {kind}"):
            read(store, "tiny")
    if kind != "a folder":
        registry.promote(store, "tiny", 2, "mended")
        assert pointer(store).version == 2
        assert not (store / "tiny/current.json").is_symlink()


def test_a_pointer_of_a_gigabyte_is_not_read(make_store: MakeStore) -> None:
    store = make_store(tiny=1)
    with open(store / "tiny/current.json", "r+b") as file:
        file.truncate(2**30)
    with pytest.raises(PackageError, match=r"current.json is damaged: .*has 1,073,741,824 bytes, at most 1,048,576 are read"):
        registry.pointer(store, "tiny")


@pytest.mark.parametrize("linked", ["tiny", "tiny/1"])
def test_a_link_to_the_right_folder_is_refused(make_store: MakeStore, tmp_path: Path, linked: str) -> None:
    store = make_store(tiny=1)
    elsewhere = tmp_path / "elsewhere" / linked
    elsewhere.parent.mkdir(parents=True)
    (store / linked).rename(elsewhere)
    (store / linked).symlink_to(elsewhere)
    refused = pytest.raises(PackageError, match=f"{linked} is a link; a store holds folders and plain files alone")
    with refused:
        registry.verify(store / "tiny/1")
    before = contents(tmp_path)
    with refused:
        registry.promote(store, "tiny", 1, "test")
    assert contents(tmp_path) == before


def test_nothing_is_published_through_a_link(make_store: MakeStore, tmp_path: Path) -> None:
    store = make_store(tiny=1)
    (store / "tiny").rename(tmp_path / "elsewhere")
    (store / "tiny").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "files").mkdir()
    make_files(tmp_path / "files", make_manifest())
    before = contents(tmp_path)
    with pytest.raises(PackageError, match="tiny is a link; a store holds folders and plain files alone"):
        registry.publish(store, tmp_path / "files", make_manifest())
    assert contents(tmp_path) == before


@pytest.mark.parametrize(("make", "kind"), SPECIAL, ids=SPECIAL_IDS)
def test_it_is_not_published(tmp_path: Path, make: Make, kind: str) -> None:
    (tmp_path / "files").mkdir()
    make_files(tmp_path / "files", make_manifest())
    make(tmp_path / "files/extra")
    with pytest.raises(PackageError, match=f"extra is not a plain file but {kind}"):
        registry.publish(tmp_path / "store", tmp_path / "files", make_manifest())
    assert contents(tmp_path / "store") == {}


@pytest.mark.parametrize("reference", ["../store/tiny:1", "/etc:1", "./tiny:1", "tiny/:1", "..:1"])
def test_a_reference_names_a_model_and_not_a_path(make_store: MakeStore, reference: str) -> None:
    store = make_store(tiny=1)
    with pytest.raises(PackageError, match="no model "):
        registry.resolve(store, reference)


def poison(path: Path) -> None:
    """Have the graph take a value from another file."""
    model = onnx.load_model(path)
    hide_in_constant(model, tensor("/etc/passwd"))
    path.write_bytes(model.SerializeToString())


def test_a_graph_that_reads_other_files_is_not_published(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    make_files(tmp_path / "files", make_manifest())
    poison(tmp_path / "files/model.onnx")
    with pytest.raises(PackageError, match=f"model.onnx {EXTERNAL}"):
        registry.publish(tmp_path / "store", tmp_path / "files", make_manifest())
    assert contents(tmp_path / "store") == {}


def test_a_graph_that_reads_other_files_is_neither_promoted_nor_rolled_back_to(make_store: MakeStore) -> None:
    store = make_store(tiny=2)
    registry.promote(store, "tiny", 2, "test")
    folder = store / "tiny/1"
    poison(folder / "model.onnx")
    manifest = manifests.read(folder)
    files = manifest.files | {"model.onnx": registry.sha256(folder / "model.onnx")}
    manifests.write(folder, msgspec.structs.replace(manifest, files=files))
    before = contents(store)
    for refused in (lambda: registry.promote(store, "tiny", 1, "test"), lambda: registry.roll_back(store, "tiny")):
        with pytest.raises(PackageError, match=f"model.onnx {EXTERNAL}"):
            refused()
    assert contents(store) == before


def test_every_graph_of_a_package_is_looked_at_and_not_only_the_one_in_use(make_store: MakeStore) -> None:
    folder = make_store(tiny=1) / "tiny/1"
    shutil.copy(folder / "model.onnx", folder / "model.int8.onnx")
    poison(folder / "model.int8.onnx")
    manifest = manifests.read(folder)
    files = manifest.files | {"model.int8.onnx": registry.sha256(folder / "model.int8.onnx")}
    manifests.write(folder, msgspec.structs.replace(manifest, files=files))
    with pytest.raises(PackageError, match=rf"model\.int8\.onnx {EXTERNAL}"):
        registry.verify(folder)


def test_a_file_that_was_exchanged_after_it_was_verified_is_not_used(make_store: MakeStore) -> None:
    folder = make_store(tiny=1) / "tiny/1"
    manifest = registry.verify(folder)
    assert registry.load(folder, manifest, "model.onnx") == (folder / "model.onnx").read_bytes()
    (folder / "new").write_bytes(b"another graph")
    (folder / "new").replace(folder / "model.onnx")
    with pytest.raises(PackageError, match=r"model.onnx was changed: its SHA-256 is "):
        registry.load(folder, manifest, "model.onnx")
