"""POST /v1/similar: the images of the index that are most like those sent; and the thumbnails of what it found.

The search runs in a thread of its own, within the deadline and the admission of the request.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from models.package.similar import Neighbour, Similar
from service.api.pipeline import Pipeline
from service.api.question import Question
from service.errors import ClientError, InvalidParameter, UnknownThumbnail
from service.http.request import Reply, Request, Routes
from service.inference.job import Job
from service.inference.postprocess import Row, unit
from service.rollout.loaded import LoadedModel
from service.similar.index import Index, class_of
from service.similar.live import LiveIndex

PATH = "/v1/similar"
THUMBNAILS = PATH + "/thumbnails"
DEFAULT_K, MOST_K = 10, 100
THUMBNAIL = re.compile(r"(0|[1-9][0-9]{0,8})-([0-9a-f]{12})")  # a number in an index, and which index
KEPT = {  # by a browser alone, for a day: the same address is always the same picture; and no other page can show it
    "cache-control": "private, max-age=86400, immutable",
    "cross-origin-resource-policy": "same-origin",
}


class Search(Question):
    """find: a result for each row of features, which takes longer than others can wait in the event loop."""

    def __init__(self, find: Callable[[LoadedModel, list[Row]], Awaitable[Sequence[Similar]]]) -> None:
        super().__init__("features", lambda *_: next(self.found))
        self.find = find
        self.found: Iterator[Similar] = iter(())

    async def settle(self, request: Request, held: LoadedModel, jobs: Sequence[Job | ClientError]) -> None:
        with request.stage("postprocess"):
            self.found = iter(await self.find(held, [job.row[self.output] for job in jobs if isinstance(job, Job)]))


class SimilarApi:
    """live: the index of the live version, if it has one."""

    def __init__(self, pipeline: Pipeline, live: LiveIndex) -> None:
        self.pipeline = pipeline
        self.live = live
        self.pool = ThreadPoolExecutor(1, "search")

    def routes(self) -> Routes:
        return {PATH: ("POST", self.search), THUMBNAILS + "/{thumbnail}": ("GET", self.thumbnail)}

    def describe(self) -> dict[str, object] | None:
        """Of the index, None without one."""
        if (index := self.live.index) is None:
            return None
        manifest = index.manifest
        return {"images": manifest.images, "dimensions": manifest.dimensions, "created": manifest.created}

    def close(self) -> None:
        self.pool.shutdown(wait=False, cancel_futures=True)
        self.live.close()

    async def search(self, request: Request) -> Reply:
        k = parse_k(request.parameters("k").get("k", str(DEFAULT_K)))
        index = self.live.get(self.pipeline.model.manifest)  # before the body is read

        async def find(held: LoadedModel, rows: list[Row]) -> list[Similar]:
            fitting = self.live.get(held.manifest, index)  # another version may have become live meanwhile
            work = partial(find_all, fitting, rows, k)
            return await asyncio.get_running_loop().run_in_executor(self.pool, work)

        return await self.pipeline.answer(request, Search(find))

    async def thumbnail(self, request: Request) -> Reply:
        request.parameters()
        found = THUMBNAIL.fullmatch(request.path.rpartition("/")[2])
        index = self.live.index
        if found is None or index is None or found[2] != index.stamp or int(found[1]) >= index.manifest.images:
            raise UnknownThumbnail(
                "the index in use has no such thumbnail; ask /v1/similar again, as the index may be another now"
            )
        data = await asyncio.get_running_loop().run_in_executor(self.pool, index.thumbnails.__getitem__, int(found[1]))
        return Reply(data, media_type="image/jpeg", headers=KEPT)


def parse_k(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= MOST_K):
        raise InvalidParameter(f"k is {text[:50]!r}, it must be a whole number from 1 to {MOST_K}")
    return int(text)


def find_all(index: Index, rows: list[Row], k: int) -> list[Similar]:
    """The nearest of each row of features."""
    return [Similar(_neighbours(index, row, k)) for row in rows]


def _neighbours(index: Index, features: Row, k: int) -> list[Neighbour]:
    numbers, scores = index.nearest(np.asarray(unit(features), np.float32), k)
    return [_neighbour(index, int(number), float(score)) for number, score in zip(numbers, scores, strict=True)]


def _neighbour(index: Index, number: int, score: float) -> Neighbour:
    name = index.name(number)
    return Neighbour(number, name, class_of(name), round(score, 6), f"{THUMBNAILS}/{number}-{index.stamp}")
