"""service/similar/build.py: an index of a folder, renewed by what changed, and whole whatever happens."""

import os
from pathlib import Path

import msgspec
import numpy as np
import pytest

from service.inference.classifier import Classifier
from service.similar import build as building
from service.similar import manifest as manifests
from service.similar.index import Index
from service.similar.manifest import IndexFault
from service.similar.writer import IndexWriter
from tests.factories import make_image, make_package
from tests.service.similar.indexes import build_index, load, make_photos


@pytest.fixture(scope="module")
def classifier(tiny_store: Path) -> Classifier:
    return load(tiny_store / "tiny/1")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return make_photos(tmp_path / "photos")


def names(index: Index) -> list[str]:
    return [index.name(i) for i in range(index.manifest.images)]


def test_each_image_has_its_features_of_length_1_its_name_and_thumbnail(
    photos: Path, tmp_path: Path, classifier: Classifier
) -> None:
    built = build_index(photos, tmp_path / "index", classifier)
    index = Index(tmp_path / "index/tiny/1")
    assert names(index) == [f"{color}/{i}.png" for color in ("blue", "green", "red") for i in range(3)]
    expected = classifier.features([(photos / name).read_bytes() for name in names(index)])
    assert index.vectors == pytest.approx(expected, abs=1e-6)
    assert all(index.thumbnails[i].startswith(b"\xff\xd8\xff") for i in range(9))
    assert (built.images, built.added, built.computed, built.failed) == (9, 9, 9, {})
    assert index.manifest.fits(classifier.manifest)


def test_what_has_not_changed_is_taken_over_and_what_has_is_told(photos: Path, tmp_path: Path, classifier: Classifier) -> None:
    root = tmp_path / "index"
    build_index(photos, root, classifier)
    before = Index(root / "tiny/1")
    (photos / "red/0.png").write_bytes(make_image("PNG", 90, 60, seed=7, color="red"))  # changed
    (photos / "red/1.png").unlink()  # removed
    (photos / "red/2.png").rename(photos / "moved.png")  # removed and added, but not computed
    (photos / "new.png").write_bytes(make_image("PNG", 90, 60, seed=8))  # added
    built = build_index(photos, root, classifier)
    assert (built.unchanged, built.changed, built.removed, built.added, built.computed) == (6, 1, 2, 2, 2)
    after = Index(root / "tiny/1")
    assert names(after) == [
        "blue/0.png",
        "blue/1.png",
        "blue/2.png",
        "green/0.png",
        "green/1.png",
        "green/2.png",
        "moved.png",
        "new.png",
        "red/0.png",
    ]
    assert np.array_equal(after.vectors[6], before.vectors[8])
    assert after.thumbnails[6] == before.thumbnails[8]
    expected = classifier.features([(photos / name).read_bytes() for name in names(after)])
    assert after.vectors == pytest.approx(expected, abs=1e-6)
    assert (before.stamp != after.stamp, before.name(8)) == (True, "red/2.png")  # that is still read


def test_a_second_index_of_the_same_folder_computes_nothing(photos: Path, tmp_path: Path, classifier: Classifier) -> None:
    build_index(photos, tmp_path / "index", classifier)
    built = build_index(photos, tmp_path / "index", classifier)
    assert (built.unchanged, built.computed, built.changed + built.removed + built.added) == (9, 0, 0)
    assert len(list((tmp_path / "index/tiny/1").iterdir())) == 5  # nothing of the one before is left


def test_images_that_cannot_be_used_are_left_out_and_named(photos: Path, tmp_path: Path, classifier: Classifier) -> None:
    whole = (photos / "red/0.png").read_bytes()
    (photos / "cut.png").write_bytes(whole[: len(whole) // 2])
    (photos / "empty.jpg").write_bytes(b"")
    (photos / "text.jpg").write_bytes(b"hello")
    (photos / "note.txt").write_bytes(b"hello")
    built = build_index(photos, tmp_path / "index", classifier)
    assert set(built.failed) == {"cut.png", "empty.jpg", "text.jpg"}
    assert all(built.failed.values())
    assert (built.images, built.others) == (9, 1)


def test_a_folder_of_damaged_images_makes_no_index(tmp_path: Path, classifier: Classifier) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.jpg").write_bytes(b"hello")
    with pytest.raises(IndexFault, match=r"none of 1 images can be used.*a\.jpg"):
        build_index(tmp_path / "photos", tmp_path / "index", classifier)
    assert list((tmp_path / "index/tiny/1").iterdir()) == []


def test_with_another_package_everything_is_computed_anew_and_that_is_said(
    photos: Path, tmp_path: Path, classifier: Classifier
) -> None:
    root = tmp_path / "index"
    build_index(photos, root, classifier)
    other = load(make_package(tmp_path / "store", novelty=0.5))  # another graph that calls itself tiny:1 too
    built = build_index(photos, root, other)
    assert (built.computed, built.added) == (9, 9)
    assert built.anew == "tiny:1 is another package than the index before was made with"


def test_a_damaged_index_is_made_anew(photos: Path, tmp_path: Path, classifier: Classifier) -> None:
    root = tmp_path / "index"
    build_index(photos, root, classifier)
    before = Index(root / "tiny/1")
    os.truncate(before.place / before.manifest.files["hashes"].name, 5)
    built = build_index(photos, root, classifier)
    assert built.computed == 9
    assert "was changed" in built.anew
    assert Index(root / "tiny/1").manifest.images == 9


@pytest.mark.parametrize("at", ["append", "finish"])
def test_one_that_is_stopped_leaves_the_index_before_and_nothing_else(
    photos: Path, tmp_path: Path, classifier: Classifier, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    root = tmp_path / "index"
    build_index(photos, root, classifier)
    before = Index(root / "tiny/1")
    files = sorted(before.place.iterdir())

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(IndexWriter, at, stop)
    with pytest.raises(KeyboardInterrupt):
        build_index(photos, root, classifier)
    assert sorted(before.place.iterdir()) == files
    assert Index(root / "tiny/1").stamp == before.stamp


def test_what_a_killed_process_left_is_removed_by_the_next(photos: Path, tmp_path: Path, classifier: Classifier) -> None:
    root = tmp_path / "index"
    build_index(photos, root, classifier)
    left = root / "tiny/1/vectors-0123456789ab.bin"
    left.write_bytes(b"half")
    build_index(photos, root, classifier)
    assert not left.exists()


def test_two_do_not_make_the_same_index_at_once(photos: Path, tmp_path: Path, classifier: Classifier) -> None:
    place = manifests.place_of(tmp_path / "index", classifier.manifest)
    with building._alone(place), pytest.raises(IndexFault, match="another process"):  # pyright: ignore[reportPrivateUsage]
        build_index(photos, tmp_path / "index", classifier)


def test_a_full_disk_is_told_and_the_index_before_stays(
    photos: Path, tmp_path: Path, classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "index"
    build_index(photos, root, classifier)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(IndexWriter, "append", full)
    with pytest.raises(IndexFault, match="No space left on device; what was there before stays"):
        build_index(photos, root, classifier)
    assert Index(root / "tiny/1").manifest.images == 9


def test_features_that_are_no_numbers_are_left_out(
    photos: Path, tmp_path: Path, classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute = classifier.compute

    def poisoned(pixels: list[object], output: str = "logits") -> object:
        rows = compute(pixels, output)  # type: ignore[arg-type]
        rows[0, 0] = np.nan
        return rows

    monkeypatch.setattr(classifier, "compute", poisoned)
    built = build_index(photos, tmp_path / "index", classifier)
    assert set(built.failed.values()) == {"its features are no numbers (NaN or infinite)"}
    assert np.isfinite(Index(tmp_path / "index/tiny/1").vectors).all()
    assert msgspec.json.encode(built)
