"""training/inspection/suspects.py: what looks like a mistake is found, and little else."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter

from tests.factories import encode, make_image
from tests.training.data.factories import make_look, photo
from training.inspection import suspects
from training.inspection.facts import Look, examine_file
from training.inspection.suspects import Suspects

Find = Callable[[Look], Suspects]
USUAL = [encode(photo(seed)) for seed in range(30)]
ODD: dict[str, Image.Image] = {
    "plain": Image.new("RGB", (160, 160), (90, 120, 60)),
    "dark": Image.eval(ImageEnhance.Contrast(photo(50)).enhance(3), lambda value: value // 6),
    "bright": Image.eval(ImageEnhance.Contrast(photo(51)).enhance(3), lambda value: 255 - value // 6),
    "blurred": photo(52).filter(ImageFilter.GaussianBlur(8)),
    "tiny": photo(53).resize((20, 24)),
    "long": photo(54).resize((400, 100)),
    "grey": photo(55).convert("L"),
}


@pytest.mark.parametrize("kind", ODD)
def test_the_odd_image_is_found_and_no_usual_one(kind: str) -> None:
    find: Find = getattr(suspects, kind)

    found = list(find(make_look([*USUAL[:15], encode(ODD[kind]), *USUAL[15:]])))

    assert [i for i, _ in found] == [15]
    assert found[0][1]


@pytest.mark.parametrize("kind", [*ODD, "coloured"])
def test_nothing_is_found_among_usual_images_or_among_none(kind: str) -> None:
    find: Find = getattr(suspects, kind)
    look = make_look(USUAL)

    assert list(find(look)) == []
    assert list(find(Look(look.source, [], [], [], np.empty((0, 32, 32), np.uint8), {}))) == []


def test_a_coloured_image_is_odd_among_grey_ones() -> None:
    files = [encode(photo(seed).convert("L")) for seed in range(30)]

    assert [i for i, _ in suspects.coloured(make_look([*files, USUAL[0]]))] == [30]
    assert list(suspects.grey(make_look([*files, USUAL[0]]))) == []


def test_where_many_are_grey_none_is_odd() -> None:
    files = [encode(photo(seed).convert("L")) for seed in range(10)]

    assert list(suspects.grey(make_look([*USUAL, *files]))) == []


def test_images_that_are_all_small_are_not_tiny() -> None:
    assert list(suspects.tiny(make_look([encode(photo(seed).resize((28, 28))) for seed in range(30)]))) == []


def test_white_pictures_with_something_on_them_are_not_bright() -> None:
    drawing = Image.new("RGB", (100, 100), "white")
    drawing.paste((20, 20, 20), (40, 40, 60, 60))

    assert list(suspects.bright(make_look([encode(drawing)]))) == []


@pytest.mark.parametrize(("highest", "told"), [(4095, True), (1023, True), (255, False), (4096, False), (65535, False)])
def test_pictures_of_12_bits_in_files_of_16_are_told(highest: int, told: bool) -> None:
    values = np.linspace(0, highest, 64 * 48).reshape(48, 64).round().astype(np.uint16)
    facts, _ = examine_file(encode(Image.fromarray(values)))

    assert facts.highest == highest
    look: Any = SimpleNamespace(facts=[facts])
    expected = [(0, f"values up to {highest} of 65535, seen as up to {highest >> 8} of 255")]
    assert list(suspects.shallow(look)) == (expected if told else [])


def test_files_of_8_bits_have_no_such_value() -> None:
    assert examine_file(make_image("PNG"))[0].highest is None
    assert examine_file(make_image("PNG", mode="L"))[0].highest is None
