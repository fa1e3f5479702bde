"""One image on its way through the network, as the front sees it that has decoded it."""

import asyncio
from dataclasses import dataclass

from models.image.preprocess import Pixels, Placed
from service.inference.batcher import Arrays
from service.inference.class_map import LIKELIEST


@dataclass(eq=False)
class Job:
    """pixels (height, width, 3) uint8; times in seconds of time.perf_counter. together: images in the pass that computed it,
    it among them; began: when that did, the same for all of them. answer: one row of each output; None where it was spare work,
    and there was no time for it. target: the class of a class map. placed: where its pixels are in the image, where that was
    asked for.
    """

    pixels: Pixels
    outputs: tuple[str, ...]
    answer: asyncio.Future[Arrays | None]
    queued: float
    queue_seconds: float = 0.0
    infer_seconds: float = 0.0
    together: int = 0
    began: float = 0.0
    target: int = LIKELIEST
    placed: Placed | None = None

    @property
    def row(self) -> Arrays:
        """What was computed; raises why it was not."""
        found = self.answer.result()
        assert found is not None, "it was not computed"
        return found
