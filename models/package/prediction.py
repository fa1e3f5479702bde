"""What is answered of an image: by the service, by its client, and in a process of one's own."""

from msgspec import Struct


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
