"""Feedback: what people say of an answer -> what it means, counted by version, and noted beside the kept image.

Neighbours: recent.py knows the answers, keep.py the images; feedback_api.py reads requests.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from models import kept
from models.errors import PackageError
from service.errors import InvalidParameter, MalformedRequest, UnknownAnswer, UnsupportedMediaType
from service.recent import NO_VERDICT, RIGHT, WRONG, Recent, RecentAnswers, Ring
from service.schemas import Feedback, FeedbackResult

MAX_FEEDBACKS = 100  # in one request
NAMED = 20  # labels that an error lists
JSON = "application/json"


class Counter(Protocol):
    """Is told of feedback, and of feedback that a later one replaced."""

    def __call__(self, version: int, right: bool, replaced: bool = False) -> object: ...


class Keeper(Protocol):
    folder: Path

    def tell(self, client: str, request_id: str, index: int, right: bool, given: str | None) -> None: ...


def parse(body: bytes) -> list[Feedback]:
    """One feedback, or a list of them; raises MalformedRequest, InvalidParameter."""
    if body.count(b'"request_id"') > MAX_FEEDBACKS:  # then they are not even made
        raise _too_many()
    try:
        found = msgspec.json.decode(body, type=Feedback | list[Feedback])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
        raise MalformedRequest(
            f'the JSON body is not {{"request_id": "...", "label": "..."}} or {{"request_id": "...", "wrong": true}}, '
            f"or a list of these: {err}"
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


class Verdicts:
    """labels: of a version of ``model``, which it is in service or was; raises PackageError. keeper: where images are kept."""

    def __init__(
        self,
        model: str,
        recent: RecentAnswers,
        labels: Callable[[int], Sequence[str]],
        count: Counter,
        keeper: Keeper | None = None,
    ) -> None:
        self.model = model
        self.recent = recent
        self.labels = labels
        self.count = count
        self.keeper = keeper

    def take(self, client: str, feedback: Feedback) -> FeedbackResult:
        """What feedback says of its answer; the last one on an answer counts.

        Raises:
            UnknownAnswer: no such answer of this client is remembered.
            InvalidParameter: its version has no such label.
        """
        index = int(feedback.index)
        with self.recent.alone():
            found = self.recent.find(client, feedback.request_id, index)
            if found is None:
                return self._take_kept(client, feedback, index)
            ring, place, answer = found
            label = self._labels(answer.version)[answer.label]
            right = self._is_right(feedback, answer.version, label)
            self._mark(ring, place, answer, right)
        self._tell(client, feedback, index, right)
        return FeedbackResult(feedback.request_id, index, self.model, answer.version, label, right)

    def _take_kept(self, client: str, feedback: Feedback, index: int) -> FeedbackResult:
        """The same for an answer of which the folder alone knows: the service was started since, or had many others."""
        answer = None
        if self.keeper is not None:
            answer = kept.read_answer(kept.answer_path(self.keeper.folder, client, feedback.request_id, index))
        if answer is None:
            raise UnknownAnswer(self._unknown(feedback.request_id, index))
        right = self._is_right(feedback, answer.version, answer.label)
        if answer.right != right:
            self.count(answer.version, right)
        self._tell(client, feedback, index, right)
        return FeedbackResult(feedback.request_id, index, self.model, answer.version, answer.label, right)

    def _unknown(self, request_id: str, index: int) -> str:
        """The same for an answer that never was and for one of another key."""
        kept = "" if self.keeper is None else ", and those whose image is kept (HUBEL_FEEDBACK_DIR)"
        return (
            f"no label of image {index} of the request {request_id} is known here for you; known are the last "
            f"{self.recent.own.entries} of each process since the service was started (HUBEL_FEEDBACK_ANSWERS){kept}, given by "
            "/v1/classify or /v1/top-k to the same key, and by this service: another one behind the same address knows its own; "
            "send feedback soon, to the service that answered, or let all share one HUBEL_FEEDBACK_DIR"
        )

    def _labels(self, version: int) -> Sequence[str]:
        try:
            return self.labels(version)
        except PackageError as err:
            raise UnknownAnswer(
                f"{self.model}:{version}, which answered, cannot be read from the store any more, so its labels are not known; "
                "send feedback again when it is back there"
            ) from err

    def _is_right(self, feedback: Feedback, version: int, label: str) -> bool:
        if feedback.label is msgspec.UNSET:
            return not feedback.wrong
        labels = self._labels(version)
        if feedback.label not in labels:
            more = f" and {len(labels) - NAMED} more" if len(labels) > NAMED else ""
            raise InvalidParameter(
                f"label is {feedback.label[:50]!r}; {self.model}:{version} knows {', '.join(labels[:NAMED])}{more}; where none "
                'is right, send "wrong": true'
            )
        return feedback.label == label

    def _mark(self, ring: Ring, place: int, answer: Recent, right: bool) -> None:
        verdict = RIGHT if right else WRONG
        if answer.verdict == verdict:
            return
        if answer.verdict != NO_VERDICT:
            self.count(answer.version, answer.verdict == RIGHT, replaced=True)
        self.count(answer.version, right)
        ring.mark(place, verdict)

    def _tell(self, client: str, feedback: Feedback, index: int, right: bool) -> None:
        if self.keeper is not None:
            given = None if feedback.label is msgspec.UNSET else feedback.label
            self.keeper.tell(client, feedback.request_id, index, right, given)
