"""A session for each size of batch, run as if they were one.

ONNX Runtime's CUDA provider plans every convolution anew whenever a batch has another size than the one before, also a size
that it has seen. A session that only ever gets one size plans once.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.image.preprocess import Pixels
from models.package.manifest import OUTPUTS
from service.inference.backends import pinned
from service.inference.backends.opening import Session, first_line

Compute = Callable[[Pixels], NDArray[np.float32]]  # logits of any number of images
log = logging.getLogger("hubel")


class SizedSessions:
    """A batch is filled up to the next size, one larger than the largest is split. For one thread.

    sizes: ascending. shape: (height, width, 3) of an image. open_one: opens the session of a size, with a CUDA graph or without.
    check: raises where what it is given does not compute as it should. plain: sizes whose session has no CUDA graph, as that
    failed.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        shape: Sequence[int],
        open_one: Callable[[int, bool], Session],
        check: Callable[[Compute], object],
    ) -> None:
        self.sizes = sizes
        self.open_one = open_one
        self.check = check
        self.images = pinned.zeros((sizes[-1], *shape))
        self.sessions: dict[int, Session] = {}
        self.plain: list[int] = []

    def open(self, size: int) -> None:
        """Open the session of a size and have it compute. Once a CUDA graph has failed, none is tried for the sizes after it."""
        if not self.plain:
            try:
                self._open(size, graph=True)
                return
            except Exception as err:  # ONNX Runtime's own classes share no base
                reason = first_line(err)
                self.sessions.pop(size, None)
            log.warning("batches of %d images and more are computed without a CUDA graph: %s", size, reason)
        self.plain.append(size)
        self._open(size, graph=False)

    def _open(self, size: int, graph: bool) -> None:
        self.sessions[size] = self.open_one(size, graph)
        self.run_at(size, OUTPUTS[:2], self.images[:size])
        self.check(lambda images: self.run_at(size, OUTPUTS[:1], images)[0])

    def run(self, output_names: Sequence[str], input_feed: dict[str, Pixels], /) -> list[Any]:
        """As onnxruntime.InferenceSession.run."""
        images = input_feed["images"]
        size = next((size for size in self.sizes if size >= len(images)), self.sizes[-1])
        return self.run_at(size, output_names, images)

    def run_at(self, size: int, outputs: Sequence[str], images: Pixels) -> list[Any]:
        """Compute all of them in batches of ``size``."""
        parts = [self._run(size, outputs, images[i : i + size]) for i in range(0, max(1, len(images)), size)]
        return parts[0] if len(parts) == 1 else [np.concatenate(rows) for rows in zip(*parts, strict=True)]

    def _run(self, size: int, outputs: Sequence[str], images: Pixels) -> list[Any]:
        batch = self.images[:size]
        if images.ctypes.data != batch.ctypes.data:  # put there by who made the batch
            batch[: len(images)] = images
        values = self.sessions[size].run(list(outputs), {"images": batch})
        return [np.asarray(value)[: len(images)] for value in values]
