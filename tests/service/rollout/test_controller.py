"""The control plane with a real store, and workers and engines of a few lines: who is told what, how a candidate ends."""

import asyncio
import json
import logging
import os
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client import REGISTRY

from models.lifecycle import candidate
from models.lifecycle.candidate import Candidate, Progress
from models.registry import history, registry
from service.rollout import controller as module
from service.rollout.controller import LATE, UNUSABLE, RolloutController
from service.rollout.messages import DesiredState
from service.rollout.watcher import RegistryWatcher
from service.stopwatch import Awake
from tests.models.conftest import MakeStore as MakeStore
from tests.models.conftest import make_store as make_store
from tests.models.conftest import shelf as shelf
from tests.service.rollout.workers import Fake, FakeEngines


class Scene:
    def __init__(self, store: Path, workers: int = 2, follows: bool = True) -> None:
        self.store = store
        self.crew = [Fake(place) for place in range(workers)]
        self.engines = FakeEngines()
        self.rollout = RolloutController(RegistryWatcher(store, "tiny", 1), lambda: self.crew, self.engines, follows)

    async def turns(self, count: int = 4) -> None:
        for _ in range(count):
            await self.rollout.turn()
            for worker in self.crew:
                if worker.ready:
                    self.rollout.receive(worker, worker.says())

    def served(self) -> list[int]:
        return [worker.report.serves for worker in self.crew]

    def at_rest(self, version: int) -> DesiredState:
        """What workers are told where there is this version alone."""
        return DesiredState(version, {version: f"engine-{version}"})

    def see(self, requests: int = 0, errors: int = 0, place: int = 0) -> None:
        """A worker reports what it saw of the candidate: so many requests, all alike in both versions, and failures."""
        trial = self.crew[place].desired.trial
        assert trial is not None
        seen = Progress(trial.version, trial.started, compared=requests - errors, agreed=requests - errors)
        seen.candidate.requests, seen.candidate.errors, seen.candidate.images = requests, errors, requests - errors
        seen.in_service.requests = seen.in_service.images = 5 * requests
        self.rollout.receive(self.crew[place], msgspec.structs.replace(self.crew[place].says(), progress=seen))

    def event(self) -> tuple[str, int, str]:
        """The last that the store's history holds."""
        pointer = registry.pointer(self.store, "tiny")
        assert pointer is not None
        return pointer.history[-1].event, pointer.version, pointer.history[-1].reason


def play(scene: Scene, scenario: Callable[[Scene], Awaitable[Any]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(scene), 30))


def gauge(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, {"model": "tiny"} | labels) or 0


def test_a_promotion_is_served_by_all_as_soon_as_its_engine_is_ready(make_store: MakeStore) -> None:
    scene = Scene(make_store(tiny=2))
    done = gauge("hubel_swaps_total", result="done")

    async def scenario(scene: Scene) -> None:
        await scene.turns()
        scene.engines.slow = {2}
        registry.promote(scene.store, "tiny", 2, "test")
        await scene.turns()
        assert scene.served() == [1, 1]
        assert scene.engines.wanted == {1, 2}
        assert [worker.told for worker in scene.crew] == [scene.at_rest(1)] * 2
        scene.engines.slow = set()
        await scene.turns()
        assert scene.served() == [2, 2]
        assert (scene.engines.serving, scene.engines.wanted) == (2, {2})
        assert [worker.told for worker in scene.crew] == [scene.at_rest(2)] * 2

    play(scene, scenario)
    assert gauge("hubel_swaps_total", result="done") == done + 1
    assert [gauge("hubel_model_version", worker=str(place)) for place in range(2)] == [2, 2]
    assert gauge("hubel_workers_in_sync") == 1


def test_a_version_whose_engine_is_refused_is_refused_until_something_is_promoted_again(
    make_store: MakeStore, caplog: pytest.LogCaptureFixture
) -> None:
    scene = Scene(make_store(tiny=3))

    async def scenario(scene: Scene) -> None:
        scene.engines.cannot = {2: "its hash is wrong"}
        registry.promote(scene.store, "tiny", 2, "test")
        await scene.turns()
        assert scene.served() == [1, 1]
        assert scene.engines.wanted == {1}
        for worker in scene.crew:
            assert worker.desired.refused is not None
            assert (worker.desired.refused.version, worker.desired.refused.reason) == (2, UNUSABLE)
        assert gauge("hubel_refused_version") == 2
        scene.engines.cannot = {}
        await scene.turns()
        assert scene.served() == [1, 1]
        registry.promote(scene.store, "tiny", 2, "again")
        await scene.turns()
        assert scene.served() == [2, 2]
        assert scene.crew[0].desired.refused is None

    with caplog.at_level(logging.ERROR):
        play(scene, scenario)
    assert caplog.text.count("tiny:2 is refused, tiny:1 stays live: its hash is wrong") == 1
    assert gauge("hubel_refused_version") == 0


def test_a_promotion_that_another_overtakes_is_given_up(make_store: MakeStore) -> None:
    async def scenario(scene: Scene) -> None:
        scene.engines.slow = {2}
        registry.promote(scene.store, "tiny", 2, "test")
        await scene.turns()
        registry.promote(scene.store, "tiny", 3, "test")
        await scene.turns()
        assert scene.served() == [3, 3]
        assert scene.engines.wanted == {3}
        scene.engines.slow = set()
        await scene.turns()
        assert scene.served() == [3, 3]

    play(Scene(make_store(tiny=3)), scenario)


def test_an_engine_that_has_changed_is_looked_at_before_the_next_look_at_the_store_is_due(
    make_store: MakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 3600.0)

    async def scenario(scene: Scene) -> None:
        scene.engines.slow = {2}
        registry.promote(scene.store, "tiny", 2, "test")
        running = asyncio.create_task(scene.rollout.run())
        while scene.engines.wanted != {1, 2}:
            await asyncio.sleep(0.01)
        scene.engines.slow = set()
        scene.engines.changed.set()
        while scene.crew[0].told != scene.at_rest(2):
            await asyncio.sleep(0.01)
        running.cancel()

    play(Scene(make_store(tiny=2)), scenario)


def test_the_engine_of_a_candidate_is_asked_once_it_is_tried_and_not_before(make_store: MakeStore) -> None:
    async def scenario(scene: Scene) -> None:
        scene.engines.slow = {2}
        candidate.start(scene.store, "tiny", Candidate(2, "canary", 100, 10))
        await scene.turns()
        assert (scene.engines.wanted, scene.engines.active) == ({1, 2}, {1})
        assert scene.crew[0].desired.trial is None
        scene.engines.slow = set()
        await scene.turns()
        assert scene.engines.active == {1, 2}
        assert scene.crew[0].desired.engines == {1: "engine-1", 2: "engine-2"}
        assert scene.crew[0].desired.trial is not None

    play(Scene(make_store(tiny=2)), scenario)


def test_a_worker_that_ends_refuses_nothing(make_store: MakeStore) -> None:
    async def scenario(scene: Scene) -> None:
        scene.engines.slow = {2}
        registry.promote(scene.store, "tiny", 2, "test")
        for _ in range(3):
            await scene.turns()
            scene.rollout.lose(scene.crew[0])
        assert scene.rollout.rejected == {}
        scene.engines.slow = set()
        await scene.turns()
        assert scene.served() == [2, 2]

    play(Scene(make_store(tiny=2)), scenario)


def test_a_machine_that_stood_still_took_no_time_to_load(make_store: MakeStore) -> None:
    async def scenario(scene: Scene) -> None:
        now = [0.0]
        scene.rollout.awake = Awake(module.AWAKE_SECONDS, lambda: now[0])
        scene.engines.slow = {2}
        registry.promote(scene.store, "tiny", 2, "test")
        await scene.turns()
        now[0] += 100_000
        await scene.turns()
        assert scene.rollout.rejected == {}
        for _ in range(int(module.LOAD_SECONDS / module.AWAKE_SECONDS) + 1):
            now[0] += module.AWAKE_SECONDS
            scene.rollout.awake.now()
        await scene.turns()
        assert "was not loaded and warm within" in scene.rollout.rejected[2]

    play(Scene(make_store(tiny=2)), scenario)


def test_a_version_that_takes_too_long_is_refused(make_store: MakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOAD_SECONDS", 0.0)
    scene = Scene(make_store(tiny=2))

    async def scenario(scene: Scene) -> None:
        scene.engines.slow = {2}
        registry.promote(scene.store, "tiny", 2, "test")
        await scene.turns()
        refused = scene.crew[0].desired.refused
        assert refused is not None
        assert refused.reason == LATE
        assert scene.served() == [1, 1]
        assert scene.engines.wanted == {1}

    play(scene, scenario)


def test_a_worker_that_does_not_swap_shows_in_the_metrics(make_store: MakeStore) -> None:
    scene = Scene(make_store(tiny=2))

    async def scenario(scene: Scene) -> None:
        scene.crew[1].mute = True
        registry.promote(scene.store, "tiny", 2, "test")
        await scene.turns()
        assert scene.served() == [2, 1]
        assert gauge("hubel_workers_in_sync") == 0
        scene.crew.pop()
        scene.rollout.lose(Fake(1))
        assert gauge("hubel_workers_in_sync") == 1
        assert gauge("hubel_model_version", worker="1") == 0

    play(scene, scenario)


def test_a_worker_that_begins_to_serve_during_a_swap_is_told_of_it_and_waited_for(make_store: MakeStore) -> None:
    scene = Scene(make_store(tiny=2))
    done = gauge("hubel_swaps_total", result="done")

    async def scenario(scene: Scene) -> None:
        scene.crew[0].mute = True
        registry.promote(scene.store, "tiny", 2, "test")
        scene.crew[1].ready = False
        await scene.turns()
        assert scene.crew[1].desired.serve == 2
        scene.crew[1].ready = True
        await scene.turns()
        assert scene.served() == [1, 2]
        assert gauge("hubel_swaps_total", result="done") == done
        scene.crew[0].mute = False
        await scene.turns()
        assert scene.served() == [2, 2]
        assert gauge("hubel_swaps_total", result="done") == done + 1

    play(scene, scenario)


def test_a_pinned_version_stays(make_store: MakeStore) -> None:
    scene = Scene(make_store(tiny=2), follows=False)

    async def scenario(scene: Scene) -> None:
        registry.promote(scene.store, "tiny", 2, "test")
        await scene.turns()
        assert scene.served() == [1, 1]

    play(scene, scenario)


def test_a_damaged_pointer_changes_nothing_and_is_told(make_store: MakeStore, caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene(make_store(tiny=2))

    async def scenario(scene: Scene) -> None:
        await scene.turns()
        whole = (scene.store / "tiny/current.json").read_bytes()
        (scene.store / "tiny/current.json").write_text("{")
        await scene.turns()
        assert scene.served() == [1, 1]
        assert gauge("hubel_registry_unreadable") == 1
        (scene.store / "tiny/current.json").write_bytes(whole)
        await scene.turns()
        assert gauge("hubel_registry_unreadable") == 0

    play(scene, scenario)
    assert caplog.text.count("tiny:1 stays live: ") == 1


@pytest.mark.parametrize("mode", ["shadow", "canary"])
def test_a_candidate_without_loss_is_promoted_and_swapped_in(make_store: MakeStore, mode: candidate.Mode) -> None:
    scene = Scene(make_store(tiny=2))

    async def scenario(scene: Scene) -> None:
        candidate.start(scene.store, "tiny", Candidate(2, mode, 100, 10))
        await scene.turns()
        assert scene.served() == [1, 1]
        assert gauge("hubel_candidate_version") == 2
        trial = scene.crew[0].desired.trial
        assert trial is not None
        assert (trial.version, trial.mode, trial.percent, trial.wanted) == (2, mode, 10, 100)
        for place in (0, 1):
            scene.see(50, place=place)
        await scene.turns()
        assert scene.served() == [2, 2]
        assert candidate.read(scene.store, "tiny") is None
        assert scene.crew[0].desired == scene.at_rest(2)

    play(scene, scenario)
    event, version, reason = scene.event()
    assert (event, version) == ("promote", 2)
    assert reason.startswith("no loss in 100 requests")


def test_a_candidate_that_fails_is_stopped_and_the_old_version_goes_on(make_store: MakeStore) -> None:
    scene = Scene(make_store(tiny=2))

    async def scenario(scene: Scene) -> None:
        candidate.start(scene.store, "tiny", Candidate(2, "canary", 1000, 10))
        await scene.turns()
        scene.see(20, errors=10)
        await scene.turns()
        assert scene.served() == [1, 1]
        assert [worker.desired for worker in scene.crew] == [scene.at_rest(1)] * 2
        assert scene.engines.wanted == {1}

    play(scene, scenario)
    event, version, reason = scene.event()
    assert (event, version) == ("end", 1)
    assert reason.startswith("errors: 10 of 20 requests failed")


def test_a_candidate_whose_engine_ends_is_stopped(make_store: MakeStore) -> None:
    scene = Scene(make_store(tiny=2))

    async def scenario(scene: Scene) -> None:
        candidate.start(scene.store, "tiny", Candidate(2, "canary", 1000, 10))
        await scene.turns()
        assert scene.crew[0].desired.trial is not None
        scene.engines.cannot = {2: "its process ended (SIGSEGV)"}
        await scene.turns()
        assert candidate.read(scene.store, "tiny") is None
        assert scene.served() == [1, 1]

    play(scene, scenario)
    assert scene.event() == ("end", 1, "refused: its process ended (SIGSEGV)")


def test_what_was_seen_survives_a_restart(make_store: MakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SAVE_SECONDS", 0.0)
    store = make_store(tiny=2)

    async def scenario(scene: Scene) -> None:
        await scene.turns()
        scene.see(60)
        await scene.turns()

    candidate.start(store, "tiny", Candidate(2, "canary", 100, 10))
    play(Scene(store), scenario)
    assert json.loads((store / "tiny/progress.json").read_text())["candidate"]["requests"] == 60
    play(Scene(store), scenario)
    assert scene_version(store) == 2


def scene_version(store: Path) -> int:
    pointer = registry.pointer(store, "tiny")
    assert pointer is not None
    return pointer.version


def test_counts_of_another_candidate_do_not_count(make_store: MakeStore) -> None:
    scene = Scene(make_store(tiny=3))

    async def scenario(scene: Scene) -> None:
        candidate.start(scene.store, "tiny", Candidate(2, "canary", 100, 10))
        await scene.turns()
        old = Progress(2, candidate.Candidate(2, "canary", 1).started)
        old.candidate.requests = old.candidate.images = old.compared = old.agreed = 1000
        scene.rollout.receive(scene.crew[0], msgspec.structs.replace(scene.crew[0].says(), progress=old))
        await scene.turns()
        assert candidate.read(scene.store, "tiny") is not None

    play(scene, scenario)


def test_a_promotion_meanwhile_has_the_candidate_compared_anew(make_store: MakeStore) -> None:
    scene = Scene(make_store(tiny=3))

    async def scenario(scene: Scene) -> None:
        candidate.start(scene.store, "tiny", Candidate(2, "canary", 100, 10))
        await scene.turns()
        scene.see(90)
        registry.promote(scene.store, "tiny", 3, "by hand")
        await scene.turns()
        assert scene.served() == [3, 3]
        scene.see(90)
        await scene.turns()
        assert candidate.read(scene.store, "tiny") is not None
        assert scene.served() == [3, 3]

    play(scene, scenario)


def test_a_verdict_that_cannot_be_recorded_ends_the_trial_all_the_same(
    make_store: MakeStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    scene = Scene(make_store(tiny=2))

    def fail(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    async def scenario(scene: Scene) -> None:
        candidate.start(scene.store, "tiny", Candidate(2, "canary", 100, 10))
        await scene.turns()
        monkeypatch.setattr(candidate, "end", fail)
        scene.see(100)
        await scene.turns()
        assert scene.served() == [1, 1]
        assert scene.crew[0].desired == scene.at_rest(1)

    play(scene, scenario)
    assert gauge("hubel_decision_unrecorded") == 1
    assert "cannot be recorded in the store, it is not tried any more: [Errno 30] Read-only file system" in caplog.text


def test_a_candidate_that_is_taken_back_by_hand_is_let_go(make_store: MakeStore) -> None:
    scene = Scene(make_store(tiny=2))

    async def scenario(scene: Scene) -> None:
        candidate.start(scene.store, "tiny", Candidate(2, "shadow", 100))
        await scene.turns()
        candidate.end(scene.store, "tiny", False, "changed my mind")
        await scene.turns()
        assert scene.crew[0].desired == scene.at_rest(1)
        assert gauge("hubel_candidate_version") == 0

    play(scene, scenario)


def test_a_store_that_does_not_answer_is_told_and_holds_nothing_up(
    make_store: MakeStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    scene = Scene(make_store(tiny=2))
    monkeypatch.setattr(module, "STORE_SECONDS", 0.05)
    answers, look, looks = threading.Event(), scene.rollout.watcher.look, list[int]()

    def wait() -> None:
        looks.append(1)
        answers.wait(20)
        look()

    monkeypatch.setattr(scene.rollout.watcher, "look", wait)

    async def scenario(scene: Scene) -> None:
        registry.promote(scene.store, "tiny", 2, "test")
        await scene.turns()
        assert (scene.served(), gauge("hubel_registry_unreadable"), len(looks)) == ([1, 1], 1, 1)
        answers.set()
        monkeypatch.setattr(module, "STORE_SECONDS", 10)
        await scene.turns()
        assert (scene.served(), gauge("hubel_registry_unreadable")) == ([2, 2], 0)

    play(scene, scenario)
    assert caplog.text.count(f"tiny:1 stays live: {scene.store} does not answer for 0.05 s") == 1


def test_a_verdict_that_another_command_keeps_from_the_store_ends_the_trial(
    make_store: MakeStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    scene = Scene(make_store(tiny=2))
    monkeypatch.setattr(history, "LOCK_SECONDS", 0.1)

    async def scenario(scene: Scene) -> None:
        candidate.start(scene.store, "tiny", Candidate(2, "canary", 100, 10))
        await scene.turns()
        scene.see(100)
        with history.locked(scene.store / "tiny"):
            await scene.turns()
        assert scene.crew[0].desired == scene.at_rest(1)

    play(scene, scenario)
    assert gauge("hubel_decision_unrecorded") == 1
    assert f"is being changed by process {os.getpid()} " in caplog.text


def test_a_verdict_does_not_end_the_candidate_that_came_after(make_store: MakeStore) -> None:
    scene = Scene(make_store(tiny=3))

    async def scenario(scene: Scene) -> None:
        candidate.start(scene.store, "tiny", Candidate(2, "canary", 100, 10))
        await scene.turns()
        candidate.end(scene.store, "tiny", False, "by hand")
        candidate.start(scene.store, "tiny", Candidate(3, "canary", 100, 10))
        scene.rollout.follows = False  # it has not looked yet
        scene.see(100)
        await scene.turns()
        running = candidate.read(scene.store, "tiny")
        assert running is not None
        assert running.version == 3

    play(scene, scenario)
    assert scene.event()[:2] == ("canary", 1)


def test_a_turn_that_fails_again_and_again_is_told_once_for_each_cause(
    make_store: MakeStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    scene = Scene(make_store(tiny=1))
    causes = ["one", "one", "one", "another", "another"]
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.0)

    async def turn() -> None:
        if not causes:
            await asyncio.sleep(60)
        raise RuntimeError(causes.pop(0))

    monkeypatch.setattr(scene.rollout, "turn", turn)

    async def scenario(scene: Scene) -> None:
        running = asyncio.create_task(scene.rollout.run())
        while causes:
            await asyncio.sleep(0.01)
        running.cancel()

    play(scene, scenario)
    assert caplog.text.count("looking after the versions failed") == 2


def test_the_reason_of_a_refusal_is_one_short_line_and_only_its_kind_is_told_to_callers(
    make_store: MakeStore, caplog: pytest.LogCaptureFixture
) -> None:
    scene = Scene(make_store(tiny=2))
    scene.engines.cannot = {2: "/models/tiny/2/model.onnx: [ONNXRuntimeError]\x1b[2J\n" + "x" * 90_000}

    async def scenario(scene: Scene) -> None:
        registry.promote(scene.store, "tiny", 2, "test")
        await scene.turns()
        refused = scene.crew[1].desired.refused
        assert refused is not None
        assert refused.reason == "it cannot be used; the log of the service says why"

    play(scene, scenario)
    (line,) = [record.getMessage() for record in caplog.records if "is refused" in record.getMessage()]
    assert "/models/tiny/2/model.onnx: [ONNXRuntimeError]\\x1b[2J\\nxx" in line
    assert len(line) < 700


def test_it_ends_when_it_is_cancelled_although_something_happens_at_the_same_time(make_store: MakeStore) -> None:
    async def scenario(scene: Scene) -> None:
        running = asyncio.create_task(scene.rollout.run())
        await asyncio.sleep(0.1)
        scene.rollout.something.set()
        running.cancel()
        await asyncio.wait([running], timeout=1)
        assert running.cancelled()

    play(Scene(make_store(tiny=1)), scenario)
