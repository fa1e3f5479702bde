"""training/data.py: which files become which images, and how they become batches."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.input import InputSpec
from models.preprocess import preprocess
from tests.factories import make_image
from tests.training.factories import COLOURS, SPEC, make_folder, make_images
from training import data
from training.data import ImageSet
from training.errors import DataError


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_classes_are_the_folders_sorted_by_name(tmp_path: Path) -> None:
    for name in ("zebra", "ant", "Bee", ".cache"):
        (tmp_path / name).mkdir()
    (tmp_path / "notes.txt").write_text("no folder")

    assert data.class_folders(tmp_path) == ("Bee", "ant", "zebra")


def test_targets_and_paths_follow_the_order_of_the_classes(tmp_path: Path) -> None:
    images = data.load_folder(make_folder(tmp_path, ("red", "blue"), each=2), SPEC)

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

    images = data.load_folder(tmp_path, spec)

    assert images.pixels.shape == (9, 20, 24, 3)
    assert images.pixels.dtype == np.uint8
    expected = np.stack([preprocess((tmp_path / path).read_bytes(), spec) for path in images.paths])
    np.testing.assert_array_equal(images.pixels, expected)


def test_images_in_folders_below_a_class_belong_to_it(tmp_path: Path) -> None:
    make_folder(tmp_path, each=1)
    (tmp_path / "red" / "dark").mkdir()
    (tmp_path / "red" / "dark" / "a.png").write_bytes(make_image("PNG"))

    images = data.load_folder(tmp_path, SPEC)

    assert dict(zip(images.paths, images.targets, strict=True))["red/dark/a.png"] == 2


@pytest.mark.parametrize("hidden", [".DS_Store", ".thumbnails/000.png"])
def test_hidden_files_and_folders_are_passed_over(hidden: str, tmp_path: Path) -> None:
    make_folder(tmp_path, each=1)
    path = tmp_path / "red" / hidden
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(make_image("PNG"))

    images = data.load_folder(tmp_path, SPEC)

    assert len(images) == 3
    assert images.skipped == ()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(make_image("GIF"), "looks like GIF", id="GIF with another ending"),
        pytest.param(make_image("JPEG", 200, 200)[:800], "damaged or cut off", id="cut off"),
        pytest.param(b"hello", "no image format", id="text"),
        pytest.param(b"", "0 bytes", id="empty"),
    ],
)
def test_a_file_that_cannot_be_decoded_is_left_out_and_named_with_the_reason(content: bytes, reason: str, tmp_path: Path) -> None:
    good = data.load_folder(make_folder(tmp_path, each=2), SPEC)
    bad = tmp_path / "green" / "0000.jpg"  # among the others
    bad.write_bytes(content)

    images = data.load_folder(tmp_path, SPEC)

    (line,) = images.skipped
    assert line.startswith(f"{bad}: ")
    assert reason in line
    assert images.paths == good.paths
    np.testing.assert_array_equal(images.pixels, good.pixels)
    np.testing.assert_array_equal(images.targets, good.targets)


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
        pytest.param(no_class, "0 class folders", id="no class"),
        pytest.param(one_class, "1 class folders", id="one class"),
    ],
)
def test_a_folder_without_two_classes_is_refused_by_name(make: Callable[[Path], Path], reason: str, tmp_path: Path) -> None:
    folder = make(tmp_path)

    with pytest.raises(DataError, match=reason) as caught:
        data.load_folder(folder, SPEC)

    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("content", [None, b"no image"], ids=["no file", "no usable file"])
def test_a_class_without_a_usable_image_is_refused_by_name(content: bytes | None, tmp_path: Path) -> None:
    make_folder(tmp_path, each=1)
    (tmp_path / "empty").mkdir()
    if content:
        (tmp_path / "empty" / "a.png").write_bytes(content)

    with pytest.raises(DataError, match=f"no usable image in {tmp_path / 'empty'};"):
        data.load_folder(tmp_path, SPEC)


@pytest.mark.parametrize("name", data.VALIDATION_FOLDERS)
def test_a_folder_of_validation_images_beside_train_is_used_whole(name: str, tmp_path: Path) -> None:
    make_folder(tmp_path / "train", each=4)
    make_folder(tmp_path / name, each=2, seed=50)

    training, validation = data.load_training(tmp_path, SPEC, 0.5, seed=0)

    assert (len(training), len(validation)) == (12, 6)
    np.testing.assert_array_equal(training.pixels, data.load_folder(tmp_path / "train", SPEC).pixels)
    np.testing.assert_array_equal(validation.pixels, data.load_folder(tmp_path / name, SPEC).pixels)


def test_validation_images_may_lack_a_class_and_keep_their_targets(tmp_path: Path) -> None:
    make_folder(tmp_path / "train", each=2)
    make_folder(tmp_path / "val", ("green", "red"), each=1)

    _, validation = data.load_training(tmp_path, SPEC, 0.5, seed=0)

    assert validation.classes == COLOURS
    assert validation.targets.tolist() == [1, 2]


def test_a_class_that_only_the_validation_images_have_is_refused(tmp_path: Path) -> None:
    make_folder(tmp_path / "train", each=2)
    make_folder(tmp_path / "val", ("red", "yellow"), each=1)

    with pytest.raises(DataError, match=f"{tmp_path / 'val'} holds classes .*not know: yellow"):
        data.load_training(tmp_path, SPEC, 0.5, seed=0)


@pytest.mark.parametrize("layout", [".", "train"], ids=["plain folder", "train without val"])
def test_without_validation_images_a_share_of_the_training_images_is_held_out(layout: str, tmp_path: Path) -> None:
    make_folder(tmp_path / layout, each=8)

    training, validation = data.load_training(tmp_path, SPEC, 0.25, seed=0)

    assert np.bincount(training.targets).tolist() == [6, 6, 6]
    assert np.bincount(validation.targets).tolist() == [2, 2, 2]


def test_test_images_are_never_read_for_training(tmp_path: Path) -> None:
    make_folder(tmp_path / "train", each=4)
    before = data.load_training(tmp_path, SPEC, 0.25, seed=0)
    make_folder(tmp_path / "test", ("red", "purple"), each=4)

    after = data.load_training(tmp_path, SPEC, 0.25, seed=0)

    assert [data.fingerprint(images) for images in after] == [data.fingerprint(images) for images in before]


@pytest.mark.parametrize("share", [0.01, 0.3, 0.75, 0.9])
def test_a_split_leaves_every_class_in_both_parts_and_no_image_in_two(share: float) -> None:
    images = make_images([2, 3, 40])

    training, validation = data.split(images, share, seed=0)

    assert set(training.targets) == set(validation.targets) == {0, 1, 2}
    assert sorted([*training.paths, *validation.paths]) == sorted(images.paths)
    for part in (training, validation):
        index = [images.paths.index(path) for path in part.paths]
        np.testing.assert_array_equal(part.pixels, images.pixels[index])
        np.testing.assert_array_equal(part.targets, images.targets[index])


def test_a_split_takes_the_share_of_each_class() -> None:
    _, validation = data.split(make_images([10, 20, 50]), 0.2, seed=0)

    assert np.bincount(validation.targets).tolist() == [2, 4, 10]


def test_a_split_depends_on_the_seed_alone() -> None:
    images = make_images([20, 20])

    held_out = [data.split(images, 0.2, seed)[1].paths for seed in (0, 0, 1)]

    assert held_out[0] == held_out[1] != held_out[2]


def test_a_class_of_one_image_cannot_be_split() -> None:
    with pytest.raises(DataError, match="class class-1 has 1 usable image"):
        data.split(make_images([5, 1]), 0.2, seed=0)


def other_pixel(images: ImageSet) -> ImageSet:
    pixels = images.pixels.copy()
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

    assert data.fingerprint(images) == data.fingerprint(make_images([3, 3]))
    assert data.fingerprint(change(images)) != data.fingerprint(images)


def test_channel_statistics_are_those_of_all_pixels() -> None:
    images = make_images([20, 20])

    mean, std = data.channel_statistics(images)

    assert mean == pytest.approx(images.pixels.mean(axis=(0, 1, 2)), abs=0.01)
    assert std == pytest.approx(images.pixels.std(axis=(0, 1, 2)), abs=0.01)


def test_a_channel_that_never_changes_has_a_deviation_to_divide_by() -> None:
    images = make_images([4, 4])
    images.pixels[..., 2] = 17

    mean, std = data.channel_statistics(images)

    assert mean[2] == 17
    assert std[2] >= 1


def test_batches_have_the_shapes_and_types_of_the_loop() -> None:
    pixels, targets = next(data.batches(make_images([5, 5], height=8, width=12), 4, generator(), 2, True, 3))

    assert (pixels.shape, pixels.dtype) == ((4, 8, 12, 3), torch.uint8)
    assert (targets.shape, targets.dtype) == ((4,), torch.int64)


@pytest.mark.parametrize(
    ("size", "sizes"),
    [
        pytest.param(5, [5, 5], id="fits"),
        pytest.param(4, [4, 4], id="a smaller last batch is dropped"),
        pytest.param(10, [10], id="all at once"),
        pytest.param(99, [10], id="a smaller batch is kept when it is the only one"),
        pytest.param(1, [1] * 10, id="one by one"),
    ],
)
def test_an_epoch_is_cut_into_whole_batches(size: int, sizes: list[int]) -> None:
    epoch = data.batches(make_images([5, 5]), size, generator(), 0, False, 0)

    assert [len(targets) for _, targets in epoch] == sizes


def test_an_epoch_shows_every_image_once_beside_its_target() -> None:
    images = make_images([5, 5])
    epoch = list(data.batches(images, 2, generator(), 0, False, 0))

    shown = [(pixels.numpy().tobytes(), int(target)) for batch in epoch for pixels, target in zip(*batch, strict=True)]
    known = [(pixels.tobytes(), int(target)) for pixels, target in zip(images.pixels, images.targets, strict=True)]

    assert sorted(shown) == sorted(known)
    assert shown != known


def test_the_generator_alone_decides_order_and_augmentation() -> None:
    first, same, other = (
        torch.cat([pixels for pixels, _ in data.batches(make_images([6, 6]), 4, generator(seed), 2, True, 3)])
        for seed in (7, 7, 8)
    )

    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_batches_leave_the_images_as_they_are() -> None:
    images = make_images([6, 6])
    list(data.batches(images, 4, generator(), 2, True, 3))

    np.testing.assert_array_equal(images.pixels, make_images([6, 6]).pixels)


def augment(images: ImageSet, crop_padding: int = 0, flip: bool = False, cutout: int = 0) -> torch.Tensor:
    return data.augment(torch.from_numpy(images.pixels), generator(), crop_padding, flip, cutout)


def test_augmentation_with_everything_off_changes_nothing() -> None:
    images = make_images([10, 10])

    np.testing.assert_array_equal(augment(images).numpy(), images.pixels)


def test_flip_mirrors_about_half_of_the_images_left_to_right() -> None:
    images = make_images([100, 100])

    flipped = augment(images, flip=True).numpy()

    mirrored = (flipped == images.pixels[:, :, ::-1]).all(axis=(1, 2, 3))
    same = (flipped == images.pixels).all(axis=(1, 2, 3))
    assert (mirrored ^ same).all()
    assert 70 < mirrored.sum() < 130


def test_shift_cuts_a_window_out_of_the_image_with_mirrored_edges() -> None:
    images = make_images([100, 100], height=6, width=9)

    shifted = augment(images, crop_padding=3).numpy()

    places: set[tuple[int, int]] = set()
    for before, after in zip(images.pixels, shifted, strict=True):
        padded = np.pad(before, ((3, 3), (3, 3), (0, 0)), mode="reflect")
        windows = np.lib.stride_tricks.sliding_window_view(padded, (6, 9), axis=(0, 1))  # (7, 7, 3, 6, 9)
        found = np.argwhere((windows == after.transpose(2, 0, 1)).all(axis=(2, 3, 4)))
        assert len(found) == 1
        places.add((int(found[0, 0]), int(found[0, 1])))
    assert {row for row, _ in places} == {column for _, column in places} == set(range(7))


def test_cutout_paints_one_grey_square_that_may_reach_over_the_edge() -> None:
    images = make_images([100, 100], height=8, width=8)
    images.pixels[images.pixels == 127] = 126

    painted = augment(images, cutout=3).numpy()

    grey = (painted == 127).all(axis=3)
    np.testing.assert_array_equal(painted[~grey], images.pixels[~grey])
    spans: tuple[set[tuple[int, int]], ...] = (set(), set())
    for square in grey:
        rows, columns = square.any(axis=1).nonzero()[0], square.any(axis=0).nonzero()[0]
        assert square.sum() == len(rows) * len(columns)
        for span, line in zip(spans, (rows, columns), strict=True):
            span.add((int(line[0]), int(line[-1])))
    inside = {(first, first + 2) for first in range(6)}
    assert spans[0] == spans[1] == inside | {(0, 0), (0, 1), (6, 7), (7, 7)}


def mix(images: ImageSet, share: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    pixels, targets = torch.from_numpy(images.pixels), torch.from_numpy(images.targets)
    return data.cutmix(pixels, targets, len(images.classes), share, generator(seed))


def test_cutmix_of_no_image_leaves_pixels_and_targets() -> None:
    images = make_images([2, 3])

    pixels, shares = mix(images, 0)

    np.testing.assert_array_equal(pixels.numpy(), images.pixels)
    np.testing.assert_array_equal(shares.numpy(), np.eye(2, dtype=np.float32)[images.targets])


def test_cutmix_pastes_a_box_of_another_image_and_mixes_the_targets_by_its_area() -> None:
    images = make_images([1] * 200, height=8, width=10)  # each image a class of its own

    pixels, shares = (value.numpy() for value in mix(images, 1))

    areas: list[float] = []
    for i in range(200):
        pasted = (pixels[i] != images.pixels[i]).any(axis=2)
        np.testing.assert_array_equal(pixels[i][pasted], images.pixels[i - 1][pasted])
        assert pasted.sum() == pasted.any(axis=1).sum() * pasted.any(axis=0).sum()  # a box
        area = pasted.mean()
        assert shares[i, i] == pytest.approx(1 - area, abs=1e-6)
        assert shares[i, i - 1] == pytest.approx(area, abs=1e-6)
        areas.append(float(area))
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-6)
    assert min(areas) < 0.1
    assert max(areas) > 0.7


def test_cutmix_leaves_the_other_share_of_the_images_and_its_input_alone() -> None:
    images = make_images([500, 500])

    pixels, _ = mix(images, 0.3)

    mixed = (pixels.numpy() != images.pixels).any(axis=(1, 2, 3)).mean()
    assert 0.2 < mixed < 0.35  # a box may have no pixel
    np.testing.assert_array_equal(images.pixels, make_images([500, 500]).pixels)


def test_cutmix_is_decided_by_the_generator_alone() -> None:
    images = make_images([10, 10])

    assert torch.equal(mix(images, 0.5, seed=1)[0], mix(images, 0.5, seed=1)[0])
    assert not torch.equal(mix(images, 0.5, seed=1)[0], mix(images, 0.5, seed=2)[0])


def test_cutout_reaches_every_pixel() -> None:
    painted = augment(make_images([400, 400], height=8, width=8), cutout=3).numpy()

    assert (painted == 127).all(axis=3).any(axis=0).all()
