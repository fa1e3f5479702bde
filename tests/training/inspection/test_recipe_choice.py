"""training/inspection/recipe_choice.py: the recipe that fits the data, and that it is said."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.factories import encode
from training import recipe as recipes
from training.__main__ import main
from training.data.sources.catalogue import open_source
from training.data.sources.source import Item, Source, make_part
from training.inspection import recipe_choice

ANIMALS, DIGITS = ("ant", "bee"), ("0", "1")


def colour(side: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(side).integers(0, 256, (side, side + 4, 3)).astype(np.uint8))


def grey(side: int) -> Image.Image:
    return colour(side).convert("L")


def make_source(picture: Image.Image, classes: tuple[str, ...], count: int) -> Source:
    file = encode(picture)
    items = (Item(f"{i}.png", f"{i}.png", classes[i % len(classes)], lambda: file) for i in range(count))
    return Source(make_part("photos", items))


@pytest.mark.parametrize(
    ("picture", "classes", "count", "recipe", "overrides"),
    [
        pytest.param(colour(200), ANIMALS, 200, "photos-lite0", {}, id="photographs"),
        pytest.param(grey(200), ANIMALS, 200, "photos-lite0", {}, id="grey photographs"),
        pytest.param(colour(200), DIGITS, 200, "photos-lite0", {"flip": False}, id="photographs of digits"),
        pytest.param(colour(32), ANIMALS, 200, "small-lite0", {}, id="few small images"),
        pytest.param(colour(64), ANIMALS, 20_000, "small-lite0", {}, id="many images of 64 pixels"),
        pytest.param(colour(32), ANIMALS, 20_000, "cifar10", {}, id="many small images"),
        pytest.param(grey(28), DIGITS, 200, "small-grey", {}, id="few digits"),
        pytest.param(grey(28), ANIMALS, 200, "small-grey", {"flip": True}, id="few small grey images"),
        pytest.param(grey(28), DIGITS, 20_000, "mnist-convnet", {}, id="many digits"),
    ],
)
def test_the_recipe_is_chosen_by_side_number_colour_and_names(
    picture: Image.Image, classes: tuple[str, ...], count: int, recipe: str, overrides: dict[str, Any]
) -> None:
    choice = recipe_choice.choose(make_source(picture, classes, count))

    assert (choice.recipe, choice.overrides) == (recipe, overrides)
    assert f"{count} training images" in choice.said
    assert "--recipe" in choice.said
    assert "\n" not in choice.said
    recipes.load(choice.recipe, **choice.overrides)


def test_images_that_cannot_be_read_are_passed_over() -> None:
    def fail() -> bytes:
        raise OSError("gone")

    broken: list[Callable[[], bytes]] = [lambda: b"no image", fail]
    items = [Item(f"{i}", f"{i}", ANIMALS[i], read) for i, read in enumerate(broken)]

    assert recipe_choice.choose(Source(make_part("photos", items))).recipe == "photos-lite0"


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    for name in DIGITS:
        (tmp_path / "digits" / name).mkdir(parents=True)
        for i in range(3):
            (tmp_path / "digits" / name / f"{i}.png").write_bytes(encode(grey(28 + i)))
    return tmp_path / "digits"


def test_inspect_says_it(digits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["inspect", str(digits)])

    assert recipe_choice.choose(open_source(digits)).said in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "said", "architecture"),
    [
        pytest.param([], True, "convnet-32-64-128", id="nothing asked for"),
        pytest.param(["--recipe", "mnist-lenet1"], False, "lenet1", id="a recipe"),
        pytest.param(["--architecture", "resnet18"], False, "resnet18", id="a network"),
    ],
)
def test_training_says_the_recipe_that_it_chose(
    options: list[str],
    said: bool,
    architecture: str,
    digits: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from training.loop import train

    asked: list[recipes.Recipe] = []

    def stop(*arguments: Any, **_: Any) -> None:
        asked.append(arguments[2])
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "train", stop)
    main(["train", str(digits), "--out", str(tmp_path / "run"), *options])

    assert ("recipe small-grey: " in capsys.readouterr().err) == said
    assert [recipe.architecture for recipe in asked] == [architecture]
