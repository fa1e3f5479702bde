"""The public API as types: what the endpoints answer. docs/api.md shows each with an example."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from models.captures.captured import ANSWER_ID
from models.package.prediction import Classification as Classification
from models.package.prediction import Prediction as Prediction
from models.package.prediction import Ranking as Ranking

Id = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$")]
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


class Features(Struct):
    """The feature vector: numbers, or the base64 of little-endian float32."""

    features: list[float] | str


class Answer(Struct):
    """One result for each image, in the order sent. ``id``: what feedback and deletions name."""

    id: str
    model: str
    version: int
    results: list[Classification | Failure] | list[Ranking | Failure] | list[Features | Failure]


class Feedback(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What someone says of an answer to /v1/classify or /v1/top-k: the right label, or whether it is wrong; one of the two."""

    id: Id | UnsetType = UNSET
    index: Annotated[float, Meta(ge=0, lt=2**31)] = 0  # of the image in the request; 3.0 is an integer in JSON Schema
    label: str | UnsetType = UNSET
    wrong: bool | UnsetType = UNSET
    request_id: Id | UnsetType = UNSET  # taken for the id, which X-Request-ID is where the caller sent none

    def __post_init__(self) -> None:
        if (self.id is UNSET) == (self.request_id is UNSET):
            raise ValueError('"id" is needed, which the answer has')
        if not ANSWER_ID.fullmatch(self.answer()):
            raise ValueError("id is not one of this service")
        if self.index != int(self.index):
            raise ValueError(f"index is {self.index}, not a whole number")
        if (self.label is UNSET) == (self.wrong is UNSET):
            raise ValueError('either "label" or "wrong" is needed, and not both')

    def answer(self) -> str:
        """The id of the answer that it is about."""
        return str(self.request_id if self.id is UNSET else self.id)


class FeedbackResult(Struct):
    """What the feedback was about: the version that answered, its ``label``, and whether that was right."""

    id: str
    index: int
    model: str
    version: int
    label: str
    right: bool


class Deletion(Struct):
    """How many kept images of an answer were deleted, with what is known of them."""

    id: str
    deleted: int
