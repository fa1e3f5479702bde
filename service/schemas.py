"""The public API as types: what the endpoints answer. docs/api.md shows each with an example."""

from typing import Literal

from msgspec import Struct

Encoding = Literal["float", "base64"]

# What the query's parameters can be; the first is the default.
BOOLEANS = {"true": True, "false": False}
ENCODINGS: dict[str, Encoding] = {"float": "float", "base64": "base64"}


def default_k(classes: int) -> int:
    """Classes that /v1/top-k answers where it is not told how many."""
    return min(5, classes)


class Problem(Struct, omit_defaults=True):
    """RFC 9457 problem details; ``code`` is stable, ``detail`` is for people."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    request_id: str | None = None


class Failure(Struct):
    """In the place of an image that could not be used, where the request holds several."""

    error: Problem


class Prediction(Struct):
    """One class and its probability, between 0 and 1."""

    label: str
    probability: float


class Classification(Struct):
    """The likeliest class. ``unsure``: its probability is below the model's threshold."""

    label: str
    probability: float
    unsure: bool


class Ranking(Struct):
    """The k likeliest classes, likeliest first."""

    top: list[Prediction]
    unsure: bool


class Features(Struct):
    """The feature vector: numbers, or the base64 of little-endian float32."""

    features: list[float] | str


class Answer(Struct):
    """One result for each image, in the order sent."""

    model: str
    version: int
    results: list[Classification | Failure] | list[Ranking | Failure] | list[Features | Failure]
