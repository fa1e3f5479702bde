"""service/similar/index.py, manifest.py and parts.py: an index is used as it was made, or not at all."""

import hashlib
import os
from pathlib import Path

import msgspec
import numpy as np
import pytest

from models.package.manifest import Manifest
from service.similar import manifest as manifests
from service.similar.index import Index, class_of
from service.similar.manifest import FILE, IndexFault, IndexManifest
from service.similar.search import nearest
from tests.service.similar.indexes import make_index, make_package_of, make_vectors

VECTORS = make_vectors(20, 8)
KINDS = ("vectors", "names", "hashes", "thumbnails")


@pytest.fixture
def index(tmp_path: Path) -> Index:
    return make_index(tmp_path, VECTORS)


def file_of(index: Index, kind: str) -> Path:
    return index.place / index.manifest.files[kind].name


def rewrite(index: Index, **changes: object) -> None:
    """The manifest with other fields, as someone writes them by hand."""
    path = index.place / FILE
    path.write_bytes(msgspec.json.encode(msgspec.json.decode(path.read_bytes()) | changes))


def test_what_was_written_is_read(index: Index) -> None:
    assert np.array_equal(index.vectors, VECTORS)
    assert [index.name(i) for i in (0, 19)] == ["some/0.jpg", "some/19.jpg"]
    assert [index.thumbnails[i] for i in (0, 19)] == [b"thumbnail 0", b"thumbnail 19"]
    assert index.nearest(VECTORS[7], 1)[0].tolist() == [7]
    assert index.is_whole()


def test_a_large_one_has_stand_ins_and_answers_alike(tmp_path: Path) -> None:
    vectors = make_vectors(4096, 512)
    large = make_index(tmp_path, vectors)
    assert large.bounds is not None
    assert large.bounds.shape == (4096, 128)
    assert large.nearest(vectors[9], 5)[0].tolist() == nearest(vectors, vectors[9], 5)[0].tolist()


def test_no_index_is_told_apart_from_a_damaged_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Index(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damage", ["truncated", "longer", "another byte", "missing", "a link", "a pipe", "a folder", "empty"])
def test_a_damaged_file_is_told_by_its_name(index: Index, kind: str, damage: str) -> None:
    path = file_of(index, kind)
    data = path.read_bytes()
    path.unlink()
    if damage == "a link":
        (path.parent / "elsewhere").write_bytes(data)
        path.symlink_to("elsewhere")
    elif damage == "a pipe":
        os.mkfifo(path)
    elif damage == "a folder":
        path.mkdir()
    elif damage != "missing":
        changed = {"truncated": data[:-1], "longer": data + b"0", "empty": b"", "another byte": data[:-1] + bytes([data[-1] ^ 1])}
        path.write_bytes(changed[damage])
    with pytest.raises(IndexFault, match=path.name):
        Index(index.place)


def test_a_file_that_is_cut_off_while_it_is_mapped_is_noticed(index: Index) -> None:
    os.truncate(file_of(index, "vectors"), 10)
    assert not index.is_whole()


def test_files_that_were_removed_stay_as_long_as_they_are_mapped(index: Index) -> None:
    for kind in KINDS:
        file_of(index, kind).unlink()
    assert index.is_whole()
    assert index.nearest(VECTORS[3], 1)[0].tolist() == [3]
    assert index.thumbnails[3] == b"thumbnail 3"


@pytest.mark.parametrize(
    "changes",
    [
        {"schema": 2},
        {"images": 21},
        {"images": 0},
        {"images": 10**9},
        {"images": -1},
        {"dimensions": 9},
        {"dimensions": 2**30},
        {"leading": 128},
        {"version": 0},
        {"model": "../tiny"},
        {"files": {}},
        {"more": 1},
        {"created": "2026-01-02"},
    ],
    ids=str,
)
def test_a_manifest_that_does_not_fit_is_refused(index: Index, changes: dict[str, object]) -> None:
    rewrite(index, **changes)
    with pytest.raises(IndexFault, match="is not the manifest of an index"):
        Index(index.place)


@pytest.mark.parametrize("name", ["../vectors-000000000000.bin", "/etc/passwd", "vectors.bin", "a/b-000000000000.bin", ""])
def test_no_manifest_leads_out_of_its_folder(index: Index, name: str) -> None:
    files = msgspec.to_builtins(index.manifest.files)
    files["vectors"]["name"] = name
    rewrite(index, files=files)
    with pytest.raises(IndexFault, match="is not the manifest of an index"):
        Index(index.place)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b" " * 2**21])
def test_what_is_no_manifest_is_refused(index: Index, text: bytes) -> None:
    (index.place / FILE).write_bytes(text)
    with pytest.raises(IndexFault):
        Index(index.place)


@pytest.mark.parametrize("kind", ["names", "thumbnails"])
def test_entries_that_do_not_follow_one_another_are_refused(index: Index, kind: str) -> None:
    """Even where the manifest agrees with them."""
    path = file_of(index, kind)
    data = bytearray(path.read_bytes())
    data[-16:-8] = (2**40).to_bytes(8, "little")
    path.write_bytes(data)
    files = msgspec.to_builtins(index.manifest.files)
    files[kind]["sha256"] = hashlib.sha256(data).hexdigest()
    rewrite(index, files=files)
    with pytest.raises(IndexFault, match="does not say where"):
        Index(index.place)


@pytest.mark.parametrize(
    "other",
    [
        make_package_of(8, version=2),
        make_package_of(8, name="other"),
        make_package_of(8, preprocessing="1" * 64),
        make_package_of(8, files=dict.fromkeys(("model.onnx", "golden.npz", "card.md"), "1" * 64)),
        make_package_of(16),
    ],
    ids=["version", "name", "preprocessing", "files", "dimensions"],
)
def test_an_index_fits_the_package_that_it_was_made_with_and_no_other(index: Index, other: Manifest) -> None:
    assert index.manifest.fits(make_package_of(8))
    assert not index.manifest.fits(other)


def test_stamps_of_two_indexes_differ(tmp_path: Path) -> None:
    assert make_index(tmp_path / "a", VECTORS).stamp != make_index(tmp_path / "b", VECTORS[::-1].copy()).stamp


def test_the_class_is_the_first_folder_of_a_name() -> None:
    assert [class_of(name) for name in ("a.jpg", "cat/a.jpg", "cat/2020/a.jpg")] == [None, "cat", "cat"]


def test_a_manifest_is_written_as_it_is_read(index: Index) -> None:
    manifest, _ = manifests.read(index.place)
    assert manifest == msgspec.convert(msgspec.to_builtins(index.manifest), IndexManifest)
