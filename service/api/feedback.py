"""The requests about an answer that was given: what it should have been, and that what is kept of it be deleted.

Both run in a thread of their own, so that no disk keeps the event loop or the threads that decode.
"""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from service.api.schemas import Failure
from service.errors import BodyTooLarge, ClientError, DeadlineExceeded, Overloaded, RequestTimeout, UnknownAnswer
from service.http.body import BodyBudget, Lease, read_body
from service.http.problems import describe
from service.http.request import Reply, Request, Routes, json_response
from service.monitoring import feedback_json
from service.monitoring.capture import PENDING_SECONDS, Capture
from service.monitoring.feedback import FeedbackIntake
from service.monitoring.feedback_json import Deletion, FeedbackResult
from service.monitoring.recorder import client_of
from service.telemetry import metrics

PATH = "/v1/feedback"
LESS = "fewer feedbacks in one request"
MAX_BYTES = 256 * 1024  # of the most feedbacks, with long labels written as escapes, twice; they are parsed in the event loop
WAITING = 16  # requests; the most feedbacks take some milliseconds, so who waits is answered within a tenth of a second
REST_SECONDS = 0.05  # the thread rests between two requests for as long as the first took, at most so long: others compute too
T = TypeVar("T")


class Line:
    """Work in a thread of its own, one piece after another. limit: pieces that wait or run."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.pieces = 0
        self.lock = threading.Lock()  # of the number, which both sides change
        self.free = 0.0  # when it has rested, time.monotonic
        self.pool = ThreadPoolExecutor(1, "feedback")

    def check(self) -> None:
        """Raises Overloaded where one more would be too many."""
        if self.pieces >= self.limit:
            raise Overloaded(
                f"{self.pieces} requests with feedback or deletions are waiting, the limit is {self.limit}; try again in 1 s",
                1,
            )

    async def run(self, work: Callable[[], T]) -> T:
        """Raises Overloaded, and what the work raises."""
        self.check()
        with self.lock:
            self.pieces += 1
        future = self.pool.submit(self._run, work)
        future.add_done_callback(self._done)
        return await asyncio.wrap_future(future)

    def _run(self, work: Callable[[], T]) -> T:
        time.sleep(max(0.0, self.free - time.monotonic()))
        began = time.monotonic()
        try:
            return work()
        finally:
            ended = time.monotonic()
            self.free = ended + min(REST_SECONDS, ended - began)

    def _done(self, _: "Future[T]") -> None:
        with self.lock:
            self.pieces -= 1

    def close(self) -> None:
        self.pool.shutdown(wait=False, cancel_futures=True)


class FeedbackApi:
    """capture: where images are kept, if they are. max_images: of a request that asked for answers."""

    def __init__(
        self,
        intake: FeedbackIntake,
        capture: Capture | None,
        bodies: BodyBudget,
        max_images: int,
        max_body_bytes: int,
        deadline_ms: int,
    ) -> None:
        self.intake = intake
        self.capture = capture
        self.bodies = bodies
        self.max_images = max_images
        self.max_body_bytes = max_body_bytes
        self.deadline_ms = deadline_ms
        self.line = Line(WAITING)

    def routes(self) -> Routes:
        return {PATH: ("POST", self.take), PATH + "/{answer}": ("DELETE", self.delete)}

    def check_load(self) -> None:
        """Raises Overloaded where one more request would be too many."""
        self.line.check()

    def close(self) -> None:
        self.line.close()

    async def take(self, request: Request) -> Reply:
        """Of several feedbacks, a bad one fails alone."""
        self.check_load()
        request.parameters()
        feedback_json.check_type(request.headers.get("content-type", ""))
        with self.bodies.share() as share:
            given = feedback_json.parse(await self.read(request, share))
            request.charge(len(given), "feedbacks")
            client = client_of(request)
            return await self.wait_for(lambda: answer(self.intake.take(client, given)))

    async def wait_for(self, work: Callable[[], T]) -> T:
        """What the thread makes of it, within the deadline."""
        try:
            async with asyncio.timeout(self.deadline_ms / 1000):
                return await self.line.run(work)
        except TimeoutError as err:
            raise DeadlineExceeded(
                f"no answer within {self.deadline_ms} ms (HUBEL_DEADLINE_MS): the requests before it take long, or the disk "
                "with the kept images (HUBEL_FEEDBACK_DIR) does; what was asked for may be done or not; try again later"
            ) from err

    async def read(self, request: Request, share: Lease) -> bytes:
        limit = min(self.max_body_bytes, MAX_BYTES)
        try:
            async with asyncio.timeout(self.deadline_ms / 1000):
                body = await read_body(request.receive, request.headers, limit, share, LESS)
                request.size = len(body)
                return body
        except BodyTooLarge as err:
            if limit == self.max_body_bytes:
                raise
            raise BodyTooLarge(f"the body has more than {limit} bytes, the limit for feedback; send {LESS}") from err
        except TimeoutError as err:
            raise RequestTimeout(
                f"the body did not arrive within {self.deadline_ms} ms (HUBEL_DEADLINE_MS); send it faster, or {LESS}"
            ) from err

    async def delete(self, request: Request) -> Reply:
        self.check_load()
        request.parameters()
        token, client = request.path.rpartition("/")[2], client_of(request)
        answer = self.intake.tokens.verify(client, token)
        if self.capture is None:
            raise UnknownAnswer(
                "no image is kept here: HUBEL_FEEDBACK_DIR is not set, or could not be written to when this process started"
            )
        capture, asked, given = self.capture, time.monotonic(), answer.is_recent(PENDING_SECONDS)
        deleted = await self.wait_for(lambda: capture.delete(client, answer.id, asked, self.max_images, given))
        if not deleted:
            raise UnknownAnswer(
                "nothing is kept of the answer's request, by this service or in its folder: it may have been removed already, "
                "never kept, or be kept by a service with another HUBEL_FEEDBACK_DIR: ask the one that answered"
            )
        return json_response(Deletion(deleted))


def answer(results: Sequence[FeedbackResult | ClientError]) -> Reply:
    """Of one feedback what came of it; of several each, with what was refused in its place. Raises ClientError."""
    if len(results) == 1 and isinstance(results[0], ClientError):
        raise results[0]
    for code, n in Counter(result.code for result in results if isinstance(result, ClientError)).items():
        metrics.REJECTIONS.labels(code).inc(n)
    return json_response({"results": [Failure(describe(one)) if isinstance(one, ClientError) else one for one in results]})
