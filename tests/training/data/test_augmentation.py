"""training/data/augmentation.py: how images become batches, and that the old keys still mean what they did, bit by bit."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.training.factories import make_images, make_recipe
from training.data import augmentation
from training.data.dataset import ImageSet
from training.recipe import Recipe

EVERYTHING: dict[str, Any] = {
    "crop_padding": 2,
    "cutout": 3,
    "cutmix": 0.4,
    "mixup": 0.3,
    "trivial_augment": True,
    "erasing": 0.5,
    "scale": 0.3,
    "balance": "sampler",
}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def plain_recipe(height: int = 8, width: int = 8, **changes: Any) -> Recipe:
    geometry = {"height": height, "width": width, "resize": max(height, width)}
    fit = "linear" if changes.get("batch_size") == 1 else "gradient"  # batch norm learns nothing from one image of few pixels
    return make_recipe(architecture="resnet18", fit=fit, **{"input": geometry, "crop_padding": 0, "flip": False} | changes)


def epoch_of(images: ImageSet, recipe: Recipe, epoch: int = 0, seed: int = 0) -> list[tuple[torch.Tensor, ...]]:
    return list(augmentation.batches(images, recipe, epoch, generator(seed)))


def test_batches_have_the_shapes_and_types_of_the_loop() -> None:
    recipe = plain_recipe(8, 12, batch_size=4, **EVERYTHING | {"scale": 1.0})

    for pixels, shares, targets in epoch_of(make_images([5, 5], height=8, width=12), recipe):
        assert (pixels.shape, pixels.dtype) == ((4, 8, 12, 3), torch.uint8)
        assert (targets.shape, targets.dtype) == ((4,), torch.int64)
        assert (shares.shape, shares.dtype) == ((4, 2), torch.float32)


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
@pytest.mark.parametrize("balance", ["none", "sampler"])
def test_an_epoch_is_cut_into_whole_batches(size: int, sizes: list[int], balance: str) -> None:
    epoch = epoch_of(make_images([5, 5]), plain_recipe(batch_size=size, balance=balance))

    assert [len(targets) for _, _, targets in epoch] == sizes


def test_an_epoch_shows_every_image_once_beside_its_target() -> None:
    images = make_images([5, 5])

    epoch = epoch_of(images, plain_recipe(batch_size=2))

    shown = [(pixels.numpy().tobytes(), int(target)) for batch in epoch for pixels, target in zip(*batch[::2], strict=True)]
    known = [(pixels.tobytes(), int(target)) for pixels, target in zip(images.pixels, images.targets, strict=True)]
    assert sorted(shown) == sorted(known)
    assert shown != known


def test_the_sampler_decides_what_an_epoch_shows() -> None:
    images = make_images([95, 5])

    shown = torch.cat([targets for _, _, targets in epoch_of(images, plain_recipe(batch_size=10, balance="sampler"))])

    assert 35 <= int((shown == 1).sum()) <= 65


def test_without_mixing_an_image_is_wholly_of_its_class() -> None:
    for _, shares, targets in epoch_of(make_images([5, 5]), plain_recipe(batch_size=2)):
        np.testing.assert_array_equal(shares.numpy(), np.eye(2, dtype=np.float32)[targets.numpy()])


def test_the_generator_alone_decides_everything() -> None:
    recipe = plain_recipe(batch_size=4, **EVERYTHING)
    images = make_images([9, 3], height=15, width=15)
    epochs: list[list[tuple[torch.Tensor, ...]]] = []
    for seed in (7, 7, 8):
        torch.manual_seed(len(epochs))  # of all else that draws
        np.random.seed(len(epochs))
        epochs.append(epoch_of(images, recipe, seed=seed))

    first, same, other = (torch.cat([pixels for pixels, _, _ in epoch]) for epoch in epochs)
    assert torch.equal(first, same)
    assert torch.equal(torch.cat([b[1] for b in epochs[0]]), torch.cat([b[1] for b in epochs[1]]))
    assert not torch.equal(first, other)


def test_augmentation_leaves_what_else_draws_alone() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()

    epoch_of(make_images([9, 3], height=15, width=15), plain_recipe(batch_size=4, **EVERYTHING))

    assert torch.equal(torch.get_rng_state(), before)


def test_batches_leave_the_images_as_they_are() -> None:
    images = make_images([6, 6], height=15, width=15)

    epoch_of(images, plain_recipe(batch_size=4, **EVERYTHING))

    np.testing.assert_array_equal(images.pixels, make_images([6, 6], height=15, width=15).pixels)


def test_everything_together_keeps_the_shares_whole_and_the_size_of_the_input() -> None:
    recipe = plain_recipe(6, 9, batch_size=32, **EVERYTHING)

    for pixels, shares, _ in epoch_of(make_images([90, 20, 10], height=11, width=17), recipe):
        assert pixels.shape == (32, 6, 9, 3)
        np.testing.assert_allclose(shares.sum(1).numpy(), 1, rtol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 7), (7, 1)])
@pytest.mark.parametrize("size", [1, 3])
def test_images_of_one_pixel_and_batches_of_one_image_are_augmented_too(height: int, width: int, size: int) -> None:
    recipe = plain_recipe(height, width, batch_size=size, flip=True, **EVERYTHING | {"crop_padding": 0})

    epoch = epoch_of(make_images([2, 2], height=2 * height, width=2 * width), recipe)

    assert [tuple(pixels.shape) for pixels, _, _ in epoch] == [(size, height, width, 3)] * (4 // size)
    for _, shares, _ in epoch:
        np.testing.assert_allclose(shares.sum(1).numpy(), 1, rtol=1e-6)


@pytest.mark.parametrize("scale", [1.0, 0.4])
def test_images_grow_with_the_epochs(scale: float) -> None:
    recipe = plain_recipe(16, 32, epochs=6, sizes=(8, 12, 16), batch_size=4, scale=scale)
    images = make_images([4, 4], height=16, width=32)

    shapes = [{tuple(pixels.shape) for pixels, _, _ in epoch_of(images, recipe, epoch)} for epoch in range(6)]

    assert shapes == [{(4, side, 2 * side, 3)} for side in (8, 8, 12, 12, 16, 16)]


def test_a_square_of_cutout_shrinks_with_the_size() -> None:
    recipe = plain_recipe(16, 16, epochs=2, sizes=(8, 16), cutout=4)
    images = make_images([40], height=16, width=16)
    images.pixels[:][:] = 200

    grey = [(augmentation.augment(images.pixels[:], recipe, epoch, generator()) == 127).sum((1, 2, 3)).max() for epoch in (0, 1)]

    assert grey == [2 * 2 * 3, 4 * 4 * 3]


@pytest.mark.parametrize(("epoch", "side", "furthest"), [(0, 8, 1), (1, 16, 2)])
def test_a_shift_shrinks_with_the_size(epoch: int, side: int, furthest: int) -> None:
    recipe = plain_recipe(16, 16, epochs=2, sizes=(8, 16), crop_padding=2)
    columns = np.broadcast_to(np.arange(side, dtype=np.uint8)[:, None], (100, side, side, 3))

    shifted = augmentation.augment(columns, recipe, epoch, generator())

    assert set((shifted[:, 4, 4, 0].astype(int) - 4).tolist()) == set(range(-furthest, furthest + 1))


@pytest.mark.parametrize(
    "change",
    [
        {"crop_padding": 2},
        {"flip": True},
        {"cutout": 3},
        {"cutmix": 0.5},
        {"mixup": 1.0},
        {"trivial_augment": True},
        {"erasing": 0.5},
        {"scale": 0.5},
    ],
    ids=lambda change: next(iter(change)),
)
def test_each_key_alone_changes_images(change: dict[str, Any]) -> None:
    images = make_images([4, 4])
    known = {image.tobytes() for image in images.pixels}

    ((pixels, _, _),) = epoch_of(images, plain_recipe(batch_size=8, **change))

    assert sum(image.numpy().tobytes() in known for image in pixels) < 8


def reference(images: ImageSet, recipe: Recipe, generator: torch.Generator) -> Iterator[tuple[NDArray[Any], ...]]:
    """What order, crop_padding, flip, cutout and cutmix do, image by image and pixel by pixel."""
    order = torch.randperm(len(images), generator=generator).tolist()
    size = recipe.batch_size
    for start in range(0, max(len(order) - size + 1, 1), size):
        index = order[start : start + size]
        batch = reference_images([images.pixels[i] for i in index], recipe, generator)
        shares = np.eye(len(images.classes), dtype=np.float32)[images.targets[index]]
        yield reference_cutmix(np.stack(batch), shares, recipe.cutmix, generator)


def reference_images(batch: list[NDArray[np.uint8]], recipe: Recipe, generator: torch.Generator) -> list[NDArray[np.uint8]]:
    n, (height, width, _), padding = len(batch), batch[0].shape, recipe.crop_padding
    if padding:
        shift = torch.randint(-padding, padding + 1, (2, n, 1), generator=generator)[..., 0].tolist()
    else:
        shift = [[0] * n, [0] * n]
    if recipe.flip:
        flipped = (torch.rand(n, 1, generator=generator) < 0.5)[:, 0].tolist()
        batch = [image[:, ::-1] if f else image for image, f in zip(batch, flipped, strict=True)]
    out: list[NDArray[np.uint8]] = []
    for image, down, across in zip(batch, *shift, strict=True):
        padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)), mode="reflect")
        out.append(padded[padding + down :][:height, padding + across :][:, :width].copy())
    if recipe.cutout:
        top = torch.randint(1 - recipe.cutout, height, (n, 1), generator=generator)[:, 0].tolist()
        left = torch.randint(1 - recipe.cutout, width, (n, 1), generator=generator)[:, 0].tolist()
        for image, y, x in zip(out, top, left, strict=True):
            for row in range(y, y + recipe.cutout):
                for column in range(x, x + recipe.cutout):
                    if 0 <= row < height and 0 <= column < width:
                        image[row, column] = 127
    return out


def reference_cutmix(
    batch: NDArray[np.uint8], shares: NDArray[np.float32], share: float, generator: torch.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.floating]]:
    if not share:
        return batch, shares
    n, height, width, _ = batch.shape
    side = (torch.rand(n, 1, generator=generator) * (torch.rand(n, 1, generator=generator) < share)).sqrt()
    centre = torch.rand(2, n, 1, generator=generator)
    rows, columns = (
        ((c - side / 2) * length, (c + side / 2) * length) for c, length in zip(centre, (height, width), strict=True)
    )
    mixed, areas = batch.copy(), np.zeros((n, 1), np.float32)
    for i in range(n):
        inside = 0
        for row in range(height):
            for column in range(width):
                if rows[0][i] <= row < rows[1][i] and columns[0][i] <= column < columns[1][i]:
                    mixed[i, row, column] = batch[i - 1, row, column]
                    inside += 1
        areas[i] = np.float32(inside) / np.float32(height * width)
    return mixed, shares * (1 - areas) + np.roll(shares, 1, 0) * areas


@pytest.mark.parametrize(("height", "width"), [(8, 8), (5, 9), (1, 1), (2, 6)])
@pytest.mark.parametrize(
    ("flip", "cutout", "cutmix"), [(False, 0, 0.0), (True, 0, 0.0), (False, 3, 0.0), (False, 0, 0.4), (True, 20, 1.0)]
)
def test_shift_mirror_cutout_and_cutmix_are_those_of_a_slow_reference(
    height: int, width: int, flip: bool, cutout: int, cutmix: float
) -> None:
    images = make_images([5, 3, 4], height=height, width=width)
    for padding in {0, min(1, min(height, width) - 1), min(height, width) - 1}:
        changes = {"batch_size": 4, "crop_padding": padding, "flip": flip, "cutout": cutout, "cutmix": cutmix}
        recipe = plain_recipe(height, width, **changes)
        expected, drawn = generator(5), generator(5)

        pairs = zip(augmentation.batches(images, recipe, 0, drawn), reference(images, recipe, expected), strict=True)
        for (pixels, shares, _), (reference_pixels, reference_shares) in pairs:
            np.testing.assert_array_equal(pixels.numpy(), reference_pixels)
            np.testing.assert_array_equal(shares.numpy(), reference_shares)
        assert torch.equal(drawn.get_state(), expected.get_state())
