"""The versions that a worker asks: the live one, and a candidate that is tried; each is computed by an engine.

A version takes the place of another between two requests: a request keeps the version that it began with.
"""

import asyncio
import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Protocol

from models.image.preprocess import Pixels
from models.package.manifest import Manifest
from service.engine.client import KEPT, EngineError
from service.engine.high_water import HighWater
from service.inference.class_map import LIKELIEST
from service.inference.heap import give_back_heap
from service.inference.job import Job
from service.rollout.messages import ActiveCandidate, DesiredState, ObservedState
from service.telemetry import metrics

AGAIN_SECONDS = 0.5  # between two tries to reach an engine
log = logging.getLogger("hubel")


class Engine(Protocol):
    """What computes a version, as service.engine.client.EngineClient does."""

    address: str
    manifest: Manifest
    provider: str
    precision: str
    skipped_backends: list[str]
    unexplained: str
    place: int
    loaded_at: float
    changed: Callable[[], object]

    def attach(self, loop: asyncio.AbstractEventLoop) -> None: ...

    async def submit(
        self, pixels: Pixels, outputs: tuple[str, ...], deadline: float, bulk: bool = False, target: int = LIKELIEST
    ) -> Job: ...

    async def spare(self, pixels: Pixels, outputs: tuple[str, ...]) -> Job | None: ...

    def upkeep(self) -> int: ...

    def close(self) -> None: ...


class LoadedModel:
    """A version with its engine. users: requests in flight on it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.manifest = engine.manifest
        self.version = engine.manifest.version
        self.users = 0
        self.released = False
        of = (self.manifest.name, str(self.version))
        self.images, self.unsure = metrics.VERSION_IMAGES.labels(*of), metrics.VERSION_UNSURE.labels(*of)
        self.novelty, self.confidence = metrics.NOVELTY.labels(self.manifest.name), metrics.CONFIDENCE.labels(*of)
        self.errors, self.seconds = metrics.VERSION_ERRORS.labels(*of), metrics.VERSION_SECONDS.labels(*of)

    @contextmanager
    def used(self) -> Generator["LoadedModel"]:
        """Keep its engine for a request."""
        self.users += 1
        try:
            yield self
        finally:
            self.users -= 1
            self._free()

    def release(self) -> None:
        """Leave its engine as soon as no request needs it."""
        self.released = True
        self._free()

    def _free(self) -> None:
        if self.released and not self.users:
            self.engine.close()


class LoadedModels:
    """first: computes what is live to begin with. connect: to the engine at an address; called in a thread, raises EngineError.
    announce: told what is live, and when its engine is another. changed: called when there is something new to report.
    Made in the event loop.
    """

    def __init__(self, first: Engine, connect: Callable[[str], Engine], announce: Callable[[LoadedModel], object]) -> None:
        self.connect = connect
        self.announce = announce
        self.changed: Callable[[], object] = lambda: None
        self.held: dict[int, LoadedModel] = {}
        self.serving = self._hold(first)
        self.desired = DesiredState(self.serving.version)
        self.rush = HighWater(KEPT)  # images at once, whose bodies and pixels lie in the heap
        self.connecting: dict[int, asyncio.Task[None]] = {}
        announce(self.serving)

    @property
    def trial(self) -> tuple[ActiveCandidate, LoadedModel] | None:
        """The candidate, where there is one and it is ready here."""
        trial = self.desired.trial
        held = self.held.get(trial.version) if trial else None
        return (trial, held) if trial and held and held is not self.serving else None

    def reconcile(self, desired: DesiredState) -> None:
        """Ask the versions that the supervisor says; leave those that are not needed any more."""
        self.desired = desired
        for version, held in list(self.held.items()):
            if held.engine.address != desired.engines.get(version, held.engine.address):
                del self.held[version]  # it is computed elsewhere: it was refused, or not live, and is wanted once more
                if held is not self.serving:
                    held.release()
        if (new := self.held.get(desired.serve)) and new is not self.serving:
            self._swap(new)
        for version in self.held.keys() - set(desired.wanted) - {self.serving.version}:
            self.held.pop(version).release()
        for version in desired.wanted:
            if version not in self.held and version not in self.connecting and version in desired.engines:
                task = asyncio.get_running_loop().create_task(self._bring(version))
                self.connecting[version] = task

    def report(self) -> ObservedState:
        return ObservedState(serves=self.serving.version)

    def upkeep(self) -> None:
        """Is due about once a second: give back what a rush has taken."""
        images = sum(held.engine.upkeep() for held in {self.serving, *self.held.values()})
        if self.rush.turn(images) is not None:
            give_back_heap()

    def close(self) -> None:
        """Leave all of them, for the end."""
        for held in {self.serving, *self.held.values()}:
            held.engine.close()

    def _hold(self, engine: Engine) -> LoadedModel:
        engine.attach(asyncio.get_running_loop())
        held = self.held[engine.manifest.version] = LoadedModel(engine)
        engine.changed = lambda: self.announce(held) if held is self.serving else None
        return held

    def _swap(self, new: LoadedModel) -> None:
        """From now on requests begin with the new version."""
        log.info("%s takes the place of %s", new.manifest.id, self.serving.manifest.id)
        old, self.serving = self.serving, new
        if self.held.get(old.version) is not old:
            old.release()
        self.announce(new)
        self.changed()

    async def _bring(self, version: int) -> None:
        """Connect to the engine of a version, as long as it is wanted: it may be about to be replaced."""
        try:
            while version in self.desired.wanted and version in self.desired.engines:
                try:
                    self._hold(await asyncio.to_thread(self.connect, self.desired.engines[version]))
                    break
                except EngineError as err:
                    log.error("version %d cannot be asked, it is tried again: %s", version, err)
                    await asyncio.sleep(AGAIN_SECONDS)
        finally:
            del self.connecting[version]
        self.reconcile(self.desired)
        self.changed()
