"""How large an image may be, for training and the service alike, and what is said of a larger one.

Decoding costs time and memory by the pixel, whatever the sides are; docs/security.md has the figures.
"""

from dataclasses import dataclass

from models.errors import ImageTooLarge

BOMB_PIXELS = 89_478_485  # above, Pillow warns of a bomb
DECODED_BYTES = 20  # of memory for a pixel while it is decoded, at most, whatever the format


@dataclass(frozen=True)
class Limits:
    """In pixels. The service may be set to others; training has these."""

    max_pixels: int = 65_000_000  # telephones take 9248x6936, 64.1 million
    max_side_pixels: int = 65_500  # libjpeg reads no longer side, WebP has none; a row of a PNG is held in memory twice

    def check(self, width: int, height: int) -> None:
        """Raises ImageTooLarge."""
        size = f"{width}x{height} pixels"
        if max(width, height) > self.max_side_pixels:
            raise ImageTooLarge(f"image is {size}, the limit is {self.max_side_pixels} a side", "max_side_pixels")
        if width * height > self.max_pixels:
            had, allowed = megapixels(width * height, self.max_pixels)
            raise ImageTooLarge(f"image has {had} MP ({size}), the limit is {allowed} MP", "max_pixels")


LIMITS = Limits()


def megapixels(pixels: int, limit: int) -> tuple[str, str]:
    """Both in millions, the larger number with as many digits as show that it is the larger, one at least."""
    shown = (f"{pixels / 1e6:.{digits}f}" for digits in range(1, 7))
    return next(text for text in shown if float(text) > limit / 1e6), f"{limit / 1e6:.6f}".rstrip("0").rstrip(".")
