"""What a worker holds: loaded beside, swapped in at once, freed when no request needs it, refused with its reason."""

import asyncio
import os
import signal
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from models.image.preprocess import Pixels
from service.engine.client import EngineError
from service.inference.batcher import Arrays
from service.rollout.loaded import LoadedModel, LoadedModels
from service.rollout.messages import ActiveCandidate, DesiredState
from tests.factories import make_manifest

PIXELS = np.zeros((1, 2, 2, 3), np.uint8)
TRIAL = ActiveCandidate(2, "canary", 10, datetime(2026, 1, 2, tzinfo=UTC))


class Fake:
    """A version of a few lines; it loads when the gate is open, unless it is ``bad``."""

    provider, precision = "CPU", "fp32"

    def __init__(self, version: int, bad: str = "") -> None:
        self.manifest = make_manifest(version=version)
        self.skipped_backends: list[str] = []
        self.bad = bad
        self.gate = threading.Event()
        self.closed = threading.Event()
        self.aborted = self.answers = self.lost = False

    def wait(self, seconds: float) -> None:
        assert self.gate.wait(10)
        if self.aborted or self.bad:
            raise EngineError(self.bad or "aborted")

    def answer(self) -> None:
        self.answers = True

    def abort(self) -> None:
        self.aborted = True
        self.gate.set()

    def run(self, images: Pixels, outputs: Sequence[str]) -> Arrays:
        if self.lost:
            raise EngineError("its process ended")
        return {"logits": np.full((len(images), 1), self.manifest.version, np.float32)}

    def close(self) -> None:
        self.closed.set()


class Scene:
    """A holding that begins with version 1; ``loads`` are the others, by version."""

    def __init__(self) -> None:
        self.first = Fake(1)
        self.loads = {version: Fake(version) for version in (2, 3)}
        self.announced: list[int] = []
        self.loaded = LoadedModels(self.first, self.load, lambda held: self.announced.append(held.version))
        self.changes = 0
        self.loaded.changed = self.change

    def load(self, version: int) -> Fake:
        if version not in self.loads:
            raise EngineError(f"no version {version}")
        return self.loads[version]

    def change(self) -> None:
        self.changes += 1

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.005)

    async def hold(self, version: int) -> None:
        self.loaded.reconcile(DesiredState(1, [version]))
        self.loads[version].gate.set()
        await self.until(lambda: version in self.loaded.held)


def play(scenario: Callable[[Scene], Awaitable[Any]]) -> None:
    async def run() -> None:
        scene = Scene()
        try:
            await scenario(scene)
        finally:
            for fake in scene.loads.values():
                fake.gate.set()

    asyncio.run(run())


def test_a_version_is_loaded_beside_while_the_other_answers_and_takes_its_place_when_told() -> None:
    async def scenario(scene: Scene) -> None:
        scene.loaded.reconcile(DesiredState(1, [2]))
        await asyncio.sleep(0.02)
        assert scene.loaded.report().holds == [1]
        scene.loads[2].gate.set()
        await scene.until(lambda: scene.loaded.report().holds == [1, 2])
        assert scene.loaded.serving.version == 1
        assert not scene.loads[2].answers
        changes = scene.changes
        scene.loaded.reconcile(DesiredState(2))
        assert scene.loaded.serving.version == 2
        assert scene.loads[2].answers
        assert scene.announced == [1, 2]
        assert scene.changes > changes
        assert scene.loaded.report().holds == [2]
        await scene.until(scene.first.closed.is_set)

    play(scenario)


def test_what_a_request_uses_is_kept_until_it_ends() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.hold(2)
        with scene.loaded.serving.used() as held:
            scene.loaded.reconcile(DesiredState(2))
            await asyncio.sleep(0.02)
            assert not scene.first.closed.is_set()
            assert held.compute(PIXELS, ["logits"])["logits"][0, 0] == 1
        await scene.until(scene.first.closed.is_set)

    play(scenario)


def test_a_worker_that_is_told_late_loads_and_swaps_by_itself() -> None:
    async def scenario(scene: Scene) -> None:
        scene.loaded.reconcile(DesiredState(3))
        scene.loads[3].gate.set()
        await scene.until(lambda: scene.loaded.serving.version == 3)

    play(scenario)


@pytest.mark.parametrize("version", [2, 9])
def test_what_cannot_be_loaded_is_reported_with_its_reason_and_tried_again_when_asked_for_again(version: int) -> None:
    async def scenario(scene: Scene) -> None:
        scene.loads[2].bad = "its hash is wrong"
        scene.loads[2].gate.set()
        scene.loaded.reconcile(DesiredState(1, [version]))
        await scene.until(lambda: scene.loaded.report().refused)
        reason = {2: "its hash is wrong", 9: "no version 9"}[version]
        assert scene.loaded.report().refused == {version: reason}
        assert scene.loaded.serving.version == 1
        scene.loaded.reconcile(DesiredState(1))
        assert scene.loaded.report().refused == {}
        scene.loads[version] = Fake(version)
        await scene.hold(version)

    play(scenario)


def test_one_that_is_not_wanted_any_more_is_given_up_while_it_loads() -> None:
    async def scenario(scene: Scene) -> None:
        scene.loaded.reconcile(DesiredState(1, [2]))
        await scene.until(lambda: scene.loaded.opening is not None)
        scene.loaded.reconcile(DesiredState(1, [3]))
        assert scene.loads[2].aborted
        scene.loads[3].gate.set()
        await scene.until(lambda: scene.loaded.report().holds == [1, 3])
        assert scene.loaded.report().refused == {}

    play(scenario)


def test_one_that_is_wanted_again_while_it_is_given_up_is_loaded_anew_and_not_refused() -> None:
    async def scenario(scene: Scene) -> None:
        first, second = scene.loads[2], Fake(2)
        second.gate.set()
        scene.loaded.reconcile(DesiredState(1, [2]))
        await scene.until(lambda: scene.loaded.opening is first)
        scene.loads[2] = second
        scene.loaded.reconcile(DesiredState(1))
        scene.loaded.reconcile(DesiredState(1, [2]))
        await scene.until(lambda: 2 in scene.loaded.held or scene.loaded.refused)
        assert first.aborted
        assert scene.loaded.refused == {}
        assert scene.loaded.held[2].network is second

    play(scenario)


def test_several_are_loaded_one_after_the_other() -> None:
    async def scenario(scene: Scene) -> None:
        scene.loaded.reconcile(DesiredState(1, [2, 3]))
        scene.loads[3].gate.set()
        await asyncio.sleep(0.05)
        assert scene.loaded.report().holds == [1]
        scene.loads[2].gate.set()
        await scene.until(lambda: scene.loaded.report().holds == [1, 2, 3])

    play(scenario)


def test_a_canary_is_on_trial_once_it_is_here() -> None:
    async def scenario(scene: Scene) -> None:
        scene.loaded.reconcile(DesiredState(1, [2], TRIAL))
        assert scene.loaded.trial is None
        scene.loads[2].gate.set()
        await scene.until(lambda: scene.loaded.trial is not None)
        trial = scene.loaded.trial
        assert trial is not None
        assert (trial[0], trial[1].version) == (TRIAL, 2)
        assert scene.loads[2].answers

    play(scenario)


def test_a_candidate_whose_process_is_lost_is_reported_and_the_worker_goes_on() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.hold(2)
        scene.loads[2].lost = True
        held = scene.loaded.held[2]
        await asyncio.to_thread(fail, held)
        await scene.until(lambda: scene.loaded.report().refused)
        assert scene.loaded.report().refused == {2: "its process ended"}
        assert scene.loaded.report().holds == [1]

    play(scenario)


def test_without_the_version_in_service_the_worker_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: told.append((pid, number)))

    async def scenario(scene: Scene) -> None:
        await scene.hold(2)
        scene.loaded.reconcile(DesiredState(2))
        scene.loads[2].lost = True
        await asyncio.to_thread(fail, scene.loaded.serving)
        assert told == [(os.getpid(), signal.SIGTERM)]

    play(scenario)


def test_at_the_end_all_are_closed_also_one_that_loads() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.hold(2)
        scene.loaded.reconcile(DesiredState(1, [2, 3]))
        await scene.until(lambda: scene.loaded.opening is not None)
        scene.loaded.close()
        assert scene.first.closed.is_set()
        assert scene.loads[2].closed.is_set()
        assert scene.loads[3].aborted

    play(scenario)


def fail(held: LoadedModel) -> None:
    with suppress(EngineError):
        held.compute(PIXELS, ["logits"])
