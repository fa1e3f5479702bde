"""A candidate beside the live version: who answers, what is compared, what is counted."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from models.image.preprocess import Pixels
from models.image.spec import InputSpec
from models.package.prediction import Classification, Prediction, Ranking
from service.engine.board import Board
from service.engine.client import EngineError
from service.errors import DeadlineExceeded, OutOfMemory
from service.http.request import nothing, parse_head
from service.inference.admission import Admission
from service.inference.class_map import CLASS_MAP
from service.inference.job import Job
from service.rollout.loaded import LoadedModel, LoadedModels
from service.rollout.messages import ActiveCandidate, DesiredState
from service.rollout.traffic import NotFinite, TrafficSplit, check_finite, is_in_share
from tests.factories import make_manifest

STARTED = datetime(2026, 1, 2, tzinfo=UTC)
LARGE = InputSpec(height=8, width=8, resize=8)
SMALL = InputSpec(height=4, width=4, resize=4)


class Fake:
    """The engine of a version that always gives one class, or fails. spared: whether it has time for what nobody waits for."""

    provider, precision, loaded_at, place = "CPU", "fp32", 0.0, 0

    def __init__(self, version: int, **manifest: Any) -> None:
        self.address = str(version)
        self.manifest = make_manifest(version=version, **manifest)
        self.skipped_backends: list[str] = []
        self.unexplained = ""
        self.changed: Callable[[], object] = lambda: None
        self.best = 0
        self.together = 1
        self.spared = True
        self.error: Exception | None = None
        self.shapes: list[tuple[int, ...]] = []

    def attach(self, loop: asyncio.AbstractEventLoop) -> None: ...

    async def submit(
        self, pixels: Pixels, outputs: tuple[str, ...], deadline: float, bulk: bool = False, target: int = -1
    ) -> Job:
        self.shapes.append(pixels.shape)
        if self.error:
            raise self.error
        logits = np.zeros(len(self.manifest.labels), np.float32)
        logits[self.best] = 5
        job = Job(pixels, outputs, asyncio.get_running_loop().create_future(), time.perf_counter(), 0.0, 0.01, self.together)
        job.answer.set_result({"logits": logits})
        return job

    async def spare(self, pixels: Pixels, outputs: tuple[str, ...]) -> Job | None:
        return await self.submit(pixels, outputs, math.inf) if self.spared else None

    def upkeep(self) -> int:
        return 0

    def close(self) -> None: ...


class Scene:
    """Version 1 live and 2 a candidate."""

    def __init__(self, mode: Any, percent: float = 100, **manifest: Any) -> None:
        self.old, self.new = Fake(1, input=SMALL), Fake(2, **({"input": SMALL} | manifest))
        self.desired = DesiredState(1, {1: "1", 2: "2"}, ActiveCandidate(2, mode, percent, STARTED))
        self.decoded: list[InputSpec] = []
        self.board = Board.make()

    async def begin(self) -> None:
        self.loaded = LoadedModels(self.old, lambda address: self.new, lambda held: None)
        self.admission = Admission(self.board, lambda: self.board.engine(0), max_batch=4, max_queue=10, fronts=2)
        self.traffic = TrafficSplit(self.loaded, self.admission, self.decode)
        self.loaded.reconcile(self.desired)
        async with asyncio.timeout(10):
            while self.loaded.trial is None:
                await asyncio.sleep(0.005)

    async def decode(self, image: bytes, spec: InputSpec) -> Pixels:
        self.decoded.append(spec)
        return np.zeros((spec.height, spec.width, 3), np.uint8)

    async def compute(self, held: LoadedModel) -> Job:
        spec = held.manifest.input
        pixels = np.zeros((spec.height, spec.width, 3), np.uint8)
        return await held.engine.submit(pixels, ("logits",), math.inf)

    async def compare(self, held: LoadedModel, key: str = "a") -> None:
        """Answer an image by a version, and have it compared."""
        job = await self.compute(held)
        self.traffic.compare(key, held, b"image", job)
        if self.traffic.comparing:
            await self.traffic.comparing

    @property
    def candidate(self) -> LoadedModel:
        return self.loaded.held[2]


def play(scene: Scene, scenario: Callable[[Scene], Awaitable[Any]]) -> None:
    async def timed() -> None:
        async with asyncio.timeout(20):
            await scene.begin()
            await scenario(scene)

    asyncio.run(timed())


def test_a_canary_answers_its_share_and_the_same_keys_each_time() -> None:
    async def scenario(scene: Scene) -> None:
        keys = [f"request-{number}" for number in range(2000)]
        chosen = [scene.traffic.choose(key, "logits").version for key in keys]
        assert 0.08 < chosen.count(2) / len(keys) < 0.12
        assert chosen == [scene.traffic.choose(key, "logits").version for key in keys]
        assert {scene.traffic.choose(key, "features").version for key in keys} == {1}
        explained = [scene.traffic.choose(key, CLASS_MAP).version for key in keys]
        assert explained == [scene.traffic.choose(key, "logits").version for key in keys]  # as who explains an answer has it

    play(Scene("canary", 10), scenario)


def test_a_client_without_a_key_cannot_choose_by_its_request_id_whether_it_meets_the_canary() -> None:
    async def scenario(scene: Scene) -> None:
        headers = [(b"x-request-id", b"mine.42")]
        scope = {"method": "POST", "path": "/v1/classify", "query_string": b"", "headers": headers}
        requests = [parse_head(scope, nothing) for _ in range(1500)]
        assert {request.given for request in requests} == {"mine.42"}
        chosen = [scene.traffic.choose(request.key(), "logits").version for request in requests]
        assert 0.15 < chosen.count(2) / len(requests) < 0.25
        assert chosen == [scene.traffic.choose(request.key(), "logits").version for request in requests]

    play(Scene("canary", 20), scenario)


def test_other_keys_meet_the_next_candidate() -> None:
    keys = [str(number) for number in range(2000)]
    first, second = ({key for key in keys if is_in_share(key, version, 10)} for version in (2, 3))
    assert len(first & second) < 0.25 * len(first)
    assert not any(is_in_share(key, 2, 0) for key in keys)
    assert all(is_in_share(key, 2, 100) for key in keys)


def test_a_shadow_answers_nobody_and_is_compared_on_what_the_other_answered() -> None:
    async def scenario(scene: Scene) -> None:
        assert {scene.traffic.choose(str(number), "logits").version for number in range(100)} == {1}
        await scene.compare(scene.loaded.serving)
        scene.new.best = 1
        await scene.compare(scene.loaded.serving)
        seen = scene.traffic.progress()
        assert seen is not None
        assert (seen.compared, seen.agreed, seen.incomparable) == (2, 1, 0)
        for tally in (seen.candidate, seen.in_service):
            assert (tally.requests, tally.errors, tally.images, sum(tally.latency)) == (2, 0, 2, 2)
        assert seen.candidate.confidence == pytest.approx(seen.in_service.confidence)

    play(Scene("shadow"), scenario)


def test_a_shadow_takes_its_share_alone() -> None:
    async def scenario(scene: Scene) -> None:
        for number in range(60):
            await scene.compare(scene.loaded.serving, key=str(number))
        seen = scene.traffic.progress()
        assert seen is not None
        assert 0 < seen.compared < 40

    play(Scene("shadow", percent=30), scenario)


def test_what_a_canary_answered_is_computed_by_the_other_too() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.compare(scene.candidate)
        await scene.compare(scene.loaded.serving)  # of these there are enough
        seen = scene.traffic.progress()
        assert seen is not None
        assert (seen.compared, seen.agreed) == (1, 1)
        assert seen.candidate.requests == seen.in_service.requests == 0  # which are counted as they are answered

    play(Scene("canary"), scenario)


def test_another_input_is_decoded_for() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.compare(scene.loaded.serving)
        assert scene.decoded == [LARGE]
        assert scene.new.shapes == [(8, 8, 3)]
        assert scene.old.shapes == [(4, 4, 3)]

    play(Scene("shadow", input=LARGE), scenario)


@pytest.mark.parametrize("mode", ["shadow", "canary"])
def test_a_class_that_the_candidate_has_more_cannot_be_compared(mode: str) -> None:
    async def scenario(scene: Scene) -> None:
        scene.new.best = 3
        await scene.compare(scene.loaded.serving if mode == "shadow" else scene.candidate)
        seen = scene.traffic.progress()
        assert seen is not None
        assert (seen.compared, seen.agreed, seen.incomparable) == (0, 0, 1)

    play(Scene(mode, labels=["red", "green", "blue", "violet"]), scenario)


@pytest.mark.parametrize("mode", ["shadow", "canary"])
def test_a_class_that_the_candidate_lacks_is_disagreement(mode: str) -> None:
    async def scenario(scene: Scene) -> None:
        await scene.compare(scene.loaded.serving if mode == "shadow" else scene.candidate)
        seen = scene.traffic.progress()
        assert seen is not None
        assert (seen.compared, seen.agreed, seen.incomparable) == (1, 0, 0)

    play(Scene(mode, labels=["green", "blue"]), scenario)


@pytest.mark.parametrize("where", ["here", "in another front", "in an engine", "too little time ago"])
def test_nothing_is_compared_while_there_is_work_anywhere_or_right_after(where: str) -> None:
    async def scenario(scene: Scene) -> None:
        job = await scene.compute(scene.loaded.serving)
        with scene.admission.admit(int(where == "here")):
            if where == "in another front":
                scene.board.numbers(0)[1] = 1
            if where == "in an engine":
                scene.board.engine(1).begin(time.perf_counter())
            if where == "too little time ago":
                scene.board.engine(0).end(0.01, spare_from=math.inf)
            scene.traffic.compare("a", scene.loaded.serving, b"", job)
            assert scene.traffic.comparing is None
        assert scene.new.shapes == []
        for place in (0, 1):
            scene.board.engine(place).clear()
        scene.board.forget(1)
        await scene.compare(scene.loaded.serving)
        assert len(scene.new.shapes) == 1

    play(Scene("shadow"), scenario)


def test_what_the_engine_has_no_time_for_is_not_compared() -> None:
    async def scenario(scene: Scene) -> None:
        scene.new.spared = False
        await scene.compare(scene.loaded.serving)
        seen = scene.traffic.progress()
        assert seen is not None
        assert (seen.compared, seen.incomparable, seen.candidate.requests, seen.candidate.errors) == (0, 0, 0, 0)

    play(Scene("shadow"), scenario)


def test_the_time_of_an_image_that_was_computed_with_others_is_not_compared() -> None:
    async def scenario(scene: Scene) -> None:
        scene.old.together = 3
        await scene.compare(scene.loaded.serving)
        seen = scene.traffic.progress()
        assert seen is not None
        assert (seen.compared, seen.candidate.requests) == (1, 1)
        assert sum(seen.candidate.latency) == sum(seen.in_service.latency) == 0

    play(Scene("shadow"), scenario)


@pytest.mark.parametrize(
    "error", [RuntimeError("broken"), EngineError("its process is gone")], ids=lambda err: type(err).__name__
)
def test_a_shadow_that_fails_is_counted_and_nothing_else_happens(error: Exception) -> None:
    async def scenario(scene: Scene) -> None:
        scene.new.error = error
        await scene.compare(scene.loaded.serving)
        seen = scene.traffic.progress()
        assert seen is not None
        assert (seen.candidate.requests, seen.candidate.errors, seen.in_service.errors) == (1, 1, 0)

    play(Scene("shadow"), scenario)


def test_a_canary_s_faults_are_its_own_and_the_caller_s_are_not() -> None:
    async def scenario(scene: Scene) -> None:
        assert scene.traffic.is_fault(scene.candidate, RuntimeError("broken"))
        assert scene.traffic.is_fault(scene.candidate, OutOfMemory("full"))
        assert scene.traffic.is_fault(scene.candidate, EngineError("2 engines died while they computed this image"))
        assert scene.traffic.is_fault(scene.loaded.serving, RuntimeError("broken"))
        assert not scene.traffic.is_fault(scene.candidate, DeadlineExceeded("late"))
        seen = scene.traffic.progress()
        assert seen is not None
        assert (seen.candidate.errors, seen.in_service.errors) == (3, 1)

    play(Scene("canary"), scenario)


def test_answers_are_counted_for_their_version_and_reported_once() -> None:
    async def scenario(scene: Scene) -> None:
        ranking = Ranking([Prediction("red", 0.4), Prediction("blue", 0.3)], True)
        scene.traffic.note(scene.candidate, [Classification("red", 0.9, False), ranking], 0.02)
        scene.traffic.note(scene.loaded.serving, [Classification("red", 0.8, False)], 0.01)
        seen = scene.traffic.progress()
        assert seen is not None
        new, old = seen.candidate, seen.in_service
        assert (new.requests, new.images, new.unsure, new.confidence) == (1, 2, 1, pytest.approx(1.3))
        assert (old.requests, old.images, old.unsure) == (1, 1, 0)
        assert new.latency.index(1) > old.latency.index(1)
        scene.traffic.reported()
        again = scene.traffic.progress()
        assert again is not None
        assert again.candidate.requests == 0

    play(Scene("canary"), scenario)


def test_without_a_candidate_nothing_is_counted() -> None:
    async def scenario(scene: Scene) -> None:
        scene.loaded.reconcile(DesiredState(1))
        assert scene.traffic.progress() is None
        await scene.compare(scene.loaded.serving)
        scene.traffic.note(scene.loaded.serving, [Classification("red", 0.8, False)], 0.01)
        assert scene.traffic.progress() is None

    play(Scene("shadow"), scenario)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_logits_that_are_no_numbers_are_found(bad: float) -> None:
    check_finite([np.zeros(3, np.float32)])
    with pytest.raises(NotFinite):
        check_finite([np.zeros(3, np.float32), np.array([0, bad], np.float32)])
