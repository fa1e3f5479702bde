"""training/data/dataset.py: which files become which images, and how they are split."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.image.preprocess import preprocess
from models.image.spec import InputSpec
from models.package import comparison, held_out_answers
from tests.factories import make_image
from tests.training.factories import COLOURS, SPEC, make_folder, make_images
from training.data import dataset
from training.data.dataset import ImageSet
from training.data.lineage import past_of
from training.data.sources.catalogue import open_source
from training.data.sources.source import VALIDATION_NAMES, Item, Part, first_of_each
from training.errors import DataError


def test_classes_are_the_folders_sorted_by_name(tmp_path: Path) -> None:
    make_folder(tmp_path, ("yellow", "black", "Blue"), each=1)
    (tmp_path / ".cache").mkdir()
    (tmp_path / "notes.txt").write_text("no folder")

    assert dataset.load_folder(tmp_path, SPEC).classes == ("Blue", "black", "yellow")


def test_targets_and_paths_follow_the_order_of_the_classes(tmp_path: Path) -> None:
    images = dataset.load_folder(make_folder(tmp_path, ("red", "blue"), each=2), SPEC)

    assert images.classes == ("blue", "red")
    assert images.paths == ("blue/000.png", "blue/001.png", "red/000.png", "red/001.png")
    assert images.targets.tolist() == [0, 0, 1, 1]
    assert images.skipped == ()


def test_pixels_are_those_that_the_service_would_see(tmp_path: Path) -> None:
    spec = InputSpec(height=20, width=24, resize=28, interpolation="bicubic")
    make_folder(tmp_path, each=1)
    for c, name in enumerate(COLOURS):
        (tmp_path / name / "photo.jpg").write_bytes(make_image("JPEG", 90, 61 + c, seed=c))
        (tmp_path / name / "drawing.webp").write_bytes(make_image("WEBP", 50, 70, mode="RGBA", seed=c))

    images = dataset.load_folder(tmp_path, spec)

    assert images.pixels.shape == (9, 20, 24, 3)
    assert images.pixels[:].dtype == np.uint8
    expected = np.stack([preprocess((tmp_path / path).read_bytes(), spec) for path in images.paths])
    np.testing.assert_array_equal(images.pixels, expected)


def test_images_in_folders_below_a_class_belong_to_it(tmp_path: Path) -> None:
    make_folder(tmp_path, each=1)
    (tmp_path / "red" / "dark").mkdir()
    (tmp_path / "red" / "dark" / "a.png").write_bytes(make_image("PNG"))

    images = dataset.load_folder(tmp_path, SPEC)

    assert dict(zip(images.paths, images.targets, strict=True))["red/dark/a.png"] == 2


@pytest.mark.parametrize("hidden", [".DS_Store", ".thumbnails/000.png"])
def test_hidden_files_and_folders_are_skipped(hidden: str, tmp_path: Path) -> None:
    make_folder(tmp_path, each=1)
    path = tmp_path / "red" / hidden
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(make_image("PNG"))

    images = dataset.load_folder(tmp_path, SPEC)

    assert len(images) == 3
    assert images.skipped == ()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(make_image("GIF"), "looks like GIF", id="GIF with another ending"),
        pytest.param(make_image("JPEG", 200, 200)[:800], "is cut off", id="cut off"),
        pytest.param(make_image("JPEG", 200, 200)[:800] + b"\xff\xd9", "pixels are missing", id="cut off, with an end"),
        pytest.param(make_image("JPEG").replace(b"\x00\x11\x08", b"\x00\x11\x0c"), "12 bits a sample", id="not read"),
        pytest.param(b"hello", "looks like text", id="text"),
        pytest.param(b"", "0 bytes", id="empty"),
    ],
)
def test_a_file_that_cannot_be_decoded_is_left_out_and_named_with_the_reason(content: bytes, reason: str, tmp_path: Path) -> None:
    good = dataset.load_folder(make_folder(tmp_path, each=2), SPEC)
    bad = tmp_path / "green" / "0000.jpg"  # among the others
    bad.write_bytes(content)

    images = dataset.load_folder(tmp_path, SPEC)

    (line,) = images.skipped
    assert line.startswith(f"{bad}: ")
    assert reason in line
    assert images.paths == good.paths
    np.testing.assert_array_equal(images.pixels, good.pixels)
    np.testing.assert_array_equal(images.targets, good.targets)


def test_a_jpeg_without_its_end_is_trained_on(tmp_path: Path) -> None:
    whole = make_image("JPEG", 200, 200)
    make_folder(tmp_path, each=1)
    (tmp_path / "green" / "whole.jpg").write_bytes(whole[:-2])

    images = dataset.load_folder(tmp_path, SPEC)

    assert images.skipped == ()
    np.testing.assert_array_equal(images.pixels[images.paths.index("green/whole.jpg")], preprocess(whole, SPEC))


@pytest.mark.parametrize("many", [False, True], ids=["few", "many"])
def test_of_what_is_left_out_the_first_are_named_and_the_others_counted_by_reason(many: bool) -> None:
    lines = [f"red/{i}: 0: cut off" for i in range(9)] + [f"red/{i}.txt: no image" for i in range(2)]

    told = first_of_each(lines if many else lines[:5])

    assert told[:5] == lines[:5]
    assert told[5:] == (["4 more: cut off", "2 more: no image"] if many else [])


def missing(root: Path) -> Path:
    return root / "missing"


def plain_file(root: Path) -> Path:
    (root / "file").write_text("")
    return root / "file"


def no_class(root: Path) -> Path:
    return root


def one_class(root: Path) -> Path:
    return make_folder(root, ("red",))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        pytest.param(missing, "not a folder", id="missing"),
        pytest.param(plain_file, "not a folder", id="a file"),
        pytest.param(no_class, "holds 0 classes", id="no class"),
        pytest.param(one_class, "holds 1 classes", id="one class"),
    ],
)
def test_a_folder_without_two_classes_is_refused_by_name(make: Callable[[Path], Path], reason: str, tmp_path: Path) -> None:
    folder = make(tmp_path)

    with pytest.raises(DataError, match=reason) as caught:
        dataset.load_folder(folder, SPEC)

    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("content", [None, b"no image"], ids=["no file", "no usable file"])
def test_a_class_without_a_usable_image_is_refused_by_name(content: bytes | None, tmp_path: Path) -> None:
    make_folder(tmp_path, each=1)
    (tmp_path / "empty").mkdir()
    if content:
        (tmp_path / "empty" / "a.png").write_bytes(content)

    with pytest.raises(DataError, match=f"no usable image of the class empty in {tmp_path};"):
        dataset.load_folder(tmp_path, SPEC)


@pytest.mark.parametrize("name", VALIDATION_NAMES)
def test_a_folder_of_validation_images_beside_train_is_used_whole(name: str, tmp_path: Path) -> None:
    make_folder(tmp_path / "train", each=4)
    make_folder(tmp_path / name, each=2, seed=50)

    training, validation = dataset.load_training(tmp_path, SPEC, 0.5, seed=0)

    assert (len(training), len(validation)) == (12, 6)
    np.testing.assert_array_equal(training.pixels, dataset.load_folder(tmp_path / "train", SPEC).pixels)
    np.testing.assert_array_equal(validation.pixels, dataset.load_folder(tmp_path / name, SPEC).pixels)


def test_validation_images_may_lack_a_class_and_keep_their_targets(tmp_path: Path) -> None:
    make_folder(tmp_path / "train", each=2)
    make_folder(tmp_path / "val", ("green", "red"), each=1)

    _, validation = dataset.load_training(tmp_path, SPEC, 0.5, seed=0)

    assert validation.classes == COLOURS
    assert validation.targets.tolist() == [1, 2]


def test_a_class_that_only_the_validation_images_have_is_refused(tmp_path: Path) -> None:
    make_folder(tmp_path / "train", each=2)
    make_folder(tmp_path / "val", ("red", "yellow"), each=1)

    with pytest.raises(DataError, match=f"{tmp_path / 'val'} holds classes .*not know: yellow"):
        dataset.load_training(tmp_path, SPEC, 0.5, seed=0)


@pytest.mark.parametrize("layout", [".", "train"], ids=["plain folder", "train without val"])
def test_without_validation_images_a_share_of_the_training_images_is_held_out(layout: str, tmp_path: Path) -> None:
    make_folder(tmp_path / layout, each=8)

    training, validation = dataset.load_training(tmp_path, SPEC, 0.25, seed=0)

    assert set(training.targets) == set(validation.targets) == {0, 1, 2}
    assert len(training) + len(validation) == 24
    assert 3 <= len(validation) <= 12
    assert not set(training.paths) & set(validation.paths)


def test_test_images_are_never_read_for_training(tmp_path: Path) -> None:
    make_folder(tmp_path / "train", each=4)
    before = dataset.load_training(tmp_path, SPEC, 0.25, seed=0)
    make_folder(tmp_path / "test", ("red", "purple"), each=4)

    after = dataset.load_training(tmp_path, SPEC, 0.25, seed=0)

    assert [dataset.fingerprint(images) for images in after] == [dataset.fingerprint(images) for images in before]


def test_two_versions_of_a_folder_that_grew_are_compared_on_all_that_the_first_held_out(tmp_path: Path) -> None:
    first = dataset.load_training(make_folder(tmp_path, each=24), SPEC, 0.25, 0)
    make_folder(tmp_path / "more", each=12, seed=300)
    for path in (tmp_path / "more").rglob("*.png"):
        path.rename(tmp_path / path.parent.name / f"0-{path.name}")  # before the others
    shutil.rmtree(tmp_path / "more")

    second = dataset.load_training(tmp_path, SPEC, 0.25, 0)

    old, new = (
        held_out_answers.of_logits(v.identities, v.targets, np.eye(3, dtype=np.float32)[v.targets]) for v in (first[1], second[1])
    )
    assert len(second[1]) > len(first[1])
    assert len(comparison.pair(old, [*COLOURS], new, [*COLOURS]).target) == len(first[1])
    assert not set(first[0].identities) & set(second[1].identities)


def test_another_name_or_folder_changes_nothing(tmp_path: Path) -> None:
    before = dataset.load_training(make_folder(tmp_path / "a", each=24), SPEC, 0.25, 0)
    for i, path in enumerate(sorted((tmp_path / "a").rglob("*.png"), reverse=True)):
        place = tmp_path / "b" / path.parent.name / str(i % 3)
        place.mkdir(parents=True, exist_ok=True)
        path.rename(place / f"{i:03d}.png")

    after = dataset.load_training(tmp_path / "b", SPEC, 0.25, 0)

    assert [set(images.identities) for images in after] == [set(images.identities) for images in before]


def test_the_images_of_a_run_are_found_among_others(tmp_path: Path) -> None:
    training, validation = dataset.load_training(make_folder(tmp_path, each=12), SPEC, 0.25, 0)
    make_folder(tmp_path, ("violet",), each=4, seed=300)
    (tmp_path / training.paths[0]).unlink()

    found = dataset.load_run(tmp_path, SPEC, COLOURS, past_of(training.identities, validation.identities))

    assert dataset.fingerprint(found[1]) == dataset.fingerprint(validation)
    assert found[0].paths == training.paths[1:]


def other_pixel(images: ImageSet) -> ImageSet:
    pixels = images.pixels[:].copy()
    pixels[1, 2, 3, 0] ^= 1
    return replace(images, pixels=pixels)


def other_label(images: ImageSet) -> ImageSet:
    return replace(images, targets=images.targets[::-1].copy())


def other_order(images: ImageSet) -> ImageSet:
    return images.subset(np.arange(len(images))[::-1])


def other_name(images: ImageSet) -> ImageSet:
    return replace(images, classes=("class-0", "dog"))


def fewer(images: ImageSet) -> ImageSet:
    return images.subset(np.arange(len(images) - 1))


@pytest.mark.parametrize("change", [other_pixel, other_label, other_order, other_name, fewer])
def test_the_fingerprint_changes_with_what_is_learnt_from(change: Callable[[ImageSet], ImageSet]) -> None:
    images = make_images([3, 3])

    assert dataset.fingerprint(images) == dataset.fingerprint(make_images([3, 3]))
    assert dataset.fingerprint(change(images)) != dataset.fingerprint(images)


def test_channel_statistics_are_those_of_all_pixels() -> None:
    images = make_images([20, 20])

    mean, std = dataset.channel_statistics(images)

    assert mean == pytest.approx(images.pixels[:].mean(axis=(0, 1, 2)), abs=0.01)
    assert std == pytest.approx(images.pixels[:].std(axis=(0, 1, 2)), abs=0.01)


def test_a_channel_that_never_changes_has_a_deviation_to_divide_by() -> None:
    images = make_images([4, 4])
    images.pixels[:][..., 2] = 17

    mean, std = dataset.channel_statistics(images)

    assert mean[2] == 17
    assert std[2] >= 1


def listed(names: Sequence[str]) -> Part:
    """A part whose images must not be read."""
    return Part("photos", tuple(names), tuple(Item(name, name, name, unread) for name in names))


def unread() -> bytes:
    raise AssertionError("an image was read")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([f"{i:06d}" for i in range(100_001)], "photos cannot be trained on: there are 100,001 classes, at most 100,000 can be"),
        ([f"{i:06d}{'x' * 500}" for i in range(20_000)], "the names of 20,000 classes take [0-9,]+ bytes of a manifest"),
        (["cat", "x" * 2001], "a name of 2,001 letters"),
    ],
    ids=["many", "long", "one"],
)
def test_classes_that_could_not_be_served_are_refused_before_an_image_is_read(names: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        dataset.decode(listed(names), SPEC)


COMPOSED, APART = "caf\u00e9", "cafe\u0301"


@pytest.mark.parametrize(("trained", "given"), [(COMPOSED, APART), (APART, COMPOSED), (COMPOSED, f" {COMPOSED}")])
def test_a_folder_whose_name_is_written_in_another_way_is_of_the_class_that_is_known(
    trained: str, given: str, tmp_path: Path
) -> None:
    make_folder(tmp_path / "photos", ("red",), each=2)
    (tmp_path / "photos/red").rename(tmp_path / "photos" / given)

    images = dataset.load_folder(tmp_path / "photos", SPEC, ("blue", trained))

    assert (images.classes, images.targets.tolist()) == (("blue", trained), [1, 1])


def test_the_same_name_in_another_case_is_refused_with_the_one_that_is_known(tmp_path: Path) -> None:
    make_folder(tmp_path / "photos", ("red",), each=2)
    (tmp_path / "photos/red").rename(tmp_path / "photos/CAF\u00c9")

    with pytest.raises(DataError, match=r"does not know: CAF\u00c9 \(U\+00C9\), which is not caf\u00e9 \(U\+00E9\)$"):
        dataset.load_folder(tmp_path / "photos", SPEC, ("blue", COMPOSED))


def test_a_list_may_write_a_label_in_two_ways(tmp_path: Path) -> None:
    make_folder(tmp_path, ("red", "blue"), each=4)
    rows = [f"red/{i:03d}.png,{(COMPOSED, APART)[i % 2]}" for i in range(4)] + [f"blue/{i:03d}.png,blue" for i in range(4)]
    (tmp_path / "list.csv").write_text("\n".join(["path,label", *rows]))

    part = open_source(tmp_path / "list.csv").train

    assert part.classes == ("blue", COMPOSED)
    assert [item.label for item in part.items].count(COMPOSED) == 4
