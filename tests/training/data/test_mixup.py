"""training/data/mixup.py: images are mixed, and their targets as much."""

import numpy as np
import pytest
import torch

from tests.training.factories import make_images
from training.data import mixup as mixup_module
from training.data.dataset import ImageSet


def mix(images: ImageSet, cutmix: float = 0.0, mixup: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    targets, generator = torch.from_numpy(images.targets), torch.Generator().manual_seed(seed)
    pixels, shares = mixup_module.mix(images.pixels[:], targets, len(images.classes), cutmix, mixup, generator)
    return pixels, shares.numpy()


def test_without_mixing_pixels_and_targets_stay() -> None:
    images = make_images([2, 3])

    pixels, shares = mix(images)

    np.testing.assert_array_equal(pixels, images.pixels)
    np.testing.assert_array_equal(shares, np.eye(2, dtype=np.float32)[images.targets])


def test_cutmix_pastes_a_box_of_another_image_and_mixes_the_targets_by_its_area() -> None:
    images = make_images([1] * 200, height=8, width=10)  # each image a class of its own

    pixels, shares = mix(images, cutmix=1)

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

    pixels, _ = mix(images, cutmix=0.3)

    mixed = (pixels != images.pixels).any(axis=(1, 2, 3)).mean()
    assert 0.2 < mixed < 0.35  # a box may have no pixel
    np.testing.assert_array_equal(images.pixels, make_images([500, 500]).pixels)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
def test_mixup_makes_the_weighted_mean_of_two_images_and_of_their_targets(alpha: float) -> None:
    images = make_images([1] * 200, height=6, width=5)

    pixels, shares = mix(images, mixup=alpha)

    before = np.roll(images.pixels[:], 1, axis=0).astype(float)
    own = shares.diagonal().reshape(-1, 1, 1, 1)
    assert abs(pixels - (own * images.pixels + (1 - own) * before)).max() <= 0.5
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-6)
    assert own.min() >= 0.5
    np.testing.assert_array_equal(images.pixels, make_images([1] * 200, height=6, width=5).pixels)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
def test_the_weights_of_mixup_come_from_the_beta_distribution(alpha: float) -> None:
    _, shares = mix(make_images([1] * 1500, height=1, width=1), mixup=alpha)

    expected = np.random.default_rng(1).beta(alpha, alpha, 100_000)
    quantiles = np.linspace(0.05, 0.95, 10)
    np.testing.assert_allclose(
        np.quantile(shares.diagonal(), quantiles), np.quantile(np.maximum(expected, 1 - expected), quantiles), atol=0.04
    )


def test_an_alpha_next_to_nothing_mixes_next_to_nothing() -> None:
    images = make_images([50, 50])

    pixels, shares = mix(images, mixup=1e-4)

    assert (pixels == images.pixels).all(axis=(1, 2, 3)).mean() > 0.95
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-6)


def test_mixup_takes_the_images_that_cutmix_leaves() -> None:
    images = make_images([1] * 1000, height=6, width=6)

    pixels, shares = mix(images, cutmix=0.4, mixup=5.0)

    known = np.stack([images.pixels[:], np.roll(images.pixels[:], 1, axis=0)])
    copied = (pixels == known).any(axis=0).all(axis=(1, 2, 3))  # every pixel is that of one image or of the other
    assert copied.mean() == pytest.approx(0.4, abs=0.05)
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize(("cutmix", "mixup"), [(0.5, 0.0), (0.0, 1.0), (0.5, 1.0), (1.0, 0.0)])
def test_a_batch_of_one_image_is_mixed_with_itself(cutmix: float, mixup: float) -> None:
    images = make_images([0, 1])

    pixels, shares = mix(images, cutmix, mixup)

    np.testing.assert_array_equal(pixels, images.pixels)
    np.testing.assert_allclose(shares, [[0, 1]], rtol=1e-6)


@pytest.mark.parametrize(("cutmix", "mixup"), [(0.5, 0.0), (0.0, 1.0), (0.5, 1.0)])
def test_mixing_is_decided_by_the_generator_alone(cutmix: float, mixup: float) -> None:
    images = make_images([10, 10])
    first, again, other = (mix(images, cutmix, mixup, seed) for seed in (1, 1, 2))

    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert (first[0] != other[0]).any()


@pytest.mark.parametrize("value", [0, 1, 128, 255])
def test_the_mean_of_equal_images_is_the_image(value: int) -> None:
    images = make_images([5, 5])
    images.pixels[:][:] = value

    np.testing.assert_array_equal(mix(images, mixup=1.0)[0], images.pixels)
