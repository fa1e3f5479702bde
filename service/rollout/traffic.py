"""The traffic split of live version and candidate, in one worker: which of them answers, and what is seen of both.

As a shadow the candidate computes what the other answered; as a canary it answers its share, and the other computes that too,
so that they can be compared. Such second passes are made one at a time and only when there is nothing else to do.
"""

import asyncio
import hashlib
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Sequence

import numpy as np

from models.image.preprocess import Pixels
from models.image.spec import InputSpec
from models.lifecycle.candidate import LATENCY_BOUNDS, Progress, Tally
from models.package.manifest import NOVELTY, Manifest
from models.package.prediction import Classification, Ranking
from models.registry.history import MAX_REASON
from models.terminal.table import printable
from service.errors import HubelError, OutOfMemory
from service.inference.admission import Admission
from service.inference.job import Job
from service.inference.postprocess import Row, classify
from service.rollout.loaded import LoadedModel, LoadedModels
from service.telemetry import metrics
from service.telemetry.log import of_requests

Decode = Callable[[bytes, InputSpec], Awaitable[Pixels]]
log = of_requests()


class NotFinite(Exception):
    """A network gave logits that are no numbers."""


class TrafficSplit:
    """decode: image bytes -> pixels for a version's input, in another thread."""

    def __init__(self, loaded: LoadedModels, admission: Admission, decode: Decode) -> None:
        self.loaded = loaded
        self.admission = admission
        self.decode = decode
        self.seen: Progress | None = None  # since the last report
        self.comparing: asyncio.Task[None] | None = None

    def choose(self, key: str, output: str) -> LoadedModel:
        """The version that answers who is known by ``key``. Features of two versions cannot be used together: no canary's."""
        found = self.loaded.trial
        if found and found[0].mode == "canary" and output != "features" and is_in_share(key, found[0].version, found[0].percent):
            return found[1]
        return self.loaded.serving

    def progress(self) -> Progress | None:
        """What is counted for the candidate of now; None where there is none."""
        found = self.loaded.trial
        if found is None:
            self.seen = None
        elif self.seen is None or (self.seen.version, self.seen.started) != (found[0].version, found[0].started):
            self.seen = Progress(found[0].version, found[0].started)
        return self.seen

    def reported(self) -> None:
        """The supervisor has the counts; new ones begin."""
        self.seen = None

    def is_fault(self, held: LoadedModel, error: Exception) -> bool:
        """Whether the network of a version is to blame; counts it."""
        if isinstance(error, HubelError) and not isinstance(error, OutOfMemory):
            return False
        held.errors.inc()
        if (tally := self._tally(held)) is not None:
            tally.requests += 1
            tally.errors += 1
        return True

    def note(self, held: LoadedModel, answers: Sequence[Classification | Ranking], seconds: float) -> None:
        """A request was answered: its good images, and how long it waited for the network and in it."""
        held.seconds.observe(seconds)
        held.images.inc(len(answers))
        held.unsure.inc(sum(answer.unsure for answer in answers))
        for answer in answers:
            held.confidence.observe(confidence_of(answer))
            if answer.novelty is not None:
                held.novelty.observe(answer.novelty)
        if (tally := self._tally(held)) is not None:
            count(tally, answers, seconds)

    def _tally(self, held: LoadedModel) -> Tally | None:
        """Where a canary's answers and those of the live version are counted; a shadow's are with the comparison."""
        progress, found = self.progress(), self.loaded.trial
        if progress is None or found is None or found[0].mode == "shadow":
            return None
        return progress.candidate if held is found[1] else progress.in_service

    def compare(self, key: str, held: LoadedModel, image: bytes, job: Job) -> None:
        """Have the other version compute an image too, some time from now, if there is nothing else to do then."""
        found = self.loaded.trial
        if found is None:
            return
        trial, candidate = found
        if trial.mode == "canary":
            other = self.loaded.serving if held is candidate else None
        else:
            other = candidate if held is self.loaded.serving and is_in_share(key, trial.version, trial.percent) else None
        if other is None:
            return
        if self.comparing or not self.admission.idle():
            metrics.CANDIDATE_IMAGES.labels(candidate.manifest.name, str(trial.version), "skipped").inc()
            return
        self.comparing = asyncio.get_running_loop().create_task(self._compare(held, other, image, job))

    async def _compare(self, held: LoadedModel, other: LoadedModel, image: bytes, job: Job) -> None:
        try:
            with other.used():
                same = other.manifest.input == held.manifest.input
                pixels = job.pixels if same else await self.decode(image, other.manifest.input)
                idle = self.admission.idle()
                second = await other.engine.spare(pixels, other.manifest.answer_outputs) if idle else None
                if second is not None:
                    check_finite([second.row["logits"]])
        except HubelError:
            return
        except Exception as err:
            log.warning("%s fails beside %s: %s", other.manifest.id, held.manifest.id, printable(str(err))[:MAX_REASON])
            self._count_failure(other)
            return
        finally:
            self.comparing = None
        self._count(held, job, other, second)

    def _count_failure(self, other: LoadedModel) -> None:
        progress, found = self.progress(), self.loaded.trial
        if progress is not None and found is not None and other is found[1]:
            other.errors.inc()
            progress.candidate.requests += 1
            progress.candidate.errors += 1
            metrics.CANDIDATE_IMAGES.labels(other.manifest.name, str(other.version), "failed").inc()

    def _count(self, held: LoadedModel, job: Job, other: LoadedModel, second: Job | None) -> None:
        progress, found = self.progress(), self.loaded.trial
        if progress is None or found is None or found[1] not in (held, other):
            return
        result = "skipped"
        if second is not None:
            first, answer = (answer_of(j, h.manifest) for j, h in ((job, held), (second, other)))
            old, new = (first, answer) if other is found[1] else (answer, first)
            result = likeness(old, new, self.loaded.serving.manifest.labels)
            progress.compared += result != "incomparable"
            progress.incomparable += result == "incomparable"
            progress.agreed += result == "agreed"
            if other is found[1]:
                alone = job.together == 1  # a pass of several images takes longer than the shadow's of one
                count(progress.in_service, [first], job.infer_seconds if alone else None)
                count(progress.candidate, [answer], second.infer_seconds if alone else None)
        metrics.CANDIDATE_IMAGES.labels(other.manifest.name, str(found[0].version), result).inc()


def is_in_share(key: str, version: int, percent: float) -> bool:
    """Whether a key is among ``percent`` of all, always the same ones for a version and others for the next."""
    digest = hashlib.blake2b(f"{version}:{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) < percent / 100 * 2**64


def check_finite(rows: Sequence[Row]) -> None:
    """Raises NotFinite."""
    if not all(np.isfinite(row).all() for row in rows):
        raise NotFinite("its logits are not finite numbers")


def answer_of(job: Job, manifest: Manifest) -> Classification:
    return classify(job.row["logits"], manifest, job.row.get(NOVELTY))


def likeness(old: Classification, new: Classification, known: Sequence[str]) -> str:
    """Whether a candidate gives the class that the live version, which knows ``known``, gives. A class that it has more
    cannot be compared; one that it lacks is a loss, as it gives such images another."""
    if new.label not in known:
        return "incomparable"
    return "agreed" if old.label == new.label else "disagreed"


def count(tally: Tally, answers: Sequence[Classification | Ranking], seconds: float | None) -> None:
    """Add an answered request; ``seconds`` is None where its time cannot be compared."""
    tally.requests += 1
    tally.images += len(answers)
    tally.unsure += sum(answer.unsure for answer in answers)
    tally.confidence += sum(confidence_of(answer) for answer in answers)
    if seconds is not None:
        tally.latency[bisect_left(LATENCY_BOUNDS, seconds)] += 1


def confidence_of(answer: Classification | Ranking) -> float:
    """The probability of the likeliest class."""
    return answer.probability if isinstance(answer, Classification) else answer.top[0].probability
