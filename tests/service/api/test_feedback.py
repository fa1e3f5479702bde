"""service/api/feedback.py: what waits does not keep the event loop, is bounded in number and time, and gives its place back."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Generator, MutableMapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import pytest

from models.captures import captured
from service.api.feedback import MAX_BYTES, WAITING, FeedbackApi, Line
from service.errors import BodyTooLarge, ClientError, DeadlineExceeded, HubelError, InvalidAnswer, Overloaded
from service.http.body import BodyBudget
from service.http.request import Request
from service.monitoring.answer_token import AnswerTokens
from service.monitoring.capture import Bounds, Capture
from service.monitoring.feedback import FeedbackIntake
from service.monitoring.feedback_json import FeedbackResult

TOKENS = AnswerTokens([b"k" * 32], "m", 86_400)
R1 = TOKENS.sign("", "01" * 16, 0, 1, 1, 0.5, False)
OTHERS = AnswerTokens([b"x" * 32], "m", 86_400).sign("", "01" * 16, 0, 1, 1, 0.5, False)
BOUNDS = Bounds(images=10, seconds=1000, bytes=10**6, share=1, wait=100)


def request(body: bytes = b"", path: str = "/v1/feedback") -> Request:
    sent = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> MutableMapping[str, Any]:
        return sent.pop()

    return Request("POST", path, "", {"content-type": "application/json"}, receive, "id")


def ask(*answers: str) -> Request:
    return request(json.dumps([{"answer": answer, "wrong": True} for answer in answers]).encode())


class Slow(FeedbackIntake):
    """Takes until it is told to go on."""

    def __init__(self) -> None:
        super().__init__(TOKENS, lambda version: ("a", "b"), lambda version, right, replaced=False: None)
        self.go_on = threading.Event()

    def take(self, client: str, feedbacks: Any) -> list[FeedbackResult | ClientError]:
        self.go_on.wait(20)
        return super().take(client, feedbacks)


@contextmanager
def serving(intake: FeedbackIntake, capture: Capture | None = None, deadline_ms: int = 10_000) -> Generator[FeedbackApi]:
    api = FeedbackApi(intake, capture, BodyBudget(10**7), 32, 10**7, deadline_ms)
    try:
        yield api
    finally:
        api.close()


async def outcome(api: FeedbackApi, what: Request) -> HubelError | bytes:
    try:
        return (await (api.take(what) if what.path == "/v1/feedback" else api.delete(what))).body
    except HubelError as err:
        return err


def test_while_feedback_waits_the_loop_goes_on_and_more_than_the_limit_is_refused_at_once() -> None:
    intake = Slow()

    async def run(api: FeedbackApi) -> list[HubelError | bytes]:
        waiting = [asyncio.create_task(outcome(api, ask(R1, OTHERS))) for _ in range(WAITING)]
        for _ in range(100):  # the loop turns
            await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        for path in ("/v1/feedback", f"/v1/feedback/{R1}"):
            refused = await outcome(api, request(b"{}", path))
            assert isinstance(refused, Overloaded)
            assert "16 requests with feedback or deletions are waiting, the limit is 16" in str(refused)
        intake.go_on.set()
        return await asyncio.gather(*waiting)

    with serving(intake) as api:
        for found in asyncio.run(run(api)):
            results = json.loads(cast(bytes, found))["results"]
            assert results[0]["label"] == "b"
            assert results[1]["error"]["code"] == "invalid_answer"
        assert api.line.pieces == 0
        api.check_load()


def test_what_takes_longer_than_the_deadline_is_told_so_and_leaves_its_place_when_it_ends() -> None:
    intake = Slow()

    async def run(api: FeedbackApi) -> None:
        found = await asyncio.gather(*(outcome(api, ask(OTHERS)) for _ in range(3)))
        assert [type(one) for one in found] == [DeadlineExceeded] * 3
        assert api.line.pieces == 1  # those that had not begun are gone
        intake.go_on.set()
        until = time.monotonic() + 5
        while api.line.pieces and time.monotonic() < until:
            await asyncio.sleep(0.01)
        assert api.line.pieces == 0
        assert isinstance(await outcome(api, ask(OTHERS)), InvalidAnswer)

    with serving(intake, deadline_ms=150) as api:
        asyncio.run(run(api))


def test_after_much_work_the_thread_rests_for_as_long() -> None:
    line = Line(4)
    began: list[float] = []

    def work() -> None:
        began.append(time.monotonic())
        time.sleep(0.03)

    async def run() -> None:
        await asyncio.gather(*(line.run(work) for _ in range(3)))

    asyncio.run(run())
    line.close()
    assert min(later - earlier for earlier, later in pairwise(began)) >= 0.06


@pytest.mark.parametrize(("size", "refused"), [(MAX_BYTES - 100, InvalidAnswer), (MAX_BYTES + 1, BodyTooLarge)])
def test_a_body_that_would_keep_the_loop_is_refused(size: int, refused: type[HubelError]) -> None:
    body = b'{"answer": "r1", "wrong": true' + b" " * (size - 31) + b"}"
    with serving(Slow()) as api:
        cast(Slow, api.intake).go_on.set()
        found = asyncio.run(outcome(api, request(body)))
    assert type(found) is refused
    assert refused is InvalidAnswer or f"more than {MAX_BYTES} bytes, the limit for feedback" in str(found)


def test_a_folder_that_is_gone_is_told_and_one_that_comes_back_is_used(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    captured.prepare(folder)
    capture, intake = Capture(folder, BOUNDS), Slow()
    intake.go_on.set()
    intake.capture = capture
    folder.rename(tmp_path / "away")

    def codes(api: FeedbackApi) -> list[str]:
        asked: list[Callable[[], Request]] = [
            lambda: request(path=f"/v1/feedback/{R1}"),
            lambda: request(path=f"/v1/feedback/{OTHERS}"),
            lambda: ask(R1),
            lambda: ask(OTHERS),
        ]
        found = [asyncio.run(outcome(api, make())) for make in asked]
        return [one.code if isinstance(one, HubelError) else "taken" for one in found]

    with serving(intake, capture) as api:
        assert codes(api) == ["kept_unavailable", "invalid_answer", "taken", "invalid_answer"]
        (tmp_path / "away").rename(folder)
        assert codes(api) == ["unknown_answer", "invalid_answer", "taken", "invalid_answer"]
    capture.close()
