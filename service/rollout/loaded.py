"""The versions that a worker holds in memory: the one that answers, and those that are made ready beside it.

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
from service.engine.client import RemoteError
from service.engine.ipc import cut
from service.errors import DeviceLost
from service.inference.batcher import Arrays
from service.rollout.messages import Orders, Report, Trial
from service.telemetry import metrics

LOAD_SECONDS = 120.0  # for a version to be loaded and warmed beside another
log = logging.getLogger("hubel")


class Network(Protocol):
    """A version that can be computed: a Runtime in this process, or a Remote."""

    manifest: Manifest
    provider: str
    passed_over: list[str]

    @property
    def precision(self) -> str: ...

    def run(self, images: Pixels, outputs: Sequence[str]) -> Arrays: ...

    def close(self) -> None: ...


class Beside(Network, Protocol):
    """One in another process, as a Remote is."""

    def wait(self, seconds: float) -> None: ...

    def answer(self) -> None: ...

    def abort(self) -> None: ...


class Held:
    """A loaded version. users: requests in flight on it. lost: called when its engine process has died. answer: called before
    requests are routed to it.
    """

    def __init__(
        self, network: Network, lost: Callable[["Held", RemoteError], object], answer: Callable[[], object] = lambda: None
    ) -> None:
        self.network = network
        self.lost = lost
        self.answer = answer
        self.manifest = network.manifest
        self.version = network.manifest.version
        self.users = 0
        self.released = False
        self.loaded = time.time()
        self.compute = self._compute  # one object, so that jobs of a version are known by it
        version = str(self.version)
        self.images, self.unsure = metrics.VERSION_IMAGES.labels(version), metrics.VERSION_UNSURE.labels(version)
        self.errors, self.seconds = metrics.VERSION_ERRORS.labels(version), metrics.VERSION_SECONDS.labels(version)

    @contextmanager
    def used(self) -> Generator["Held"]:
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
        except RemoteError as err:
            if not self.released:
                self.lost(self, err)
            raise


def _close(network: Network) -> None:
    network.close()
    with suppress(OSError, AttributeError):  # a C library without it
        ctypes.CDLL(None).malloc_trim(0)


class Holding:
    """first: what is live to begin with. start: has another version loaded; called in a thread, raises RemoteError and
    PackageError. announce: told what is live. changed: called, in the event loop, when there is something new to report.
    """

    def __init__(self, first: Network, start: Callable[[int], Beside], announce: Callable[[Held], object]) -> None:
        self.serving = Held(first, self._lose)
        self.start = start
        self.announce = announce
        self.changed: Callable[[], object] = lambda: None
        self.orders = Orders(self.serving.version)
        self.held = {self.serving.version: self.serving}
        self.refused: dict[int, str] = {}
        self.trying = False  # a candidate was ready when orders came last
        self.loading: int | None = None
        self.opening: Beside | None = None  # what is being loaded
        self.aborted = False  # its process was ended, as it was not wanted
        self.loop: asyncio.AbstractEventLoop | None = None
        self.tasks: set[asyncio.Task[None]] = set()
        announce(self.serving)

    @property
    def trial(self) -> tuple[Trial, Held] | None:
        """The candidate, where there is one and it is ready here."""
        trial = self.orders.trial
        held = self.held.get(trial.version) if trial else None
        return (trial, held) if trial and held and held is not self.serving else None

    def obey(self, orders: Orders) -> None:
        """Hold what the supervisor says. What is not there yet is loaded; what is not needed any more is freed."""
        self.orders, self.loop = orders, asyncio.get_running_loop()
        wanted = {orders.serve, *orders.prepare}
        self.refused = {version: reason for version, reason in self.refused.items() if version in wanted}
        if orders.serve != self.serving.version and orders.serve in self.held:
            self._swap(self.held[orders.serve])
        if self.trial and not self.trying:
            self.trial[1].answer()  # as a shadow too: its speed is compared
        self.trying = self.trial is not None
        for version in self.held.keys() - wanted - {self.serving.version}:
            self.held.pop(version).release()
        if self.loading not in wanted and self.opening is not None:
            self.aborted = True
            self.opening.abort()
        missing = [v for v in (orders.serve, *orders.prepare) if v not in self.held.keys() | self.refused.keys()]
        if missing and self.loading is None:
            self.loading = missing[0]
            task = self.loop.create_task(self._bring(missing[0]))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    def report(self) -> Report:
        return Report(serves=self.serving.version, holds=sorted(self.held), refused=self.refused)

    def close(self) -> None:
        """Free all of them, for the end."""
        if self.opening is not None:
            self.opening.abort()
        for held in self.held.values():
            held.network.close()

    def _swap(self, new: Held) -> None:
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
        elif aborted or version in self.held or version not in {self.orders.serve, *self.orders.prepare}:
            Held(found, self._lose).release()
        else:
            self.held[version] = Held(found, self._lose, found.answer)
        self.changed()
        self.obey(self.orders)

    def _load(self, version: int) -> Beside | str:
        """In a thread: the version, or why it cannot be had."""
        try:
            self.opening = beside = self.start(version)
            beside.wait(LOAD_SECONDS)
            return beside
        except (RemoteError, PackageError) as err:
            return str(err)
        finally:
            self.opening = None

    def _lose(self, held: Held, error: RemoteError) -> None:
        """In the thread that computes: a version's process is gone. Without the live one, this process ends too."""
        log.critical("%s is lost: %s", held.manifest.id, error)
        if held is self.serving:
            os.kill(os.getpid(), signal.SIGTERM)
        elif self.loop is not None:
            self.loop.call_soon_threadsafe(self._give_up, held, str(error))

    def _give_up(self, held: Held, reason: str) -> None:
        if self.held.get(held.version) is held and held is not self.serving:
            self.held.pop(held.version).release()
            self.refused[held.version] = cut(reason)
            self.changed()
