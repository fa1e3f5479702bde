"""training/data/near_duplicates.py: copies are found, strangers are not taken for copies."""

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance

from tests.factories import encode
from tests.training.data.factories import digit, make_look, photo, saved_anew
from training.data.near_duplicates import candidates, exact_copies, near_copies, normalise


def half_size(image: Image.Image) -> bytes:
    return encode(image.resize((image.width // 2, image.height // 2), Image.Resampling.BILINEAR))


def brighter(image: Image.Image) -> bytes:
    return encode(ImageEnhance.Brightness(image).enhance(1.15))


def paler(image: Image.Image) -> bytes:
    return encode(ImageEnhance.Contrast(image).enhance(0.7))


def grey(image: Image.Image) -> bytes:
    return encode(image.convert("L"))


def test_exact_copies_are_grouped_whatever_their_format() -> None:
    a, b = photo(0), photo(1)
    look = make_look([encode(a), encode(b), encode(a), encode(a, "WEBP", lossless=True), encode(b), encode(photo(2))])

    assert exact_copies(look.seen) == [[0, 2, 3], [1, 4]]


@pytest.mark.parametrize("change", [saved_anew, half_size, brighter, paler, grey])
def test_a_changed_copy_is_found_among_strangers(change: Callable[[Image.Image], bytes]) -> None:
    files = [encode(photo(seed)) for seed in range(25)]

    (pair,) = near_copies(make_look([*files, change(photo(17))]).small, [])

    assert (pair.first, pair.second, pair.flat) == (17, 25, False)
    assert pair.likeness > 0.95


def test_no_stranger_is_taken_for_a_copy() -> None:
    assert near_copies(make_look([encode(photo(seed, 64)) for seed in range(150)]).small, []) == []


def test_digits_that_are_alike_are_no_copies_but_their_copies_are() -> None:
    digits = [encode(digit(seed)) for seed in range(300)]
    look = make_look([*digits, encode(digit(5), "JPEG", quality=70)])
    rows = normalise(look.small)
    alike = (np.triu(rows @ rows.T, 1) > 0.95).sum()

    pairs = near_copies(look.small, [])

    assert alike > 1000
    assert (5, 300) in [(pair.first, pair.second) for pair in pairs]
    assert len(pairs) < 20
    assert all(pair.flat for pair in pairs)


def test_horizons_with_another_thing_below_are_no_copies() -> None:
    def horizon(left: int, sky: tuple[int, int, int]) -> bytes:
        image = Image.linear_gradient("L").resize((96, 96)).convert("RGB")
        image = Image.blend(image, Image.new("RGB", image.size, sky), 0.3)
        ImageDraw.Draw(image).rectangle((left, 60, left + 12, 68), fill=(40, 30, 20))
        return encode(image)

    assert near_copies(make_look([horizon(20, (90, 120, 200)), horizon(50, (200, 120, 90))]).small, []) == []


def test_of_exact_copies_one_is_compared_and_plain_images_never() -> None:
    plain = [encode(Image.new("RGB", (50, 50), (value, 90, 90))) for value in range(100, 104)]
    look = make_look([encode(photo(0)), encode(photo(0)), saved_anew(photo(0)), *plain])

    pairs = near_copies(look.small, exact_copies(look.seen))

    assert [(pair.first, pair.second) for pair in pairs] == [(0, 2)]


@pytest.mark.parametrize("n", [0, 1, 2, 12])
def test_few_images_are_compared_too(n: int) -> None:
    files = [encode(photo(seed)) for seed in range(n)]
    look = make_look([*files, encode(Image.new("RGB", (9, 9)))])

    assert near_copies(look.small, []) == []


def test_candidates_are_all_pairs_that_a_comparison_of_all_with_all_finds() -> None:
    random = np.random.default_rng(0)
    rows = random.normal(size=(400, 64)).astype(np.float32)
    rows[200:] = rows[:200] + random.normal(size=(200, 64)) * random.uniform(0, 0.4, (200, 1))
    vectors = normalise(rows.reshape(400, 8, 8))

    found = {(int(a), int(b)) for a, b in candidates(vectors)}

    alike = np.argwhere(np.triu(vectors @ vectors.T, 1) >= 0.97)
    assert 20 < len(alike) < 190
    assert found == {(int(a), int(b)) for a, b in alike}
