"""The requests about an answer that was given: what it should have been, and that what is kept of it be deleted.

Neighbours: feedback.py knows what feedback means, keep.py deletes; app.py puts them on their paths.
"""

import asyncio
from concurrent.futures import Executor

from models import kept
from service import feedback, metrics
from service.aftermath import client_of
from service.edge import Reply, Request, Routes, describe, reply_json
from service.errors import ClientError, RequestTimeout, UnknownAnswer
from service.feedback import Verdicts
from service.keep import Keeper
from service.read import Buffer, read_body
from service.schemas import Deletion, Failure

PATH = "/v1/feedback"
LESS = "fewer feedbacks in one request"


class FeedbackApi:
    """keeper: where images are kept, if they are. pool: whose threads delete files."""

    def __init__(
        self, verdicts: Verdicts, keeper: Keeper | None, bodies: Buffer, pool: Executor, max_body_bytes: int, deadline_ms: int
    ) -> None:
        self.verdicts = verdicts
        self.keeper = keeper
        self.bodies = bodies
        self.pool = pool
        self.max_body_bytes = max_body_bytes
        self.deadline_ms = deadline_ms

    def routes(self) -> Routes:
        return {PATH: ("POST", self.take), PATH + "/{request_id}": ("DELETE", self.delete)}

    async def take(self, request: Request) -> Reply:
        """Of several feedbacks, a bad one fails alone."""
        request.parameters()
        feedback.check_type(request.headers.get("content-type", ""))
        given = feedback.parse(await self.read(request))
        request.charge(len(given), "feedbacks")
        if len(given) == 1:
            return reply_json({"results": [self.verdicts.take(client_of(request), given[0])]})
        results: list[object] = []
        for one in given:
            try:
                results.append(self.verdicts.take(client_of(request), one))
            except ClientError as err:
                metrics.REJECTIONS.labels(err.code).inc()
                results.append(Failure(describe(err)))
        return reply_json({"results": results})

    async def read(self, request: Request) -> bytes:
        try:
            async with asyncio.timeout(self.deadline_ms / 1000):
                with self.bodies.share() as share:
                    return await read_body(request.receive, request.headers, self.max_body_bytes, share, LESS)
        except TimeoutError as err:
            raise RequestTimeout(
                f"the body did not arrive within {self.deadline_ms} ms (HUBEL_DEADLINE_MS); send it faster, or {LESS}"
            ) from err

    async def delete(self, request: Request) -> Reply:
        request.parameters()
        request_id, client = request.path.rpartition("/")[2], client_of(request)
        if self.keeper is None:
            raise UnknownAnswer(
                "no image is kept here: HUBEL_FEEDBACK_DIR is not set, or could not be written to when this process started"
            )
        deleted = 0
        if kept.REQUEST_ID.fullmatch(request_id):
            deleted = await asyncio.get_running_loop().run_in_executor(self.pool, self.keeper.delete, client, request_id)
        if not deleted:
            raise UnknownAnswer(
                f"nothing is kept here of the request {request_id[:64]!r} for you; it may have been removed already, or never "
                "kept, or be kept by another service behind the same address: ask the one that answered, with the key that asked"
            )
        return reply_json(Deletion(request_id, deleted))
