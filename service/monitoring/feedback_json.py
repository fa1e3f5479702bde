"""What people send of an answer, as JSON, and what they are told: feedback and deletions. docs/api.md shows examples."""

import re

import msgspec
from msgspec import UNSET, Struct, UnsetType

from service.errors import InvalidParameter, MalformedRequest, UnsupportedMediaType

MAX_FEEDBACKS = 100  # in one request
TOLD = 300  # characters of what is wrong with JSON
JSON = "application/json"
NAMES = re.compile(rb'"answer"\s*:')  # in the JSON of a feedback


class Feedback(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What someone says of an answer to /v1/classify or /v1/top-k: the right label, or whether it is wrong; one of the two."""

    answer: str  # of the result
    label: str | UnsetType = UNSET
    wrong: bool | UnsetType = UNSET

    def __post_init__(self) -> None:
        if (self.label is UNSET) == (self.wrong is UNSET):
            raise ValueError('either "label" or "wrong" is needed, and not both')


class FeedbackResult(Struct):
    """What the feedback was about: the version that answered, its ``label``, and whether that was right."""

    model: str
    version: int
    label: str
    right: bool


class Deletion(Struct):
    """How many kept images of a request were deleted, with what is known of them."""

    deleted: int


def parse(body: bytes) -> list[Feedback]:
    """One feedback, or a list of them; raises MalformedRequest, InvalidParameter."""
    if len(NAMES.findall(body)) > MAX_FEEDBACKS:  # then they are not even made
        raise _too_many()
    try:
        found = msgspec.json.decode(body, type=Feedback | list[Feedback])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
        raise MalformedRequest(
            f'the JSON body is not {{"answer": "...", "label": "..."}} or {{"answer": "...", "wrong": true}}, '
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
