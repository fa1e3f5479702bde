"""Records each answer after it was computed: signed for feedback, for image capture, for drift.

Nothing here waits, and nothing here can fail a request.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from models.captures.captured import CapturedAnswer
from models.package.manifest import Manifest
from models.package.prediction import Classification, Prediction, Ranking
from service.http.request import Request
from service.inference.job import Job
from service.monitoring.answer_token import AnswerTokens
from service.monitoring.capture import Capture
from service.monitoring.drift import Drift, Sample
from service.telemetry.log import of_requests

log = of_requests()


class Recorder:
    """tokens: sign answers. capture: None where no images are kept."""

    def __init__(self, tokens: AnswerTokens, capture: Capture | None, drift: Drift) -> None:
        self.tokens = tokens
        self.capture = capture
        self.drift = drift
        self.numbers: dict[int, dict[str, int]] = {}  # of the labels, by version

    def outputs(self, manifest: Manifest, output: str) -> tuple[str, ...]:
        """The outputs to compute for an image: what an answer is made of or the one asked for, now and then the features too."""
        if output != "logits":
            return (output,)
        known = manifest.answer_outputs
        return ("features", *known) if self.drift.wants(manifest.version) else known

    def take(
        self, request: Request, images: Sequence[bytes], jobs: Sequence[object], results: Sequence[object], manifest: Manifest
    ) -> None:
        """Images with their jobs and results, of which only labels are taken and get a token; answered by the model of
        ``manifest``."""
        try:
            for index, (image, job, result) in enumerate(zip(images, jobs, results, strict=True)):
                if isinstance(job, Job) and isinstance(result, Classification | Ranking):
                    self._take_one(request, index, image, job, result, manifest)
        except Exception:
            log.exception("request %s is answered, but not recorded", request.name())

    def _take_one(
        self, request: Request, index: int, image: bytes, job: Job, result: Classification | Ranking, manifest: Manifest
    ) -> None:
        best = result if isinstance(result, Classification) else result.top[0]
        version, client = manifest.version, client_of(request)
        numbers = self.numbers.get(version)
        if numbers is None:
            numbers = self.numbers[version] = {label: i for i, label in enumerate(manifest.labels)}
        label = numbers[best.label]
        result.answer = self.tokens.sign(client, request.id, index, version, label, best.probability, result.unsure)
        features = job.row.get("features")
        sample = None if features is None else Sample(image, job.pixels, features)
        self.drift.note(version, label, best.probability, sample)
        if self.capture is not None:
            self.capture.offer(image, self._kept(request.id, index, client, best, result, manifest))

    def _kept(
        self,
        answer_id: str,
        index: int,
        client: str,
        best: Classification | Prediction,
        result: Classification | Ranking,
        manifest: Manifest,
    ) -> CapturedAnswer:
        name, version, label, unsure = manifest.name, manifest.version, best.label, result.unsure
        now = datetime.now(UTC)
        kept = CapturedAnswer(answer_id, index, client, "", name, version, label, best.probability, unsure, now)
        return msgspec.structs.replace(kept, novelty=result.novelty)

    def close(self) -> None:
        self.drift.close()
        if self.capture is not None:
            self.capture.close()


def client_of(request: Request) -> str:
    """The name of the key that asked, which alone may say more of the answer; nothing without keys."""
    return "" if request.client is None else request.client.name
