"""training/augmentation.py: how images become batches, and what is done to them on the way."""

import numpy as np
import pytest
import torch

from tests.training.factories import make_images
from training import augmentation
from training.data import ImageSet


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_batches_have_the_shapes_and_types_of_the_loop() -> None:
    pixels, targets = next(augmentation.batches(make_images([5, 5], height=8, width=12), 4, generator(), 2, True, 3))

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
    epoch = augmentation.batches(make_images([5, 5]), size, generator(), 0, False, 0)

    assert [len(targets) for _, targets in epoch] == sizes


def test_an_epoch_shows_every_image_once_beside_its_target() -> None:
    images = make_images([5, 5])
    epoch = list(augmentation.batches(images, 2, generator(), 0, False, 0))

    shown = [(pixels.numpy().tobytes(), int(target)) for batch in epoch for pixels, target in zip(*batch, strict=True)]
    known = [(pixels.tobytes(), int(target)) for pixels, target in zip(images.pixels, images.targets, strict=True)]

    assert sorted(shown) == sorted(known)
    assert shown != known


def test_the_generator_alone_decides_order_and_augmentation() -> None:
    first, same, other = (
        torch.cat([pixels for pixels, _ in augmentation.batches(make_images([6, 6]), 4, generator(seed), 2, True, 3)])
        for seed in (7, 7, 8)
    )

    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_batches_leave_the_images_as_they_are() -> None:
    images = make_images([6, 6])
    list(augmentation.batches(images, 4, generator(), 2, True, 3))

    np.testing.assert_array_equal(images.pixels, make_images([6, 6]).pixels)


def augment(images: ImageSet, crop_padding: int = 0, flip: bool = False, cutout: int = 0) -> torch.Tensor:
    return augmentation.augment(torch.from_numpy(images.pixels), generator(), crop_padding, flip, cutout)


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
    return augmentation.cutmix(pixels, targets, len(images.classes), share, generator(seed))


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
