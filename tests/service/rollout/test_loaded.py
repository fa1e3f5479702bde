"""What a worker asks: connected to beside, swapped in at once, left when no request needs it, tried again where it fails."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from models.image.preprocess import Pixels
from service.engine.client import KEPT, EngineError
from service.engine.high_water import QUIET_TURNS
from service.inference.job import Job
from service.rollout import loaded as module
from service.rollout.loaded import LoadedModel, LoadedModels
from service.rollout.messages import ActiveCandidate, DesiredState
from tests.factories import make_manifest

PIXELS = np.zeros((2, 2, 3), np.uint8)
TRIAL = ActiveCandidate(2, "canary", 10, datetime(2026, 1, 2, tzinfo=UTC))
ENGINES = {1: "one", 2: "two", 3: "three"}


class Fake:
    """An engine of a few lines, as a front sees it."""

    provider, precision, loaded_at, place = "CPU", "fp32", 0.0, 0

    def __init__(self, version: int, address: str = "") -> None:
        self.address = address or ENGINES[version]
        self.manifest = make_manifest(version=version)
        self.skipped_backends: list[str] = []
        self.unexplained = ""
        self.changed: Callable[[], object] = lambda: None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.upkeeps = self.images = 0
        self.closed = False

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop

    async def submit(
        self, pixels: Pixels, outputs: tuple[str, ...], deadline: float, bulk: bool = False, target: int = -1
    ) -> Job:
        assert self.loop is asyncio.get_running_loop()
        assert not self.closed
        job = Job(pixels, outputs, asyncio.get_running_loop().create_future(), time.perf_counter())
        job.answer.set_result({name: np.full(1, self.manifest.version, np.float32) for name in outputs})
        return job

    async def spare(self, pixels: Pixels, outputs: tuple[str, ...]) -> Job | None:
        return await self.submit(pixels, outputs, 0.0)

    def upkeep(self) -> int:
        self.upkeeps += 1
        return self.images

    def close(self) -> None:
        self.closed = True


class Scene:
    """A worker that begins with version 1. engines: what answers at an address. gate: closed while they load. failures: how
    often connecting fails before it does not.
    """

    def __init__(self) -> None:
        self.first = Fake(1)
        self.engines = {ENGINES[version]: Fake(version) for version in (2, 3)}
        self.gate = threading.Event()
        self.failures = 0
        self.tries: list[str] = []
        self.announced: list[int] = []
        self.loaded = LoadedModels(self.first, self.connect, lambda held: self.announced.append(held.version))
        self.changes = 0
        self.loaded.changed = self.change

    def connect(self, address: str) -> Fake:
        self.tries.append(address)
        assert self.gate.wait(10)
        if self.failures:
            self.failures -= 1
            raise EngineError("its process ended, or was not ready in time")
        return self.engines[address]

    def change(self) -> None:
        self.changes += 1

    def told(self, serve: int, trial: ActiveCandidate | None = None, **engines: str) -> None:
        """engines: where versions are found otherwise, as v2="elsewhere"."""
        found = ENGINES | {int(name[1:]): address for name, address in engines.items()}
        self.loaded.reconcile(DesiredState(serve, found, trial))

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.005)

    async def hold(self) -> LoadedModel:
        """The candidate, connected to."""
        self.gate.set()
        self.told(1, TRIAL)
        await self.until(lambda: 2 in self.loaded.held)
        return self.loaded.held[2]


def play(scenario: Callable[[Scene], Awaitable[Any]]) -> None:
    async def run() -> None:
        scene = Scene()
        try:
            await scenario(scene)
        finally:
            scene.gate.set()

    asyncio.run(run())


async def answer_of(held: LoadedModel) -> float:
    return (await held.engine.submit(PIXELS, ("logits",), 0.0)).row["logits"][0]


def test_a_version_is_connected_to_beside_while_the_other_answers_and_then_takes_its_place() -> None:
    async def scenario(scene: Scene) -> None:
        scene.told(2)
        await asyncio.sleep(0.02)
        assert await answer_of(scene.loaded.serving) == 1
        changes = scene.changes
        scene.gate.set()
        await scene.until(lambda: scene.loaded.serving.version == 2)
        assert await answer_of(scene.loaded.serving) == 2
        assert scene.announced == [1, 2]
        assert scene.changes > changes
        assert scene.loaded.report().serves == 2
        assert list(scene.loaded.held) == [2]
        assert scene.first.closed
        assert scene.tries == ["two"]

    play(scenario)


def test_a_candidate_that_is_connected_to_takes_the_place_of_the_other_at_once() -> None:
    async def scenario(scene: Scene) -> None:
        candidate = await scene.hold()
        scene.told(2)
        assert scene.loaded.serving is candidate
        assert scene.announced == [1, 2]
        assert scene.tries == ["two"]

    play(scenario)


def test_a_request_keeps_the_version_that_it_began_with_until_it_ends() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.hold()
        with scene.loaded.serving.used() as held, scene.loaded.serving.used():
            scene.told(2)
            assert scene.loaded.serving.version == 2
            assert not scene.first.closed
            assert await answer_of(held) == 1
        assert scene.first.closed

    play(scenario)


def test_a_version_is_left_when_nothing_needs_it_any_more() -> None:
    async def scenario(scene: Scene) -> None:
        candidate = await scene.hold()
        with candidate.used():
            scene.told(1)
            assert scene.loaded.trial is None
            assert 2 not in scene.loaded.held
            assert not scene.engines["two"].closed
        assert scene.engines["two"].closed
        assert not scene.first.closed

    play(scenario)


def test_one_that_is_not_wanted_any_more_once_it_is_connected_to_is_left_at_once() -> None:
    async def scenario(scene: Scene) -> None:
        scene.told(1, TRIAL)
        await scene.until(lambda: scene.tries)
        scene.told(3)
        scene.gate.set()
        await scene.until(lambda: scene.loaded.serving.version == 3 and not scene.loaded.connecting)
        assert scene.engines["two"].closed
        assert scene.announced == [1, 3]
        assert list(scene.loaded.held) == [3]

    play(scenario)


def test_a_version_without_an_engine_is_waited_for() -> None:
    async def scenario(scene: Scene) -> None:
        scene.gate.set()
        scene.loaded.reconcile(DesiredState(1, {1: "one"}, TRIAL))
        await asyncio.sleep(0.02)
        assert scene.tries == []
        scene.told(1, TRIAL)
        await scene.until(lambda: scene.loaded.trial is not None)

    play(scenario)


def test_an_engine_that_cannot_be_reached_is_tried_again_while_it_is_wanted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "AGAIN_SECONDS", 0.01)

    async def scenario(scene: Scene) -> None:
        scene.failures = 2
        await scene.hold()
        assert scene.tries == ["two"] * 3
        scene.failures = 10**9
        scene.told(3)
        await scene.until(lambda: "three" in scene.tries)
        scene.told(1)
        await scene.until(lambda: not scene.loaded.connecting)
        tries = len(scene.tries)
        await asyncio.sleep(0.05)
        assert len(scene.tries) == tries
        assert scene.loaded.serving.version == 1

    play(scenario)
    assert "version 2 cannot be asked, it is tried again: its process ended" in caplog.text


def test_an_engine_that_was_replaced_while_it_could_not_be_reached_is_looked_for_where_it_is_now(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "AGAIN_SECONDS", 0.01)

    async def scenario(scene: Scene) -> None:
        scene.gate.set()
        scene.failures = 10**9
        scene.told(1, TRIAL)
        await scene.until(lambda: len(scene.tries) > 1)
        scene.engines["elsewhere"] = Fake(2, "elsewhere")
        scene.told(1, TRIAL, v2="elsewhere")
        scene.failures = 0
        await scene.until(lambda: scene.loaded.trial is not None)
        assert scene.loaded.held[2].engine is scene.engines["elsewhere"]

    play(scenario)


def test_a_candidate_whose_address_changed_is_dropped_and_connected_to_anew() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.hold()
        scene.engines["elsewhere"] = Fake(2, "elsewhere")
        scene.told(1, TRIAL, v2="elsewhere")
        assert scene.engines["two"].closed
        assert scene.loaded.trial is None
        await scene.until(lambda: scene.loaded.trial is not None)
        assert scene.loaded.held[2].engine is scene.engines["elsewhere"]

    play(scenario)


def test_the_live_version_goes_on_until_its_engine_at_another_address_is_connected_to() -> None:
    """As where another version was live between, of which this worker did not hear."""

    async def scenario(scene: Scene) -> None:
        scene.engines["elsewhere"] = Fake(1, "elsewhere")
        scene.told(1, v1="elsewhere")
        assert scene.loaded.serving.engine is scene.first
        assert not scene.first.closed
        scene.gate.set()
        await scene.until(lambda: scene.loaded.serving.engine is scene.engines["elsewhere"])
        assert scene.first.closed
        assert [held.engine for held in scene.loaded.held.values()] == [scene.engines["elsewhere"]]
        scene.told(1, v1="elsewhere")
        assert scene.tries == ["elsewhere"]

    play(scenario)


def test_a_live_version_without_an_address_stays() -> None:
    async def scenario(scene: Scene) -> None:
        scene.loaded.reconcile(DesiredState(1))
        assert scene.loaded.serving.engine is scene.first
        assert not scene.first.closed

    play(scenario)


def test_a_canary_is_on_trial_once_it_is_here_and_not_once_it_is_live() -> None:
    async def scenario(scene: Scene) -> None:
        scene.told(1, TRIAL)
        assert scene.loaded.trial is None
        scene.gate.set()
        await scene.until(lambda: scene.loaded.trial is not None)
        trial = scene.loaded.trial
        assert trial is not None
        assert (trial[0], trial[1].version) == (TRIAL, 2)
        assert scene.loaded.serving.version == 1
        scene.told(2, TRIAL)
        assert scene.loaded.trial is None

    play(scenario)


def test_that_the_live_engine_is_another_is_announced_and_of_a_candidate_it_is_not() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.hold()
        scene.first.changed()
        assert scene.announced == [1, 1]
        scene.engines["two"].changed()
        assert scene.announced == [1, 1]
        scene.told(2)
        scene.engines["two"].changed()
        assert scene.announced == [1, 1, 2, 2]

    play(scenario)


def test_the_heap_is_given_back_once_a_rush_on_all_engines_together_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[int] = []
    monkeypatch.setattr(module, "give_back_heap", lambda: given.append(turn))
    turn = 0

    async def scenario(scene: Scene) -> None:
        nonlocal turn
        await scene.hold()
        for turn in range(20):
            scene.first.images = scene.engines["two"].images = KEPT if turn == 2 else KEPT // 2
            scene.loaded.upkeep()

    play(scenario)
    assert given == [2 + QUIET_TURNS]


def test_all_are_looked_after_and_left_at_the_end() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.hold()
        scene.loaded.upkeep()
        assert (scene.first.upkeeps, scene.engines["two"].upkeeps) == (1, 1)
        scene.loaded.close()
        assert scene.first.closed
        assert scene.engines["two"].closed

    play(scenario)
