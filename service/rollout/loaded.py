"""The versions that a worker holds in memory: the one that answers, and those that are made ready meanwhile.

A version is loaded while the others go on, and replaces the live one between two batches: a request keeps the version
that it began with.
"""

import asyncio
import ctypes
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from typing import Protocol

from models.image.preprocess import Pixels
from models.package.manifest import Manifest, PackageError
from service.engine.client import EngineError
from service.engine.ipc import cut
from service.errors import DeviceLost
from service.inference.batcher import Arrays
from service.rollout.messages import ActiveCandidate, DesiredState, ObservedState
from service.telemetry import metrics

LOAD_SECONDS = 120.0  # for a version to be loaded and warmed beside another
log = logging.getLogger("hubel")


class Engine(Protocol):
    """A version that can be computed: an OnnxSession in this process, or an EngineClient."""

    manifest: Manifest
    provider: str
    skipped_backends: list[str]

    @property
    def precision(self) -> str: ...

    def run(self, images: Pixels, outputs: Sequence[str]) -> Arrays: ...

    def close(self) -> None: ...


class EngineProcess(Engine, Protocol):
    """One in another process, as an EngineClient is."""

    def wait(self, seconds: float) -> None: ...

    def answer(self) -> None: ...

    def abort(self) -> None: ...


class LoadedModel:
    """A loaded version. users: requests in flight on it. lost: called when its engine process has died. answer: called before
    requests are routed to it.
    """

    def __init__(
        self, network: Engine, lost: Callable[["LoadedModel", EngineError], object], answer: Callable[[], object] = lambda: None
    ) -> None:
        self.network = network
        self.lost = lost
        self.answer = answer
        self.manifest = network.manifest
        self.version = network.manifest.version
        self.users = 0
        self.released = False
        self.loaded_at = time.time()
        self.compute = self._compute  # one object, so that jobs of a version are known by it
        of = (network.manifest.name, str(self.version))
        self.images, self.unsure = metrics.VERSION_IMAGES.labels(*of), metrics.VERSION_UNSURE.labels(*of)
        self.novelty = metrics.NOVELTY.labels(self.manifest.name)
        self.errors, self.seconds = metrics.VERSION_ERRORS.labels(*of), metrics.VERSION_SECONDS.labels(*of)

    @contextmanager
    def used(self) -> Generator["LoadedModel"]:
        """Keep it in memory for a request."""
        self.users += 1
        try:
            yield self
        finally:
            self.users -= 1
            self._free()

    def release(self) -> None:
        """Free its memory as soon as no request needs it."""
        self.released = True
        self._free()

    def _free(self) -> None:
        if self.released and not self.users:
            threading.Thread(target=_close, args=(self.network,), name="free").start()

    def _compute(self, images: Pixels, outputs: Sequence[str]) -> Arrays:
        """A pass of the network. Where the GPU is lost for good, the process ends, and another can take its place."""
        try:
            return self.network.run(images, outputs)
        except DeviceLost:
            log.critical("the GPU failed, this process ends")
            os.kill(os.getpid(), signal.SIGTERM)
            raise
        except EngineError as err:
            if not self.released:
                self.lost(self, err)
            raise


def _close(network: Engine) -> None:
    network.close()
    with suppress(OSError, AttributeError):  # a C library without it
        ctypes.CDLL(None).malloc_trim(0)


class LoadedModels:
    """first: what is live to begin with. start: has another version loaded; called in a thread, raises EngineError and
    PackageError. announce: told what is live. changed: called, in the event loop, when there is something new to report.
    """

    def __init__(self, first: Engine, start: Callable[[int], EngineProcess], announce: Callable[[LoadedModel], object]) -> None:
        self.serving = LoadedModel(first, self._lose)
        self.start = start
        self.announce = announce
        self.changed: Callable[[], object] = lambda: None
        self.desired = DesiredState(self.serving.version)
        self.held = {self.serving.version: self.serving}
        self.refused: dict[int, str] = {}
        self.trying = False  # a candidate was ready when a desired state came last
        self.loading: int | None = None
        self.opening: EngineProcess | None = None  # what is being loaded
        self.aborted = False  # its process was ended, as it was not wanted
        self.loop: asyncio.AbstractEventLoop | None = None
        self.tasks: set[asyncio.Task[None]] = set()
        announce(self.serving)

    @property
    def trial(self) -> tuple[ActiveCandidate, LoadedModel] | None:
        """The candidate, where there is one and it is ready here."""
        trial = self.desired.trial
        held = self.held.get(trial.version) if trial else None
        return (trial, held) if trial and held and held is not self.serving else None

    def reconcile(self, desired: DesiredState) -> None:
        """Hold what the supervisor says. What is not there yet is loaded; what is not needed any more is freed."""
        self.desired, self.loop = desired, asyncio.get_running_loop()
        wanted = {desired.serve, *desired.prepare}
        self.refused = {version: reason for version, reason in self.refused.items() if version in wanted}
        if desired.serve != self.serving.version and desired.serve in self.held:
            self._swap(self.held[desired.serve])
        if self.trial and not self.trying:
            self.trial[1].answer()  # as a shadow too: its speed is compared
        self.trying = self.trial is not None
        for version in self.held.keys() - wanted - {self.serving.version}:
            self.held.pop(version).release()
        if self.loading not in wanted and self.opening is not None:
            self.aborted = True
            self.opening.abort()
        missing = [v for v in (desired.serve, *desired.prepare) if v not in self.held.keys() | self.refused.keys()]
        if missing and self.loading is None:
            self.loading = missing[0]
            task = self.loop.create_task(self._bring(missing[0]))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    def report(self) -> ObservedState:
        return ObservedState(serves=self.serving.version, holds=sorted(self.held), refused=self.refused)

    def close(self) -> None:
        """Free all of them, for the end."""
        if self.opening is not None:
            self.opening.abort()
        for held in self.held.values():
            held.network.close()

    def _swap(self, new: LoadedModel) -> None:
        """From now on requests begin with the new version."""
        log.info("%s takes the place of %s", new.manifest.id, self.serving.manifest.id)
        self.serving = new
        new.answer()
        self.announce(new)
        self.changed()

    async def _bring(self, version: int) -> None:
        """Load a version beside the others, and go on with what else is to do."""
        found = await asyncio.to_thread(self._load, version)
        aborted, self.aborted = self.aborted, False
        self.loading = None
        if isinstance(found, str):
            if not aborted:  # it may be wanted again by now
                self.refused[version] = cut(found)
        elif aborted or version in self.held or version not in {self.desired.serve, *self.desired.prepare}:
            LoadedModel(found, self._lose).release()
        else:
            self.held[version] = LoadedModel(found, self._lose, found.answer)
        self.changed()
        self.reconcile(self.desired)

    def _load(self, version: int) -> EngineProcess | str:
        """In a thread: the version, or why it cannot be had."""
        try:
            self.opening = beside = self.start(version)
            beside.wait(LOAD_SECONDS)
            return beside
        except (EngineError, PackageError) as err:
            return str(err)
        finally:
            self.opening = None

    def _lose(self, held: LoadedModel, error: EngineError) -> None:
        """In the thread that computes: a version's process is gone. Without the live one, this process ends too."""
        log.critical("%s is lost: %s", held.manifest.id, error)
        if held is self.serving:
            os.kill(os.getpid(), signal.SIGTERM)
        elif self.loop is not None:
            self.loop.call_soon_threadsafe(self._give_up, held, str(error))

    def _give_up(self, held: LoadedModel, reason: str) -> None:
        if self.held.get(held.version) is held and held is not self.serving:
            self.held.pop(held.version).release()
            self.refused[held.version] = cut(reason)
            self.changed()
