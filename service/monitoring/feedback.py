"""Feedback: what people say of an answer -> what it means, counted by version, and noted beside the kept image.

An answer says of itself what it was, so any process takes feedback on it. Looking up, and what may wait, runs in a thread of
its own.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from models.captures import captured
from models.errors import PackageError
from models.package import label_names
from service.errors import ClientError, InvalidParameter, UnknownAnswer
from service.monitoring.answer_token import AnswerTokens, SignedAnswer
from service.monitoring.feedback_json import Feedback, FeedbackResult

NAMED = 20  # labels that an error lists
KNOWN = 4  # versions whose labels are kept by what they look like
JUDGED = 16_384  # answers that had feedback here, of which it is known what it said


class CaptureStore(Protocol):
    folder: Path

    def tell(self, client: str, answer_id: str, index: int, right: bool, given: str | None) -> None: ...


class FeedbackIntake:
    """labels: of a version of the model that is or was live; raises PackageError. count: told of each feedback the version,
    whether it was right, and whether a later one replaced this one. capture: where images are kept. For one thread.
    """

    def __init__(
        self,
        tokens: AnswerTokens,
        labels: Callable[[int], Sequence[str]],
        count: Callable[[int, bool, bool], object],
        capture: CaptureStore | None = None,
    ) -> None:
        self.model = tokens.model
        self.tokens = tokens
        self.labels = labels
        self.count = count
        self.capture = capture
        self.forms = Forms()
        self.judged: OrderedDict[tuple[str, int], bool] = OrderedDict()  # id and index -> whether it was right

    def take(self, client: str, feedbacks: Sequence[Feedback]) -> list[FeedbackResult | ClientError]:
        """What each feedback says of its answer, or why it is refused; the last one on an answer counts.

        InvalidAnswer, ForeignAnswer, ExpiredAnswer, UnknownAnswer: as AnswerTokens says; the last also where the labels of its
        version cannot be read. InvalidParameter: its version has no such label.
        """
        labels = Labels(self.model, self.labels)
        return [self._take(client, feedback, labels) for feedback in feedbacks]

    def _take(self, client: str, feedback: Feedback, labels: "Labels") -> FeedbackResult | ClientError:
        try:
            answer = self.tokens.verify_recent(client, feedback.answer)
            label = labels.name(answer.version, answer.label)
            given = self._given(feedback, answer.version, labels)
        except ClientError as err:
            return err
        right = not feedback.wrong if given is None else given == label
        self._count(client, answer, right)
        if self.capture is not None:
            self.capture.tell(client, answer.id, answer.index, right, given)
        return FeedbackResult(self.model, answer.version, label, right)

    def _count(self, client: str, answer: SignedAnswer, right: bool) -> None:
        before = self._before(client, answer)
        if before != right:
            if before is not None:
                self.count(answer.version, before, True)
            self.count(answer.version, right, False)
        self.judged[answer.id, answer.index] = right
        self.judged.move_to_end((answer.id, answer.index))
        if len(self.judged) > JUDGED:
            self.judged.popitem(last=False)

    def _before(self, client: str, answer: SignedAnswer) -> bool | None:
        """What feedback said of it before, as far as this process and the folder of kept images know."""
        before = self.judged.get((answer.id, answer.index))
        if before is None and self.capture is not None:
            kept = captured.read_answer(captured.answer_path(self.capture.folder, client, answer.id, answer.index))
            before = None if kept is None else kept.right
        return before

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
