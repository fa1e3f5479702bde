"""The size of the images in each epoch: small ones first are quicker (progressive resizing). Evaluation never does."""

from collections.abc import Sequence

from models.image.spec import InputSpec
from training.recipe import scaled


def at(spec: InputSpec, sides: Sequence[int], epoch: int, epochs: int) -> tuple[int, int]:
    """Height and width in an epoch (0 to epochs - 1). The epochs are shared out equally among ``sides``, the lengths of the
    shorter side; none of them: the input's own."""
    if not sides:
        return spec.height, spec.width
    return scaled(spec, sides[epoch * len(sides) // epochs])
