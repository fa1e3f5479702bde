"""What a network expects of an image. Neighbours: manifest.py stores it, preprocess.py obeys it."""

from dataclasses import dataclass
from typing import Literal, get_args

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]


@dataclass(frozen=True)
class InputSpec:
    """Size and geometry of a network's input. All lengths are pixels.

    The shorter side of the upright image is resized to ``resize``, then the central
    ``height`` x ``width`` is cut out.

    Raises:
        ValueError: a length is not a positive whole number, the crop is larger than the
            resized image, or the interpolation is unknown.
    """

    height: int
    width: int
    resize: int
    interpolation: Interpolation = "bilinear"

    def __post_init__(self) -> None:
        for name in ("height", "width", "resize"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ValueError(f"input.{name} is {value!r}, it must be a whole number of pixels above 0")
        if max(self.height, self.width) > self.resize:
            raise ValueError(
                f"input crop {self.height}x{self.width} is larger than the resized shorter side, {self.resize}; "
                "raise input.resize or lower the crop"
            )
        if self.interpolation not in get_args(Interpolation):
            raise ValueError(
                f"input.interpolation is {self.interpolation!r}, it must be one of {', '.join(get_args(Interpolation))}"
            )
