"""What a network expects of an image."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]
Length = Annotated[int, Meta(ge=1, le=4096)]


class InputSpec(Struct, frozen=True, forbid_unknown_fields=True):
    """Size and geometry of a network's input. All lengths are pixels.

    The shorter side of the upright image is resized to ``resize``, then the central
    ``height`` x ``width`` is cut out.

    Raises:
        ValueError: the crop is larger than the resized image.
    """

    height: Length
    width: Length
    resize: Length
    interpolation: Interpolation = "bilinear"

    def __post_init__(self) -> None:
        if max(self.height, self.width) > self.resize:
            raise ValueError(
                f"the crop of {self.height}x{self.width} is larger than the resized shorter side, {self.resize}; "
                "raise resize or lower height and width"
            )
