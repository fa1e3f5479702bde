"""trivial_augment.py: one operation of the wide space, and each is what torchvision's is, but for what lies outside."""

from typing import Any

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from models.image.preprocess import Pixels, preprocess
from models.image.spec import InputSpec
from tests.factories import make_image
from tests.training.factories import make_images
from training.data import trivial_augment

WIDE: dict[str, Any] = vars(v2.TrivialAugmentWide)["_AUGMENTATION_SPACE"]
NAMES = list(WIDE)
GEOMETRIC = NAMES[1:6]
OUTSIDE = 255  # a colour that the picture has not


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def picture(height: int = 40, width: int = 50) -> Pixels:
    spec = InputSpec(height, width, max(height, width))
    return preprocess(make_image("PNG", 60, 60, seed=3), spec).clip(5, 250)


def torchvisions(image: Pixels, name: str, bin: int, sign: int) -> Pixels:
    values, signed = WIDE[name]
    magnitudes = values(31, *image.shape[:2])
    magnitude = 0.0 if magnitudes is None else float(magnitudes[bin]) * (sign if signed else 1)
    transform: Any = v2.TrivialAugmentWide(fill=OUTSIDE)
    planes = torch.from_numpy(image).permute(2, 0, 1)
    changed = transform._apply_image_or_video_transform(planes, name, magnitude, transform.interpolation, transform._fill)
    return changed.permute(1, 2, 0).numpy()


def test_there_is_an_operation_for_each_of_the_wide_space() -> None:
    assert len(trivial_augment.OPERATIONS) == len(NAMES) == 14


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("bin", [0, 1, 13, 17, 30])  # at 15 torchvision moves by 15.999999, so by 15 pixels
@pytest.mark.parametrize("name", NAMES)
def test_an_operation_is_torchvisions_inside_the_image(name: str, bin: int, sign: int) -> None:
    image = picture()

    ours = trivial_augment.OPERATIONS[NAMES.index(name)](image, bin / 30, sign)

    theirs = torchvisions(image, name, bin, sign)
    if name in GEOMETRIC:
        inside = ~(theirs == OUTSIDE).all(axis=2)
        assert inside.mean() > 0.1
        assert (ours != theirs)[inside].any(axis=1).mean() < 0.02  # a place may lie between two pixels, within rounding
    else:
        assert abs(ours.astype(int) - theirs).max() <= 1  # their strengths are rounded to 24 bits


@pytest.mark.parametrize("bin", [1, 13, 30])
@pytest.mark.parametrize("name", GEOMETRIC)
def test_what_comes_into_sight_from_outside_has_colours_of_the_image(name: str, bin: int) -> None:
    image = picture()
    known = {tuple(pixel) for pixel in image.reshape(-1, 3)}

    moved = trivial_augment.OPERATIONS[NAMES.index(name)](image, bin / 30, -1)

    assert {tuple(pixel) for pixel in moved.reshape(-1, 3)} <= known


def test_every_operation_is_drawn_as_often_as_the_others_in_every_strength() -> None:
    image, n = picture(12, 12), 4000
    made: dict[bytes, set[int]] = {}
    outcomes = [(k, bin, sign) for k in range(14) for bin in range(31) for sign in (1, -1)]
    for k, bin, sign in outcomes:
        made.setdefault(trivial_augment.OPERATIONS[k](image, bin / 30, sign).tobytes(), set()).add(k)
    alone = np.bincount(
        [k for k, bin, sign in outcomes if made[trivial_augment.OPERATIONS[k](image, bin / 30, sign).tobytes()] == {k}],
        minlength=14,
    )

    drawn = [changed.tobytes() for changed in trivial_augment.augment(np.stack([image] * n), generator())]

    assert set(drawn) <= set(made)
    found = np.bincount([min(made[d]) for d in drawn if len(made[d]) == 1], minlength=14)
    expected = n / 14 * alone / 62
    assert (abs(found - expected) < 4 * np.sqrt(expected + 1)).all()
    assert len(set(drawn)) > 0.9 * len(made)


def test_a_finer_image_is_moved_as_far_as_a_coarse_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trivial_augment, "OPERATIONS", (trivial_augment.translate_x, trivial_augment.translate_y))
    monkeypatch.setattr(trivial_augment, "BINS", 5)  # whole pixels in either size
    coarse = np.stack([picture(80, 80)] * 20)
    fine = coarse.repeat(2, 1).repeat(2, 2)

    moved, finer = trivial_augment.augment(coarse, generator()), trivial_augment.augment(fine, generator(), 2.0)

    assert (moved != coarse).any(axis=(1, 2, 3)).mean() > 0.5
    inside = np.s_[:, 39:41, 39:41]  # nothing comes into sight there from outside
    np.testing.assert_array_equal(finer[:, ::2, ::2][inside], moved[inside])


def test_the_generator_alone_decides() -> None:
    pixels = make_images([20]).pixels[:]
    first, again, other = (trivial_augment.augment(pixels, generator(seed)) for seed in (1, 1, 2))

    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    np.testing.assert_array_equal(pixels, make_images([20]).pixels)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 5), (5, 1), (2, 2)])
@pytest.mark.parametrize("operation", trivial_augment.OPERATIONS)
def test_images_of_one_pixel_are_changed_too(operation: trivial_augment.Operation, height: int, width: int) -> None:
    (image,) = make_images([1], height=height, width=width).pixels

    for strength in (0, 0.5, 1):
        changed = operation(image, strength, -1)
        assert (changed.shape, changed.dtype) == (image.shape, np.uint8)
