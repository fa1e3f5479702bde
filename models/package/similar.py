"""What is answered of an image where similar ones are asked for: by the service and by its client."""

import msgspec
from msgspec import Struct


class Neighbour(Struct):
    """An image of the index. name: its path in the folder that was indexed, with "/". class: the first folder of the name, None
    without one. score: cosine of the feature vectors, -1 to 1. thumbnail: the path on the service where a small JPEG of it is."""

    id: int
    name: str
    folder: str | None = msgspec.field(name="class")
    score: float
    thumbnail: str


class Similar(Struct):
    """Images of the index, the most similar first."""

    similar: list[Neighbour]
