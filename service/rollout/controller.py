"""The control plane: which version answers, when the workers go over to another, and how a candidate ends. In the supervisor.

A version becomes live when its engine is warm: then all workers are told, and each goes over between two requests. One whose
engine cannot be had is refused, and the live version goes on.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import msgspec

from models.lifecycle import candidate as candidates
from models.lifecycle.candidate import Candidate, Progress, Tally
from models.registry.history import MAX_REASON
from models.terminal.table import printable
from service.rollout.analysis import Decision, analyse
from service.rollout.messages import ActiveCandidate, DesiredState, ObservedState, RefusedVersion
from service.rollout.watcher import RegistryWatcher
from service.stopwatch import Awake
from service.telemetry import metrics

LOOK_SECONDS = 0.5
AWAKE_SECONDS = 5.0  # that count at most between two looks; the rest of a longer time this process stood still
SAVE_SECONDS = 2.0  # between two writings of a candidate's progress
STORE_SECONDS = 15.0  # for the store to answer; longer than a command may keep it
UNUSABLE, LATE = (
    "it cannot be used; the log of the service says why",
    "it was not ready in time; the log of the service says more",
)
LOAD_SECONDS = 150.0  # for a version to be loaded and warmed beside the live one
log = logging.getLogger("hubel")


class Worker(Protocol):
    """A process that serves, as supervisor.py knows it. told: its last desired state; report: the last
    it said; ready: it serves.
    """

    place: int
    ready: bool
    told: DesiredState | None
    report: ObservedState

    def tell(self, desired: DesiredState) -> None: ...


class Engines(Protocol):
    """What computes the versions, as processes/engines.py has them. refused: versions that cannot be had, and why. changed: one
    is ready now, or refused.
    """

    refused: dict[int, str]
    changed: asyncio.Event

    def want(self, serving: int, others: Sequence[int] = (), active: Sequence[int] = ()) -> None:
        """Have an engine for each of these alone; those in ``active`` are asked, as the one that serves."""
        ...

    def is_ready(self, version: int) -> bool: ...

    def addresses(self) -> dict[int, str]: ...


@dataclass(frozen=True)
class Swap:
    """A swap that the workers were told to make. noticed: when the promotion was."""

    version: int
    before: int
    noticed: float


GAUGES = (metrics.REFUSED_VERSION, metrics.REGISTRY_UNREADABLE, metrics.CANDIDATE_VERSION, metrics.DECISION_UNRECORDED)


class RolloutController:
    """workers: those of now. follows: whether promotions and candidates are looked at, or the version is pinned."""

    def __init__(
        self, watcher: RegistryWatcher, workers: Callable[[], Iterable[Worker]], engines: Engines, follows: bool = True
    ) -> None:
        self.watcher = watcher
        self.workers = workers
        self.engines = engines
        self.follows = follows
        self.serving = watcher.version
        self.awake = Awake(AWAKE_SECONDS)
        self.noticed: dict[int, float] = {}  # version that is to be loaded -> since when, in seconds of awake
        self.rejected: dict[int, str] = {}  # version -> why; not tried again until the pointer changes
        self.refusal: RefusedVersion | None = None
        self.swap: Swap | None = None
        self.changes = 0
        self.tried: datetime | None = None  # when the last candidate that was looked at was started
        self.trial: Candidate | None = None  # which is tried
        self.over: datetime | None = None  # when the candidate was started that has ended
        self.progress: Progress | None = None
        self.shown = 0  # requests of the candidate, as the workers were told last
        self.saved = 0.0
        self.unsaved = False
        self.faults: list[str] = []
        self.looking: asyncio.Task[None] | None = None
        self.failure = ""  # of the last turn
        self.desired = DesiredState(self.serving, engines.addresses())
        self.something = engines.changed
        metrics.expect_versions(watcher.name)
        for gauge in GAUGES:  # there from the start on, so that they can be asked for
            gauge.labels(watcher.name).set(0)

    async def run(self) -> None:
        """Until cancelled. What goes wrong with the store is told, and tried again."""
        while True:
            self.something.clear()
            try:
                await self.turn()
                self.failure = ""
            except Exception as err:
                self.fail(err)
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):  # wait_for of Python 3.11 may lose a cancellation that comes with it
                    await self.something.wait()

    def fail(self, error: Exception) -> None:
        """Tell of a turn that failed, once for each cause, however often it is tried again."""
        failure = f"{type(error).__name__}: {error}"
        if failure != self.failure:
            log.error("looking after the versions failed; it is tried again", exc_info=error)
        self.failure = failure

    async def turn(self) -> None:
        """Look, decide, tell the workers, judge the candidate, keep what was seen."""
        self.take_in(await self.look() if self.follows else [])
        self.advance()
        await self.decide()
        await self.save()

    async def look(self) -> list[str]:
        """Have the store looked at; what is wrong with it. One that does not answer holds up nothing else."""
        if self.looking is None:
            self.looking = asyncio.create_task(asyncio.to_thread(self.watcher.look))
        done, _ = await asyncio.wait([self.looking], timeout=STORE_SECONDS)
        if not done:
            return [f"{self.watcher.root} does not answer for {STORE_SECONDS:g} s"]
        self.looking = None
        for task in done:
            task.result()
        return self.watcher.faults

    def receive(self, worker: Worker, report: ObservedState) -> None:
        """What a worker says of itself."""
        changed = report.serves != worker.report.serves
        worker.report = report
        if report.progress is not None:
            self.add(report.progress)
        self.compare_workers()
        if changed:
            self.something.set()

    def lose(self, worker: Worker) -> None:
        """A worker has ended."""
        metrics.MODEL_VERSION.labels(self.watcher.name, str(worker.place)).set(0)
        self.compare_workers()
        self.something.set()

    def take_in(self, faults: list[str]) -> None:
        """What the store says now: a pointer that changed is obeyed again, a candidate that is another begins again. A fault is
        told when it begins and when it is another."""
        if self.watcher.changes != self.changes:
            self.changes = self.watcher.changes
            self.rejected.clear()
            self.noticed.pop(self.watcher.version, None)  # a candidate's time to load began when it was one
            self.refusal = None
            metrics.REFUSED_VERSION.labels(self.watcher.name).set(0)
        found = self.watcher.candidate
        if found is not None and found.started != self.tried:
            self.tried = found.started
            if found.version != self.watcher.version:
                self.rejected.pop(found.version, None)
        if faults and faults != self.faults:
            log.error("%s:%d stays live: %s", self.watcher.name, self.serving, "; ".join(faults))
        elif self.faults and not faults:
            log.info("the store can be read again")
        self.faults = faults
        metrics.REGISTRY_UNREADABLE.labels(self.watcher.name).set(bool(faults))

    def candidate(self) -> Candidate | None:
        """The one that is to be tried, or is."""
        found = self.watcher.candidate
        if found is None or found.version == self.serving or found.started == self.over:
            return None
        return found

    def target(self) -> int:
        """The version that is to be live."""
        return self.serving if self.watcher.version in self.rejected else self.watcher.version

    def advance(self) -> None:
        """Swap where the engine is ready; tell the workers what to ask from now on."""
        self.note_refusals()
        target, found = self.target(), self.candidate()
        if target != self.serving and self.engines.is_ready(target):
            self.put_into_service(target)
            found = self.candidate()
        if found is None or found.version in self.rejected:
            self.trial = self.progress = None
        elif self.trial != found and self.engines.is_ready(found.version):
            self.begin(found)
        wanted = {target, *({found.version} if found and found.version not in self.rejected else set())} - {self.serving}
        now = self.awake.now()
        self.noticed = {version: self.noticed.get(version, now) for version in sorted(wanted)}
        self.engines.want(self.serving, sorted(wanted), [self.trial.version] if self.trial else [])
        self.desired = DesiredState(self.serving, self.engines.addresses(), self.described(), self.refusal)
        for worker in self.workers():
            self.tell(worker)

    def tell(self, worker: Worker) -> None:
        worker.tell(self.desired)

    def described(self) -> ActiveCandidate | None:
        """The candidate, as the workers are told of it."""
        if self.trial is None:
            return None
        return ActiveCandidate(
            self.trial.version, self.trial.mode, self.trial.percent, self.trial.started, self.shown, self.trial.requests
        )

    def note_refusals(self) -> None:
        for version, since in self.noticed.items():
            if reason := self.engines.refused.get(version):
                self.reject(version, reason, UNUSABLE)
            elif self.awake.now() - since > LOAD_SECONDS and not self.engines.is_ready(version):
                self.reject(version, f"it was not loaded and warm within {LOAD_SECONDS:g} s", LATE)

    def reject(self, version: int, reason: str, kind: str) -> None:
        """Not to be held, and not to be tried again until the pointer changes. The reason is for the log and the history; it
        may name paths and libraries, so that callers are told the kind alone."""
        if version in self.rejected:
            return
        self.rejected[version] = reason = printable(reason)[:MAX_REASON]
        self.refusal = RefusedVersion(version, kind, datetime.now(UTC))
        metrics.SWAPS.labels(self.watcher.name, "refused").inc()
        metrics.REFUSED_VERSION.labels(self.watcher.name).set(version)
        name = self.watcher.name
        log.error("%s:%d is refused, %s:%d stays live: %s", name, version, name, self.serving, reason)

    def put_into_service(self, version: int) -> None:
        """Its engine is ready: the workers go over when they hear of it, each between two requests."""
        self.swap = Swap(version, self.serving, self.noticed.get(version, self.awake.now()))
        self.serving = version
        if self.trial is not None and self.trial.version != version:
            self.progress = Progress(self.trial.version, self.trial.started)  # it is compared with another from now on

    def compare_workers(self) -> None:
        """Say in the metrics which version each worker serves, and whether that is the same; a swap ends when it is."""
        ready = [worker for worker in self.workers() if worker.ready]
        for worker in ready:
            metrics.MODEL_VERSION.labels(self.watcher.name, str(worker.place)).set(worker.report.serves)
        alike = all(worker.report.serves == self.serving for worker in ready)
        metrics.WORKERS_IN_SYNC.labels(self.watcher.name).set(alike)
        if self.swap is not None and ready and alike:
            seconds = self.awake.now() - self.swap.noticed
            metrics.SWAPS.labels(self.watcher.name, "done").inc()
            metrics.SWAP_SECONDS.labels(self.watcher.name).observe(seconds)
            name, swap = self.watcher.name, self.swap
            log.info("%s:%d is live in place of %s:%d, after %.1f s", name, swap.version, name, swap.before, seconds)
            self.swap = None

    def begin(self, found: Candidate) -> None:
        """The candidate is ready: it is tried from now on, with what was seen of it before a restart."""
        self.trial = found
        self.progress = candidates.read_progress(self.watcher.root, self.watcher.name, found)
        self.shown = self.progress.candidate.requests
        what = (self.watcher.name, found.version, found.mode, found.percent, self.shown, found.requests)
        log.info("%s:%d is tried as a %s on %g %% of the requests, %d of %d seen", *what)

    def add(self, seen: Progress) -> None:
        """Add what a worker saw of the candidate of now."""
        total = self.progress
        if total is None or (seen.version, seen.started) != (total.version, total.started) or seen == empty(seen):
            return
        add_tally(total.candidate, seen.candidate)
        add_tally(total.in_service, seen.in_service)
        total.compared += seen.compared
        total.agreed += seen.agreed
        total.incomparable += seen.incomparable
        self.unsaved = True

    async def decide(self) -> None:
        """End the candidacy where it is known how."""
        found = self.candidate()
        metrics.CANDIDATE_VERSION.labels(self.watcher.name).set(self.trial.version if self.trial else 0)
        if found is None:
            return
        if (reason := self.rejected.get(found.version)) is not None:
            await self.end(found, Decision(False, f"refused: {reason}"))
        elif self.trial is not None and self.progress is not None and (decision := analyse(self.progress, found)):
            await self.end(found, decision)

    async def end(self, found: Candidate, decision: Decision) -> None:
        """Stop the candidate at once, then have the store record it, which makes it live or leaves it published."""
        name, result = self.watcher.name, "promoted" if decision.promoted else "rolled back"
        log.warning("%s:%d, tried as a %s, is %s: %s", name, found.version, found.mode, result, decision.reason)
        metrics.CANDIDATES_ENDED.labels(name, result.replace(" ", "_")).inc()
        self.over, self.trial = found.started, None
        if not decision.promoted:
            self.advance()
        try:
            what = self.watcher.root, name, decision.promoted, decision.reason
            await aside(candidates.end, *what, only=found)
            metrics.DECISION_UNRECORDED.labels(self.watcher.name).set(0)
        except Exception as err:  # whatever it is, the candidate is over here
            metrics.DECISION_UNRECORDED.labels(self.watcher.name).set(1)
            log.error(
                "that %s:%d was %s cannot be recorded in the store, it is not tried any more: %s",
                name,
                found.version,
                result,
                err,
            )
        self.progress, self.unsaved = None, False
        self.something.set()

    async def save(self, at_once: bool = False) -> None:
        """Keep what was seen, so that a restart goes on from there."""
        if self.progress is None or not self.unsaved or not (at_once or time.monotonic() - self.saved >= SAVE_SECONDS):
            return
        self.saved, self.unsaved = time.monotonic(), False
        self.shown = self.progress.candidate.requests
        copy = msgspec.convert(msgspec.to_builtins(self.progress), Progress)
        copy.updated = datetime.now(UTC)
        with suppress(OSError):  # a store that is mounted read-only: then a restart begins to count again
            await aside(candidates.write_progress, self.watcher.root, self.watcher.name, copy)


async def aside(call: Callable[..., object], *arguments: object, **named: object) -> None:
    """Have something done that waits for the store, in a thread; raises what it raises, and TimeoutError, an OSError, where
    the store does not answer."""
    async with asyncio.timeout(STORE_SECONDS):
        await asyncio.to_thread(call, *arguments, **named)


def empty(progress: Progress) -> Progress:
    """The same with nothing seen."""
    return Progress(progress.version, progress.started, updated=progress.updated)


def add_tally(total: Tally, seen: Tally) -> None:
    for field in ("requests", "errors", "images", "unsure", "confidence"):
        setattr(total, field, getattr(total, field) + getattr(seen, field))
    total.latency = [old + new for old, new in zip(total.latency, seen.latency, strict=True)]
