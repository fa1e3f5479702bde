"""A package that is not exactly what its manifest says is refused, and the first fault is named."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from models.package.manifest import PackageError
from models.registry import registry
from tests.models.conftest import MakeStore

FILES = ("model.onnx", "golden.npz", "card.md")


@pytest.fixture
def package(make_store: MakeStore) -> Path:
    """Folder of tiny:1."""
    return make_store(tiny=1) / "tiny/1"


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 0x80
    path.write_bytes(content)


def test_a_whole_package_is_verified_and_gives_its_manifest(package: Path) -> None:
    manifest = registry.verify(package)
    assert manifest.id == "tiny:1"
    assert set(manifest.files) == set(FILES)


@pytest.mark.parametrize("at", [0, 7, -1], ids=["first", "early", "last"])
@pytest.mark.parametrize("name", FILES)
def test_one_changed_byte_is_refused(package: Path, name: str, at: int) -> None:
    was = registry.sha256(package / name)
    flip(package / name, at)
    now = registry.sha256(package / name)
    with pytest.raises(PackageError, match=f"{name} was changed: its SHA-256 is {now[:12]}…, the manifest says {was[:12]}…"):
        registry.verify(package)


@pytest.mark.parametrize("share", [0, 0.3, 0.6, 0.9], ids=str)
def test_a_changed_byte_in_the_manifest_is_refused(package: Path, share: float) -> None:
    flip(package / "manifest.json", int(share * (package / "manifest.json").stat().st_size))
    with pytest.raises(PackageError, match=r"manifest.json is not a manifest that can be served"):
        registry.verify(package)


@pytest.mark.parametrize("name", FILES)
def test_a_changed_hash_in_the_manifest_is_refused(package: Path, name: str) -> None:
    text = (package / "manifest.json").read_text()
    (package / "manifest.json").write_text(text.replace(registry.sha256(package / name), "0" * 64))
    with pytest.raises(PackageError, match=f"{name} was changed: .*the manifest says 000000000000…"):
        registry.verify(package)


def test_a_manifest_of_nonsense_is_refused(package: Path) -> None:
    (package / "manifest.json").write_text("{}")
    with pytest.raises(PackageError, match="missing required field"):
        registry.verify(package)


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_a_missing_file_is_named(package: Path, name: str) -> None:
    (package / name).unlink()
    with pytest.raises(PackageError, match=f"{name} is missing|holds no readable {name}"):
        registry.verify(package)


@pytest.mark.parametrize("name", ["weights.bin", ".hidden", "model.onnx.data"])
def test_a_file_that_the_manifest_does_not_list_is_refused(package: Path, name: str) -> None:
    (package / name).touch()
    with pytest.raises(PackageError, match=f"{name} is not listed in the manifest of tiny:1"):
        registry.verify(package)


def test_a_folder_within_a_package_is_refused(package: Path) -> None:
    (package / "plots").mkdir()
    with pytest.raises(PackageError, match="plots is not a plain file"):
        registry.verify(package)


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_a_symlink_is_refused_even_to_the_right_bytes(tmp_path: Path, package: Path, name: str) -> None:
    (package / name).rename(tmp_path / name)
    (package / name).symlink_to(tmp_path / name)
    with pytest.raises(PackageError, match=f"{name} is not a plain file"):
        registry.verify(package)


def move(source: Path, target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    source.rename(target)


@pytest.mark.parametrize("place", ["tiny/2", "tiny/01", "other/1"])
@pytest.mark.parametrize("put", [move, shutil.copytree], ids=["moved", "copied"])
def test_a_package_in_another_place_than_its_own_is_refused(package: Path, put: Callable[[Path, Path], None], place: str) -> None:
    put(package, package.parents[1] / place)
    with pytest.raises(PackageError, match=f"{place} holds a package that calls itself tiny:1"):
        registry.verify(package.parents[1] / place)


def test_a_package_copied_to_another_store_is_whole(tmp_path: Path, package: Path) -> None:
    shutil.copytree(package, tmp_path / "there/tiny/1")
    assert registry.verify(tmp_path / "there/tiny/1") == registry.verify(package)


def test_a_folder_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match=r"holds no readable manifest.json: No such file"):
        registry.verify(tmp_path / "tiny/1")
