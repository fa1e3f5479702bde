"""A recipe: everything that decides how a network is trained, read from a TOML file.

Neighbours: recipes/*.toml are the recipes, train.py follows one, checkpoint.py stores it.
"""

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from models.input import InputSpec

FOLDER = Path(__file__).parent / "recipes"
Precision = Literal["auto", "fp32", "bf16"]


class RecipeError(ValueError):
    """A recipe that cannot be followed; ``str()`` names the key, the value and what is allowed."""


@dataclass(frozen=True)
class Recipe:
    """Defaults are the ones of docs/training.md. Lengths in pixels, shares between 0 and 1."""

    architecture: str
    input: InputSpec
    epochs: int
    batch_size: int = 128
    learning_rate: float = 0.1  # the highest, reached at the end of the warm-up
    warmup_share: float = 0.15  # of all steps; the rate then falls to 0 along a straight line
    momentum: float = 0.9  # Nesterov's
    weight_decay: float = 5e-4  # of matrices and kernels; none on biases and norms
    label_smoothing: float = 0.1
    crop_padding: int = 4
    flip: bool = True
    cutout: int = 0
    validation_share: float = 0.1  # of the training images, where the data bring no validation folder
    precision: Precision = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        for key, low, high in (
            ("epochs", 1, 100_000),
            ("batch_size", 1, 65_536),
            ("learning_rate", 1e-9, 1e3),
            ("warmup_share", 0, 1),
            ("momentum", 0, 0.9999),
            ("weight_decay", 0, 1),
            ("label_smoothing", 0, 0.99),
            ("crop_padding", 0, min(self.input.height, self.input.width) - 1),
            ("cutout", 0, max(self.input.height, self.input.width)),
            ("validation_share", 0.001, 0.9),
            ("seed", 0, 2**32 - 1),
        ):
            value = getattr(self, key)
            if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
                raise RecipeError(f"{key} is {value!r}, it must be a number between {low} and {high}")
        if self.precision not in get_args(Precision):
            raise RecipeError(f"precision is {self.precision!r}, it must be one of {', '.join(get_args(Precision))}")


def parse(table: dict[str, Any], **overrides: Any) -> Recipe:
    """Recipe from a parsed TOML or JSON table; an override that is None is ignored. Raises RecipeError."""
    table = table | {key: value for key, value in overrides.items() if value is not None}
    known = {field.name for field in fields(Recipe)}
    if unknown := sorted(set(table) - known):
        raise RecipeError(f"unknown key {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    if missing := sorted({"architecture", "input", "epochs"} - set(table)):
        raise RecipeError(f"missing key {', '.join(missing)}")
    try:
        return Recipe(**table | {"input": InputSpec(**table["input"])})
    except RecipeError:
        raise
    except (TypeError, ValueError) as err:
        raise RecipeError(str(err)) from err


def load(name: str, **overrides: Any) -> Recipe:
    """Recipe by its name in recipes/ or by the path of a TOML file; raises RecipeError."""
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    if not path.is_file():
        names = ", ".join(sorted(p.stem for p in FOLDER.glob("*.toml")))
        raise RecipeError(f"no recipe {name!r}; known are {names}, or give the path of a .toml file")
    try:
        return parse(tomllib.loads(path.read_text()), **overrides)
    except (tomllib.TOMLDecodeError, RecipeError) as err:
        raise RecipeError(f"{path}: {err}") from err
