"""The size of the images in each epoch: small ones first are quicker (progressive resizing).

Neighbours: recipe.py checks the sides, augmentation.py resizes by them. Evaluation never does.
"""

from collections.abc import Sequence

import torch

from models.input import InputSpec
from training.architectures.classifier import Classifier


def at(spec: InputSpec, sides: Sequence[int], epoch: int, epochs: int) -> tuple[int, int]:
    """Height and width in an epoch (0 to epochs - 1). The epochs are shared out equally among ``sides``, the lengths of the
    shorter side; none of them: the input's own."""
    if not sides:
        return spec.height, spec.width
    return _scaled(spec, sides[epoch * len(sides) // epochs])


def check(model: Classifier, spec: InputSpec, sides: Sequence[int]) -> None:
    """Try the sides on a network on the meta device, which computes shapes alone.

    Raises:
        ValueError: the network does not take one of them.
    """
    for side in sides:
        height, width = _scaled(spec, side)
        try:
            model.eval()(torch.zeros(1, 3, height, width, device="meta"))
        except RuntimeError as err:
            reason = str(err).splitlines()[0]
            raise ValueError(
                f"the network takes no images of {height}x{width}, as sizes asks for: {reason}; leave sizes out, or choose "
                "larger sides or another architecture"
            ) from err


def _scaled(spec: InputSpec, side: int) -> tuple[int, int]:
    shorter = min(spec.height, spec.width)
    return round(spec.height * side / shorter), round(spec.width * side / shorter)
