"""training/recipe.py: what a recipe may say, and what is said about one that cannot be followed."""

from pathlib import Path
from typing import Any

import pytest

from models.image.spec import InputSpec
from tests.training.factories import make_recipe, write_recipe
from training import recipe as recipes
from training.errors import RecipeError

SHIPPED = sorted(path.stem for path in recipes.FOLDER.glob("*.toml"))


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_recipe_loads_by_its_name(name: str) -> None:
    assert recipes.load(name).epochs >= 1


def test_a_recipe_loads_by_its_path(tmp_path: Path) -> None:
    path = write_recipe(tmp_path / "mine.toml", epochs=7)

    assert recipes.load(str(path)) == make_recipe(epochs=7)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"epoch": 3}, "epoch`", id="unknown key"),
        pytest.param({"input": {"height": 8, "width": 8, "resize": 8, "depth": 3}}, "depth", id="unknown key of the input"),
        pytest.param({"epochs": "many"}, r"`int`, got `str`.*epochs", id="a word for a number"),
        pytest.param({"flip": 1}, "flip", id="a number for yes or no"),
        pytest.param({"epochs": 0}, ">= 1.*epochs", id="no epochs"),
        pytest.param({"batch_size": 0}, ">= 1.*batch_size", id="empty batches"),
        pytest.param({"learning_rate": 0}, "> 0.*learning_rate", id="no learning rate"),
        pytest.param({"momentum": 1.0}, "< 1.*momentum", id="momentum that never fades"),
        pytest.param({"weight_decay": -1e-4}, ">= 0.*weight_decay", id="negative weight decay"),
        pytest.param({"validation_share": 0}, "> 0.*validation_share", id="nothing to validate on"),
        pytest.param(
            {"mirror": True, "architecture": "mlp-512", "input": {"height": 28, "width": 28, "resize": 28}, "crop_padding": 0},
            "mirror is true, which averages feature maps; mlp-512 has none",
            id="nothing to average",
        ),
        pytest.param({"validation_share": 0.95}, "<= 0.9.*validation_share", id="nothing left to train on"),
        pytest.param({"seed": 2**32}, "seed", id="seed beyond 32 bits"),
        pytest.param({"precision": "fp8"}, "fp8.*precision", id="unknown precision"),
        pytest.param({"architecture": "resnet19"}, "'resnet19'; known are .*resnet18", id="unknown architecture"),
        pytest.param(
            {"architecture": "lenet5"}, "8x8 pixels, lenet5 takes images of 28x28 alone", id="the one size of a network"
        ),
        pytest.param({"architecture": "vgg16"}, "8x8 pixels, vgg16 needs 32 on the shorter side", id="too small for a network"),
        pytest.param({"freeze": -1}, "freeze", id="fewer than no stages"),
        pytest.param({"freeze": "trunk"}, "trunk.*freeze", id="another word than features"),
        pytest.param({"freeze": 5}, "freeze is 5, resnet10-small has 4 stages", id="more stages than there are"),
        pytest.param({"unfreeze_every": 2}, "unfreeze_every is 2, but nothing is frozen", id="nothing to unfreeze"),
        pytest.param({"layer_decay": 0.0}, "> 0.*layer_decay", id="a rate of nothing"),
        pytest.param({"layer_decay": 1.5}, "<= 1.*layer_decay", id="rates that grow towards the input"),
        pytest.param(
            {"weights": "IMAGENET1K_V1"},
            "'IMAGENET1K_V1', but nobody publishes weights of resnet10-small",
            id="no such weights",
        ),
        pytest.param(
            {"weights": "IMAGENET1K_V2", "architecture": "resnet18"},
            "no IMAGENET1K_V2 of resnet18, only IMAGENET1K_V1",
            id="weights that were not published",
        ),
        pytest.param({"crop_padding": 8}, "crop_padding is 8, .*shorter side of the input, 8", id="shift by a whole side"),
        pytest.param({"mixup": -0.1}, ">= 0.*mixup", id="negative alpha"),
        pytest.param({"mixup": 0.2, "cutmix": 1.0}, "cutmix is 1.0, which leaves no image to mixup", id="nothing to mix"),
        pytest.param({"erasing": 1.1}, "<= 1.*erasing", id="more than all images erased"),
        pytest.param({"scale": 0.01}, ">= 0.05.*scale", id="crops of next to nothing"),
        pytest.param({"balance": "always"}, "always.*balance", id="unknown balance"),
        pytest.param({"sizes": [0, 8]}, ">= 1.*sizes", id="images without pixels"),
        pytest.param({"sizes": [8, 16]}, "sizes holds 16, .*shorter side of the input, 8", id="size beyond the input"),
        pytest.param({"sizes": [8] * 4}, "sizes holds 4 sides for 3 epochs", id="more sizes than epochs"),
        pytest.param(
            {"sizes": [4, 8]},
            "the images are 4x4 pixels, resnet10-small needs 8 on the shorter side",
            id="size below the network",
        ),
        pytest.param({"input": {"height": 9, "width": 8, "resize": 8}}, "9x8 is larger.*8", id="crop beyond the image"),
    ],
)
def test_a_recipe_that_cannot_be_followed_is_refused_with_the_reason(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = write_recipe(tmp_path / "bad.toml", **changes)

    with pytest.raises(RecipeError, match=message) as caught:
        recipes.load(str(path))

    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"epochs = ", id="value missing"),
        pytest.param(b"architecture = 'resnet18'", id="keys missing"),
        pytest.param(b"architecture = '\xff'", id="not UTF-8"),
    ],
)
def test_a_file_that_is_no_whole_recipe_is_refused(text: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(text)

    with pytest.raises(RecipeError, match=str(path)):
        recipes.load(str(path))


@pytest.mark.parametrize("name", ["no-such", "no-such.toml", "../recipe"])
def test_a_missing_recipe_is_an_error_that_names_those_there_are(name: str) -> None:
    with pytest.raises(RecipeError, match=f"no recipe '{name}'; known are {', '.join(SHIPPED)}"):
        recipes.load(name)


def test_a_recipe_may_name_sizes(tmp_path: Path) -> None:
    geometry = {"height": 16, "width": 16, "resize": 16}
    path = write_recipe(tmp_path / "mine.toml", input=geometry, sizes=[8, 12, 16])

    assert recipes.load(str(path)).sizes == (8, 12, 16)


def test_an_override_replaces_the_value_of_the_file(tmp_path: Path) -> None:
    path = write_recipe(tmp_path / "mine.toml", epochs=7)

    assert recipes.load(str(path), epochs=9, seed=4) == make_recipe(epochs=9, seed=4)


def test_an_override_of_none_leaves_the_value_of_the_file(tmp_path: Path) -> None:
    path = write_recipe(tmp_path / "mine.toml", epochs=7)

    assert recipes.load(str(path), epochs=None, learning_rate=None) == make_recipe(epochs=7)


def test_an_override_obeys_the_same_limits(tmp_path: Path) -> None:
    path = write_recipe(tmp_path / "mine.toml")

    with pytest.raises(RecipeError, match=r">= 1.*epochs"):
        recipes.load(str(path), epochs=-1)


@pytest.mark.parametrize(
    ("before", "size", "after"),
    [
        ({"height": 8, "width": 8, "resize": 8}, 24, InputSpec(24, 24, 24)),
        ({"height": 128, "width": 128, "resize": 144, "interpolation": "bicubic"}, 64, InputSpec(64, 64, 72, "bicubic")),
        ({"height": 100, "width": 200, "resize": 250}, 50, InputSpec(50, 50, 125)),
    ],
)
def test_a_size_makes_a_square_and_keeps_the_share_that_is_cut_off(
    before: dict[str, Any], size: int, after: InputSpec, tmp_path: Path
) -> None:
    path = write_recipe(tmp_path / "mine.toml", input=before)

    assert recipes.load(str(path), size=size).input == after


def test_a_size_and_a_key_that_only_fit_together_are_taken_together(tmp_path: Path) -> None:
    path = write_recipe(tmp_path / "mine.toml")

    assert recipes.load(str(path), size=64, crop_padding=16).crop_padding == 16


@pytest.mark.parametrize("size", [0, 5000])
def test_a_size_obeys_the_limits_of_the_input(size: int, tmp_path: Path) -> None:
    path = write_recipe(tmp_path / "mine.toml")

    with pytest.raises(RecipeError, match=r"mine.toml: Expected `int` [<>]= .*height"):
        recipes.load(str(path), size=size)


SMALL: dict[str, Any] = {"architecture": "resnet18", "input": {"height": 32, "width": 32, "resize": 32}, "batch_size": 1}


@pytest.mark.parametrize("changes", [{}, {"input": {"height": 64, "width": 64, "resize": 64}, "sizes": [32, 64]}], ids=str)
def test_a_batch_of_one_image_that_batch_norm_cannot_learn_from_is_refused(changes: dict[str, Any], tmp_path: Path) -> None:
    message = r"batch_size is 1, and an image of 32x32 pixels shrinks to one place within resnet18.* raise batch_size to 2"
    with pytest.raises(RecipeError, match=message):
        recipes.load(str(write_recipe(tmp_path / "mine.toml", **SMALL | changes)))


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"batch_size": 2}, id="two images"),
        pytest.param({"input": {"height": 64, "width": 64, "resize": 64}}, id="maps of 2x2"),
        pytest.param({"freeze": "features"}, id="norms that keep their statistics"),
        pytest.param({"fit": "linear"}, id="a head that is fitted at once"),
        pytest.param({"architecture": "vgg11-small"}, id="no batch norm"),
    ],
)
def test_a_batch_that_batch_norm_can_learn_from_is_not(changes: dict[str, Any]) -> None:
    assert make_recipe(**SMALL | changes).architecture
