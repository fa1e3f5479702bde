"""What is answered of an image: by the service, by its client, and in a process of one's own."""

from msgspec import Struct


class Prediction(Struct):
    """One class and its probability, between 0 and 1."""

    label: str
    probability: float


class Classification(Struct, omit_defaults=True):
    """The likeliest class. ``unsure``: its probability is below the model's threshold, or the novelty above that of novelty.
    ``novelty``: between 0 and 1, how unlike the image is to those that the model was trained on: the share of held-out images
    that are less unlike them; absent where the model's package does not tell. ``answer``: what a service calls it, for feedback
    and deletion."""

    label: str
    probability: float
    unsure: bool
    novelty: float | None = None
    answer: str = ""


class Ranking(Struct, omit_defaults=True):
    """The k likeliest classes, likeliest first. ``unsure``, ``novelty``, ``answer``: as of a Classification."""

    top: list[Prediction]
    unsure: bool
    novelty: float | None = None
    answer: str = ""


class ClassMap(Struct):
    """Rows of numbers from 0 to 1, from top to bottom, or the base64 of little-endian float32, row after row."""

    width: int
    height: int
    values: list[list[float]] | str


class SeenPart(Struct):
    """The part of the upright image that the network saw, in its pixels."""

    x: float
    y: float
    width: float
    height: float


class ImageSize(Struct):
    """Of the upright image, in pixels."""

    width: int
    height: int


class Explanation(Struct):
    """How much each place of the part seen speaks for a class."""

    label: str
    index: int
    probability: float
    map: ClassMap
    seen: SeenPart
    size: ImageSize
