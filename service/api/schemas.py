"""The answers to requests about images, as types. docs/api.md shows each with an example."""

from msgspec import Struct

from models.package.prediction import Classification, Explanation, Ranking
from models.package.similar import Similar
from service.http.problems import Problem
from service.inference.results import Features


class Failure(Struct):
    """In the place of an image that could not be used, where the request holds several."""

    error: Problem


class Answer(Struct):
    """One result for each image, in the order sent."""

    model: str
    version: int
    results: (
        list[Classification | Failure]
        | list[Ranking | Failure]
        | list[Features | Failure]
        | list[Explanation | Failure]
        | list[Similar | Failure]
    )
