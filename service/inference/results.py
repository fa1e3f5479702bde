"""What is said of one image, and in which forms."""

from typing import Literal

from msgspec import Struct

Encoding = Literal["float", "base64"]

# What the query's parameters can be; the first is the default.
BOOLEANS = {"true": True, "false": False}
ENCODINGS: dict[str, Encoding] = {"float": "float", "base64": "base64"}


def default_k(classes: int) -> int:
    """Classes that /v1/top-k answers where it is not told how many."""
    return min(5, classes)


class Features(Struct):
    """The feature vector: numbers, or the base64 of little-endian float32."""

    features: list[float] | str
