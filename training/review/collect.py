"""A folder of kept images -> what a person should look at, in what order, and with what label."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from models.captures import captured
from models.captures.captured import CapturedAnswer
from training.errors import DataError

# Why an image is worth a look, the most first.
DISPUTED = "people gave different labels"
CORRECTED = "another label was given"
WRONG = "called wrong, no label given"
UNSURE = "unsure"
CONFIRMED = "called right"
USUAL = "no feedback"
REASONS = (DISPUTED, CORRECTED, WRONG, UNSURE, CONFIRMED, USUAL)


@dataclass(frozen=True)
class Case:
    """An image, with the answer that its reason is about. label: what it is to be trained as; None: a person must say."""

    path: Path
    reason: str
    label: str | None
    answer: CapturedAnswer

    @property
    def rank(self) -> tuple[int, float, str]:
        """Wrong answers that were sure come first, and unsure ones that were least sure."""
        sure = -self.answer.probability if self.reason in (CORRECTED, WRONG, DISPUTED) else self.answer.probability
        return REASONS.index(self.reason), sure, self.path.name


def collect(folder: Path) -> list[Case]:
    """All images of a folder of kept images, those first that matter most.

    Raises:
        DataError: it is no such folder, or holds no image.
    """
    if not captured.is_folder(folder):
        raise DataError(f"{folder} is no folder of kept images; give the one that HUBEL_FEEDBACK_DIR names")
    answers: defaultdict[str, list[CapturedAnswer]] = defaultdict(list)
    for answer in captured.read_all(folder):
        answers[answer.image].append(answer)
    if not answers:
        raise DataError(f"{folder} holds no image yet; the service keeps those that it classifies")
    return sorted(
        (judge(folder / captured.IMAGES / image, found) for image, found in answers.items()), key=lambda case: case.rank
    )


def judge(path: Path, answers: Iterable[CapturedAnswer]) -> Case:
    """What became of an image that was answered once or several times. The last feedback on it counts, unless people
    gave it different labels."""
    in_order = sorted(answers, key=lambda answer: answer.given_at or answer.time)
    told = [answer for answer in in_order if answer.right is not None]
    labels = {label for answer in told if (label := _label(answer))}
    if len(labels) > 1:
        return Case(path, DISPUTED, None, told[-1])
    if told:
        last = next((answer for answer in reversed(told) if answer.right is False), told[-1])
        label = next(iter(labels), None)
        return Case(path, CONFIRMED if last.right else CORRECTED if label else WRONG, label, last)
    last = in_order[-1]
    return Case(path, UNSURE if last.unsure else USUAL, None, last)


def _label(answer: CapturedAnswer) -> str | None:
    """The label that a feedback says."""
    return answer.label if answer.right else answer.given
