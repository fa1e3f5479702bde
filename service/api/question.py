"""What a request asks of each of its images: what the network computes for it, and what is said of that."""

from collections.abc import Callable, Sequence
from typing import Any

from models.image.preprocess import Pixels, Placed, preprocess
from models.package.manifest import NOVELTY, Manifest
from service.errors import ClientError
from service.http.request import Request
from service.inference.class_map import LIKELIEST
from service.inference.decode import Work
from service.inference.job import Job
from service.inference.postprocess import Row
from service.monitoring.recorder import Recorder
from service.rollout.loaded import LoadedModel

Finish = Callable[[Row, Manifest, Row | None], Any]  # of the output asked for and of the novelty, where there is one


class Question:
    """output: of the network, that the answer is made of. finish: makes it. draws: whether the answer is a picture."""

    work: Work[Pixels | Placed] = staticmethod(preprocess)  # what an image is decoded to
    draws = False

    def __init__(self, output: str, finish: Finish) -> None:
        self.output = output
        self.finish = finish

    def check(self, images: int) -> None:
        """Raises a ClientError where it cannot be asked of so many images."""

    def outputs(self, recorder: Recorder, manifest: Manifest) -> tuple[str, ...]:
        return recorder.outputs(manifest, self.output)

    def target(self, held: LoadedModel) -> int:
        """The class that is asked about, by the labels of a version; LIKELIEST where there is none. Raises a ClientError."""
        return LIKELIEST

    async def settle(self, request: Request, held: LoadedModel, jobs: Sequence[Job | ClientError]) -> None:
        """What is waited for between network and results."""

    def result(self, job: Job, manifest: Manifest) -> Any:
        return self.finish(job.row[self.output], manifest, job.row.get(NOVELTY))
