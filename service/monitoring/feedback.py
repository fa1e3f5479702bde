"""Feedback: what people say of an answer -> what it means, counted by version, and noted beside the kept image.

Looking up, and what may wait, runs in a thread of its own.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

from models.captures import captured
from models.errors import PackageError
from models.package import label_names
from service.errors import ClientError, InvalidParameter, Overloaded, UnknownAnswer
from service.monitoring.answer_log import NO_VERDICT, RIGHT, WRONG, AnswerLog, Held, Place, Ring
from service.monitoring.feedback_json import Feedback, FeedbackResult

NAMED = 20  # labels that an error lists
KNOWN = 4  # versions whose labels are kept by what they look like
PATIENCE_SECONDS = 1.0  # how long a request waits for another process to have marked an answer, which takes it microseconds


class CaptureStore(Protocol):
    folder: Path

    def tell(self, client: str, answer_id: str, index: int, right: bool, given: str | None) -> None: ...


class FeedbackIntake:
    """labels: of a version of ``model`` that is or was live; raises PackageError. count: told of each feedback the
    version, whether it was right, and whether a later one replaced this one. capture: where images are kept.
    """

    def __init__(
        self,
        model: str,
        recent: AnswerLog,
        labels: Callable[[int], Sequence[str]],
        count: Callable[[int, bool, bool], object],
        capture: CaptureStore | None = None,
    ) -> None:
        self.model = model
        self.recent = recent
        self.labels = labels
        self.count = count
        self.capture = capture
        self.forms = Forms()

    def take(self, client: str, feedbacks: Sequence[Feedback], until: float | None = None) -> list[FeedbackResult | ClientError]:
        """What each feedback says of its answer, or why it is refused; the last one on an answer counts.

        UnknownAnswer: no such answer of this client is remembered. InvalidParameter: its version has no such label.

        until: time.monotonic, when another process must have marked its answer; in PATIENCE_SECONDS. Raises Overloaded where
        it has not; then none is taken.
        """
        labels = Labels(self.model, self.labels)
        rings = self.recent.rings()
        judged = [self._judge(client, feedback, labels, rings) for feedback in feedbacks]
        if any(isinstance(one, Judged) and one.place for one in judged):
            self._mark_all([one for one in judged if isinstance(one, Judged)], until)
        for one in {one.name(): one for one in judged if isinstance(one, Judged) and one.place is None}.values():
            if one.before != one.right:
                self.count(one.version, one.right, False)
        for one in judged:
            if isinstance(one, Judged):
                self._tell(client, one)
        return [self._result(one) if isinstance(one, Judged) else one for one in judged]

    def _judge(self, client: str, feedback: Feedback, labels: "Labels", rings: list[Ring]) -> "Judged | ClientError":
        """What it says of its answer, which nothing is changed of yet."""
        index = int(feedback.index)
        try:
            if found := self.recent.find(client, feedback.answer(), index, rings):
                place, answer = found
                label = labels.name(answer.version, answer.label)
                given = self._given(feedback, answer.version, labels)
                return Judged(feedback, index, answer.version, label, _is_right(feedback, label, given), given, place)
            return self._judge_kept(client, feedback, index, labels)
        except ClientError as err:
            return err

    def _judge_kept(self, client: str, feedback: Feedback, index: int, labels: "Labels") -> "Judged":
        """The same for an answer of which the folder alone knows: the service was started since, or had many others."""
        answer = None
        if self.capture is not None:
            answer = captured.read_answer(captured.answer_path(self.capture.folder, client, feedback.answer(), index))
        if answer is None:
            raise UnknownAnswer(self._unknown(feedback.answer(), index))
        given = self._given(feedback, answer.version, labels)
        right = _is_right(feedback, answer.label, given)
        return Judged(feedback, index, answer.version, answer.label, right, given, before=answer.right)

    def _mark_all(self, judged: "Sequence[Judged]", until: float | None) -> None:
        try:
            with self.recent.alone(time.monotonic() + PATIENCE_SECONDS if until is None else until):
                for one in judged:
                    if one.place:
                        self._mark(one.place, one.version, one.right)
        except Held as err:
            raise Overloaded(
                f"another process of this service has been noting feedback for {PATIENCE_SECONDS:g} s, which takes it less than "
                "a thousandth of that; nothing of this request was taken; try again in 1 s",
                1,
            ) from err

    def _result(self, judged: "Judged") -> FeedbackResult:
        return FeedbackResult(judged.feedback.answer(), judged.index, self.model, judged.version, judged.label, judged.right)

    def _unknown(self, answer_id: str, index: int) -> str:
        """The same for an answer that never was and for one of another key."""
        kept = "" if self.capture is None else ", and those whose image is kept (HUBEL_FEEDBACK_DIR)"
        return (
            f"no label of image {index} of the answer {answer_id} is known here for you; an answer goes by its id, which it "
            "holds (X-Answer-ID), not by an X-Request-ID that was sent; known are the last "
            f"{self.recent.own.entries} of each process since the service was started (HUBEL_FEEDBACK_ANSWERS){kept}, given by "
            "/v1/classify or /v1/top-k to the same key, and by this service: another one behind the same address knows its own; "
            "send feedback soon, to the service that answered, or let all share one HUBEL_FEEDBACK_DIR"
        )

    def _given(self, feedback: Feedback, version: int, known: "Labels") -> str | None:
        """The class that it names, as the version calls it, whose name may be written in another way; None: it names none."""
        if feedback.label is msgspec.UNSET:
            return None
        labels = known.of(version)
        if (found := self.forms.find(labels, feedback.label)) is None:
            more = f" and {len(labels) - NAMED} more" if len(labels) > NAMED else ""
            raise InvalidParameter(
                f"label is {feedback.label[:50]!r}; {self.model}:{version} knows {', '.join(labels[:NAMED])}{more}; where none "
                'is right, send "wrong": true'
            )
        return found

    def _mark(self, at: Place, version: int, right: bool) -> None:
        verdict, before = RIGHT if right else WRONG, at.ring.verdict(at.place, at.key)
        if before is None or before == verdict:  # another answer took its place, or the same was said before
            return
        if before != NO_VERDICT:
            self.count(version, before == RIGHT, True)
        self.count(version, right, False)
        at.ring.mark(at.place, verdict)

    def _tell(self, client: str, judged: "Judged") -> None:
        if self.capture is not None:
            self.capture.tell(client, judged.feedback.answer(), judged.index, judged.right, judged.given)


def _is_right(feedback: Feedback, label: str, given: str | None) -> bool:
    return not feedback.wrong if given is None else given == label


class Forms:
    """The classes of the versions that feedback came for last, by their names and by what these look like. For one thread."""

    def __init__(self) -> None:
        self.known: list[tuple[Sequence[str], frozenset[str], dict[str, str]]] = []

    def find(self, labels: Sequence[str], name: str) -> str | None:
        """The label of that name, or the only one that looks like it."""
        found = next((entry for entry in self.known if entry[0] is labels), None)
        if found is None:
            found = labels, frozenset(labels), label_names.by_form(labels)
            self.known = [found, *self.known[: KNOWN - 1]]
        return name if name in found[1] else found[2].get(label_names.folded(name))


@dataclass(frozen=True)
class Judged:
    """Feedback on an answer that is known. given: the class that it names, None where it names none. place: where the answer is
    remembered; None: the folder of kept images alone knows it, and ``before`` is what was said there."""

    feedback: Feedback
    index: int
    version: int
    label: str
    right: bool
    given: str | None = None
    place: Place | None = None
    before: bool | None = None

    def name(self) -> tuple[str, int]:
        """Of the answer, among those of a client."""
        return self.feedback.answer(), self.index


class Labels:
    """The classes of the versions that one request is about, each read once."""

    def __init__(self, model: str, read: Callable[[int], Sequence[str]]) -> None:
        self.model = model
        self.read = read
        self.known: dict[int, Sequence[str] | None] = {}

    def of(self, version: int) -> Sequence[str]:
        """Raises UnknownAnswer where they cannot be read."""
        if version not in self.known:
            try:
                self.known[version] = self.read(version)
            except PackageError:
                self.known[version] = None
        labels = self.known[version]
        if labels is None:
            raise UnknownAnswer(
                f"{self.model}:{version}, which answered, cannot be read from the store any more, so its labels are not known; "
                "send feedback again when it is back there"
            )
        return labels

    def name(self, version: int, label: int) -> str:
        """The class of that number. Raises UnknownAnswer."""
        labels = self.of(version)
        if label >= len(labels):  # what lies in the store is not what answered
            raise UnknownAnswer(f"{self.model}:{version} in the store has {len(labels)} labels, and the answer was another one")
        return labels[label]
