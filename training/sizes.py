"""The size of the images in each epoch: small ones first are quicker (progressive resizing).

Neighbours: recipe.py checks the sides, augmentation.py resizes by them. Evaluation never does.
"""

from collections.abc import Sequence

import torch

from models.input import InputSpec
from training.architectures import catalogue
from training.architectures.classifier import Classifier


def at(spec: InputSpec, sides: Sequence[int], epoch: int, epochs: int) -> tuple[int, int]:
    """Height and width in an epoch (0 to epochs - 1). The epochs are shared out equally among ``sides``, the lengths of the
    shorter side; none of them: the input's own."""
    if not sides:
        return spec.height, spec.width
    return _scaled(spec, sides[epoch * len(sides) // epochs])


def check(architecture: str, spec: InputSpec, sides: Sequence[int], epochs: int) -> None:
    """Raises ValueError for sides that are too long, too many, or not for this network."""
    shorter = min(spec.height, spec.width)
    if sides and max(sides) > shorter:
        raise ValueError(f"sizes holds {max(sides)}, it must not exceed the shorter side of the input, {shorter}")
    if len(sides) > epochs:
        raise ValueError(f"sizes holds {len(sides)} sides for {epochs} epochs; train longer, or with fewer sides")
    if sides:
        with torch.device("meta"):
            model = catalogue.build(architecture, 2)
        try_on(model, spec, sides)


def try_on(model: Classifier, spec: InputSpec, sides: Sequence[int]) -> None:
    """Train a network on the meta device, which computes shapes alone, on images of these sides; raises ValueError where
    that cannot be done."""
    for height, width in (_scaled(spec, side) for side in sides):
        try:
            model.train().weighted_logits(torch.zeros(2, 3, height, width, device="meta"))
        except RuntimeError as err:
            reason = str(err).splitlines()[0]
            raise ValueError(
                f"the network takes no images of {height}x{width}, as sizes asks for: {reason}; leave sizes out, or choose "
                "larger sides or another architecture"
            ) from err


def _scaled(spec: InputSpec, side: int) -> tuple[int, int]:
    shorter = min(spec.height, spec.width)
    return round(spec.height * side / shorter), round(spec.width * side / shorter)
