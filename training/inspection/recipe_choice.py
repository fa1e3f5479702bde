"""Which recipe fits the data where nobody chose one: by the sides of the images, their number, their colours and the names of the
classes."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from models.errors import ImageError
from training.data.sources.source import Item, Source
from training.inspection.facts import Facts, examine_file
from training.inspection.findings import counted

SAMPLE = 100  # images that are looked at, evenly out of all
GREY = 0.95  # share of grey images from which a network for grey ones does
SMALL = 64  # pixels of the shorter side up to which an image is small
TINY = 40  # of which the networks of CIFAR-10 and MNIST are made
MANY = 10_000  # training images from which a network for small images learns more from them than from ImageNet


class Choice(NamedTuple):
    """A recipe by its name, why, and what of it is to be another."""

    recipe: str
    why: str
    overrides: dict[str, Any]

    @property
    def said(self) -> str:
        """One line."""
        changed = "".join(f", {key} {value}" for key, value in self.overrides.items())
        return f"recipe {self.recipe}{changed.lower()}: {self.why}; choose another with --recipe (docs/training.md, Recipes)"


def choose(source: Source) -> Choice:
    """What fits the training images of ``source``, some of which are read."""
    items = source.train.items
    count = len(items)
    seen = look(items[:: max(1, count // SAMPLE)])
    side = float(np.median([min(facts.width, facts.height) for facts in seen])) if seen else 0.0
    is_grey = np.mean([not facts.coloured for facts in seen]) >= GREY if seen else False
    signs = all(len(name) == 1 and name.isalnum() for name in source.train.classes)
    overrides: dict[str, Any] = {"flip": False} if signs else {}
    why = f"{counted(count, 'training image')} of {side:g} pixels, {'grey' if is_grey else 'in colour'}"
    why += ", of digits or letters, which have no mirror images" if signs else ""
    if not seen or side > SMALL:
        return Choice("photos-lite0", f"{why}, begin with what a network learnt from photographs", overrides)
    if is_grey and side <= TINY:
        name = "mnist-convnet" if count >= MANY else "small-grey"
        return Choice(name, f"{why}, train a small network from the beginning", {} if signs else {"flip": True})
    if count >= MANY and side <= TINY:
        return Choice("cifar10", f"{why}, are enough to train a network from the beginning", overrides)
    return Choice("small-lite0", f"{why}, are enlarged to begin with what a network learnt from photographs", overrides)


def look(items: Sequence[Item]) -> list[Facts]:
    """Of those that can be decoded."""
    found = list[Facts]()
    for item in items:
        try:
            found.append(examine_file(item.read())[0])
        except (ImageError, OSError):  # which training names and leaves out
            continue
    return found
