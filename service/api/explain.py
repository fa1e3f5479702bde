"""POST /v1/explain: which places of an image speak for a class, as numbers or as a picture."""

import math
from collections.abc import Iterator

from models.image.preprocess import Box, Pixels, Placed, place
from models.package.manifest import Manifest
from models.package.prediction import Explanation
from models.terminal.table import printable
from service.api.question import Question
from service.errors import InvalidParameter, NotExplainable, TooManyImages
from service.inference import heat
from service.inference.class_map import CLASS_MAP, LIKELIEST
from service.inference.decode import Work
from service.inference.job import Job
from service.inference.postprocess import explain
from service.inference.results import Encoding
from service.monitoring.recorder import Recorder
from service.rollout.loaded import LoadedModel

PATH = "/v1/explain"
JSON_NAMES, PNG_NAMES = (("*/*", "application/*", "application/json"), ("*/*", "image/*", "image/png"))
MOST_NAMED = 50  # media types of an Accept header that are looked at


class Explain(Question):
    """target: the class that was named, as the query has it; None: the answer. draws: the answer is to be a picture."""

    work: Work[Pixels | Placed] = staticmethod(place)

    def __init__(self, named: str | None, encoding: Encoding, draws: bool) -> None:
        self.output = CLASS_MAP
        self.named = named
        self.encoding: Encoding = encoding
        self.draws = draws

    def check(self, images: int) -> None:
        if self.draws and images > 1:
            raise TooManyImages(
                f"{images} images were sent, a picture (Accept: image/png) shows one: send one, or ask for application/json"
            )

    def outputs(self, recorder: Recorder, manifest: Manifest) -> tuple[str, ...]:
        return CLASS_MAP, "logits"

    def target(self, held: LoadedModel) -> int:
        if held.engine.unexplained:
            raise NotExplainable(f"{held.manifest.id} cannot be explained: {held.engine.unexplained}")
        return LIKELIEST if self.named is None else index_of(self.named, held.manifest)

    def result(self, job: Job, manifest: Manifest) -> Explanation:
        target = None if job.target == LIKELIEST else job.target
        return explain(job.row["logits"], job.row[CLASS_MAP], manifest, target, placed(job), self.encoding)

    def draw(self, picture: Pixels, job: Job) -> bytes:
        """A PNG of the whole image (height, width, 3) uint8 with the map over it; takes about a tenth of a second."""
        where = placed(job)
        across, down = picture.shape[1] / where.width, picture.shape[0] / where.height
        seen = where.seen
        box = Box(seen.x * across, seen.y * down, seen.width * across, seen.height * down)
        return heat.png(picture, job.row[CLASS_MAP], box)


def placed(job: Job) -> Placed:
    assert job.placed is not None
    return job.placed


def index_of(named: str, manifest: Manifest) -> int:
    """The class of a label, or of an index where no label is called so."""
    labels = manifest.labels
    if named in labels:
        return labels.index(named)
    if named.isascii() and named.isdigit() and len(named) < 10 and int(named) < len(labels):
        return int(named)
    raise InvalidParameter(
        f"class is {printable(named)[:50]!r}, it must be a label of {manifest.id}, as /v1/models spells it, or its index, from 0 "
        f"to {len(labels) - 1}"
    )


def wants_picture(accept: str) -> bool:
    """Whether an Accept header (RFC 9110, 12.5.1) asks for PNG rather than JSON: with more weight, or by a closer name."""
    weights = dict(_weights(accept))
    json, png = (
        max(((weights[name], close) for close, name in enumerate(names) if name in weights), default=(0.0, 0))
        for names in (JSON_NAMES, PNG_NAMES)
    )
    return png > json


def _weights(accept: str) -> Iterator[tuple[str, float]]:
    for part in accept.split(",")[:MOST_NAMED]:
        name, *parameters = (word.strip().lower() for word in part.split(";"))
        weight = next((word[2:] for word in parameters if word.startswith("q=")), "1")
        try:
            number = float(weight)
        except ValueError:
            continue
        if 0 < number <= 1 and math.isfinite(number):
            yield name, number
