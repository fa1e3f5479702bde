"""What people send of an answer, as JSON, and what they are told: feedback and deletions. docs/api.md shows examples."""

import re
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from models.captures.captured import ANSWER_ID
from service.errors import InvalidParameter, MalformedRequest, UnsupportedMediaType

MAX_FEEDBACKS = 100  # in one request
TOLD = 300  # characters of what is wrong with JSON
JSON = "application/json"
NAMES = re.compile(rb'"(?:request_)?id"\s*:')  # of an answer, in the JSON of a feedback
Id = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$")]


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


def parse(body: bytes) -> list[Feedback]:
    """One feedback, or a list of them; raises MalformedRequest, InvalidParameter."""
    if len(NAMES.findall(body)) > MAX_FEEDBACKS:  # then they are not even made
        raise _too_many()
    try:
        found = msgspec.json.decode(body, type=Feedback | list[Feedback])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
        raise MalformedRequest(
            f'the JSON body is not {{"id": "...", "label": "..."}} or {{"id": "...", "wrong": true}}, '
            f"or a list of these: {str(err)[:TOLD]}"
        ) from err
    found = found if isinstance(found, list) else [found]
    if not found:
        raise MalformedRequest("the list holds no feedback; send at least one")
    if len(found) > MAX_FEEDBACKS:
        raise _too_many()
    return found


def check_type(content_type: str) -> None:
    """Raises UnsupportedMediaType where it is not said to be JSON, which no web page of another origin can send unasked."""
    if content_type.partition(";")[0].strip().lower() != JSON:
        raise UnsupportedMediaType(f"the content type is {content_type[:100]!r}; feedback is sent as {JSON}")


def _too_many() -> InvalidParameter:
    return InvalidParameter(f"the request holds more than {MAX_FEEDBACKS} feedbacks, the limit; send several requests")
