"""A recipe: everything that decides how a network is trained, read from a TOML file.

Neighbours: recipes/*.toml are the recipes, train.py follows one, checkpoint.py stores it.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from models.input import InputSpec
from training import sizes
from training.architectures.catalogue import ARCHITECTURES, check_size
from training.balance import Balance
from training.errors import RecipeError

FOLDER = Path(__file__).parent / "recipes"
Precision = Literal["auto", "fp32", "bf16"]
Count = Annotated[int, Meta(ge=1)]
Pixels = Annotated[int, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, lt=1)]


class Recipe(Struct, frozen=True, forbid_unknown_fields=True):
    """docs/training.md says more of each key. Lengths in pixels, shares between 0 and 1."""

    architecture: str
    input: InputSpec
    epochs: Count
    batch_size: Count = 128
    learning_rate: Annotated[float, Meta(gt=0)] = 0.1  # the highest, reached at the end of the warm-up
    warmup_share: Share = 0.15  # of all steps; the rate then falls to 0 along a straight line
    momentum: Share = 0.9  # Nesterov's
    weight_decay: Annotated[float, Meta(ge=0)] = 5e-4  # of matrices and kernels; none on biases and norms
    label_smoothing: Share = 0.1
    crop_padding: Pixels = 4
    flip: bool = True
    cutout: Pixels = 0
    cutmix: Annotated[float, Meta(ge=0, le=1)] = 0.0  # share of the images that get a box of another one pasted in
    mixup: Annotated[float, Meta(ge=0, le=10)] = 0.0  # alpha, for the images that cutmix leaves
    trivial_augment: bool = False
    erasing: Annotated[float, Meta(ge=0, le=1)] = 0.0  # share of the images that get a box of noise
    scale: Annotated[float, Meta(ge=0.05, le=1)] = 1.0  # least share of the area that a random crop shows
    sizes: tuple[Count, ...] = ()  # shorter sides to train at, one after the other
    balance: Balance = "none"
    mirror: bool = False  # answer from the image and its mirror image together, at twice the work
    validation_share: Annotated[float, Meta(gt=0, le=0.9)] = 0.1  # of the training images, where there is no val/ folder
    precision: Precision = "auto"
    seed: Annotated[int, Meta(ge=0, lt=2**32)] = 0

    def __post_init__(self) -> None:
        if self.architecture not in ARCHITECTURES:
            raise ValueError(f"unknown architecture {self.architecture!r}; known are {', '.join(ARCHITECTURES)}")
        check_size(self.architecture, self.input.height, self.input.width)
        if self.crop_padding >= (side := min(self.input.height, self.input.width)):
            raise ValueError(f"crop_padding is {self.crop_padding}, it must be below the shorter side of the input, {side}")
        if self.mixup and self.cutmix == 1:
            raise ValueError(f"cutmix is {self.cutmix}, which leaves no image to mixup; lower it, or leave mixup out")
        sizes.check(self.architecture, self.input, self.sizes, self.epochs)


def load(name: str, **overrides: Any) -> Recipe:
    """Recipe by its name in recipes/ or by the path of a TOML file; an override that is None is ignored.

    Raises:
        RecipeError: no such recipe, or a key or value that is not allowed.
    """
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    if not path.is_file():
        names = ", ".join(sorted(p.stem for p in FOLDER.glob("*.toml")))
        raise RecipeError(f"no recipe {name!r}; known are {names}, or give the path of a .toml file")
    given = {key: value for key, value in overrides.items() if value is not None}
    try:
        return msgspec.convert(msgspec.toml.decode(path.read_bytes()) | given, Recipe)
    except (msgspec.DecodeError, ValueError) as err:  # tomllib's error is a ValueError
        raise RecipeError(f"{path}: {err}") from err
