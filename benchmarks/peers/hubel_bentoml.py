"""Hubel with one part changed: batches are made by BentoML's dispatcher instead of service/inference/batcher.py.

CorkDispatcher is what @bentoml.api(batchable=True) puts before a method; it learns how long batches take and waits for
more requests accordingly.
"""

import asyncio
import sys
import time
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
from bentoml._internal.marshal.dispatcher import CorkDispatcher

from models.image.preprocess import Pixels
from service import __main__, app, settings
from service.errors import DeadlineExceeded
from service.inference.batcher import Arrays, Batcher, Compute, Job


def refuse() -> NoReturn:
    """What the dispatcher calls for a request that it gives up."""
    raise DeadlineExceeded("the image waited too long and was not computed")


class DispatchedBatcher(Batcher):
    """Hubel's admission, BentoML's queue, which knows no lanes."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        config = settings.read()
        dispatcher: CorkDispatcher[Job, Arrays] = CorkDispatcher(
            config.deadline_ms, self.max_batch, fallback=refuse, get_batch_size=lambda _: 1
        )
        self.dispatch = dispatcher(self._run_batch)

    async def submit(
        self, pixels: Pixels, outputs: tuple[str, ...], deadline: float, bulk: bool = False, compute: Compute | None = None
    ) -> Job:
        answer = asyncio.get_running_loop().create_future()
        job = Job(pixels, outputs, deadline, answer, time.perf_counter(), compute or self.compute)
        job.answer.set_result(await self.dispatch(job))
        return job

    def _run_batch(self, jobs: Sequence[Job]) -> list[Arrays]:
        """In a thread of the dispatcher's."""
        began = time.perf_counter()
        outputs = tuple(sorted({name for job in jobs for name in job.outputs}))
        arrays = jobs[0].compute(np.stack([job.pixels for job in jobs]), outputs)
        self.observe(len(jobs))
        for job in jobs:
            job.queue_seconds, job.infer_seconds = began - job.queued, time.perf_counter() - began
        return [{name: arrays[name][row] for name in job.outputs} for row, job in enumerate(jobs)]


if __name__ == "__main__":
    app.Batcher = DispatchedBatcher
    sys.exit(__main__.main())
