"""The process that holds the listening socket and keeps workers alive behind it.

A worker that ends is replaced at once, one that hangs is killed first; where that happens again and again, each try waits
longer. While none is there, connections wait in the socket's queue instead of being refused.
"""

import asyncio
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import msgspec

from models.terminal import program
from service.engine import start
from service.engine.board import Board
from service.engine.ipc import cut
from service.engine.messages import Load
from service.processes.control import enders
from service.processes.engines import EngineKeeper, say, say_next
from service.processes.usage import Usage, memory_limit
from service.rollout.controller import RolloutController
from service.rollout.messages import Channel, DesiredState, ObservedState
from service.rollout.watcher import RegistryWatcher
from service.settings import available_cores
from service.stopwatch import Patience, step_of
from service.telemetry import metrics, multiprocess

TOGETHER_SECONDS = 1.0  # make and a terminal may both pass on the signal that ends us
LOADING_SECONDS = 600.0  # for a worker to be ready, which waits for the first engine
PATIENCE_SECONDS = 5.0  # over what workers may take to stop
BACKOFF_SECONDS = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)  # before another try, by how many in a row came to nothing
STEADY_SECONDS = 5.0  # that a worker has been ready when it has come to something
UPKEEP_SECONDS = 1.0
HANGS = "hangs, it is killed"
COMMAND = tuple(program.module("service.processes.worker"))
T = TypeVar("T")
log = logging.getLogger("hubel")


@dataclass(eq=False)
class Worker:
    """A process in a place. pipe: our end; the worker speaks regularly, and sees by its end when we are gone.

    told: the last desired state that is on its way to it. report: the last it said. started: Unix time; began: the same, and
    since: when it was ready, in seconds of time.monotonic.
    """

    place: int
    process: asyncio.subprocess.Process
    pipe: socket.socket
    started: float
    began: float = field(default_factory=time.monotonic)
    ready: bool = False
    since: float = 0.0
    told: DesiredState | None = None
    report: ObservedState = field(default_factory=ObservedState)

    def __post_init__(self) -> None:
        self.line = Channel(self.pipe)

    def tell(self, desired: DesiredState) -> None:
        """Say what it shall hold, once; where it does not listen now, the next time this is called."""
        if desired != self.told and self.line.send(desired):
            self.told = desired

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            self.process.kill()

    def steady(self) -> bool:
        """It has been ready for some time."""
        return self.ready and time.monotonic() - self.since >= STEADY_SECONDS

    def __str__(self) -> str:
        return f"worker {self.place} (pid {self.process.pid})"


class Supervisor:
    """folder: of the metrics. watcher: of what is live; follows: whether changes of it are obeyed. load: what an engine is told,
    as EngineKeeper has it. workers: how many. hang_seconds: of silence after which a process is killed. stop_seconds: what
    workers may take to stop. command: starts one, with its place and the descriptors of socket, pipe and board as arguments;
    engine_command: an engine.
    """

    def __init__(
        self,
        listener: socket.socket,
        folder: Path,
        watcher: RegistryWatcher,
        *,
        load: Callable[[int, int, bool, bool], Load],
        follows: bool = True,
        workers: int,
        hang_seconds: float,
        stop_seconds: float,
        command: Sequence[str] = COMMAND,
        engine_command: Sequence[str] = start.COMMAND,
    ) -> None:
        self.listener = listener
        self.folder = folder
        self.places = range(workers)
        self.hang_seconds = hang_seconds
        self.stop_seconds = stop_seconds
        self.command = command
        self.workers: set[Worker] = set()
        self.board = Board.make()
        self.engines = EngineKeeper(self.board, load, hang_seconds=hang_seconds, failed=self.fail_to_load, command=engine_command)
        self.rollout = RolloutController(watcher, lambda: self.workers, self.engines, follows)
        self.proven = False  # a worker has been ready, so the model can be served
        self.failed = False
        self.reason = ""  # for which the first version could not be loaded
        self.hurried = False  # a second signal came, so that nobody waits for what is in flight
        self.stopping = asyncio.Event()
        self.stopped = 0.0  # when, in seconds of time.monotonic

    async def run(self, told: Callable[[], bool] = lambda: False) -> int:
        """Serve until a signal comes, or came before, which ``told`` says; the exit code: 1 where none could serve, or one that
        drained did not end well.
        """
        loop = asyncio.get_running_loop()
        for number in enders(signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        if told():
            self.stop()
        metrics.WORKERS_EXPECTED.set(len(self.places))
        metrics.CORES.set(available_cores())
        metrics.MEMORY_LIMIT.set(memory_limit())
        self.engines.want(self.rollout.serving)
        self.rollout.advance()
        others = [asyncio.create_task(work) for work in (self.rollout.run(), self.upkeep(), self.clear())]
        keepers = [asyncio.create_task(self.keep(place)) for place in self.places]
        await self.stopping.wait()
        for task in others:
            task.cancel()
        self.listener.close()  # the workers have it open until each has drained
        for worker in self.workers:
            with suppress(ProcessLookupError):
                worker.process.terminate()
        late = await self.wait_for(keepers, self.stop_seconds + PATIENCE_SECONDS)
        for worker in set(self.workers):
            log.error("%s does not stop, it is killed", worker)
            worker.kill()
        await asyncio.gather(*late)
        await self.engines.close()
        await self.rollout.save(at_once=True)
        return int(self.failed)

    async def wait_for(self, tasks: Iterable[asyncio.Task[T]], seconds: float) -> set[asyncio.Task[T]]:
        """Those that are not done by then, in time in which this process ran."""
        late, patience = set(tasks), Patience(step_of(seconds))
        while late and patience.seconds() < seconds:
            _, late = await asyncio.wait(late, timeout=patience.step)
        return late

    async def upkeep(self) -> None:
        usage = Usage()
        while True:
            metrics.upkeep()
            metrics.ENGINE_UP.labels(self.rollout.watcher.name).set(self.engines.is_up())
            workers = [worker.process.pid for worker in self.workers]
            usage.look({"supervisor": [os.getpid()], "worker": workers, "engine": self.engines.pids()})
            await asyncio.sleep(UPKEEP_SECONDS)

    async def clear(self) -> None:
        """Remove once more what services that were killed left: their workers may have drained while this one started."""
        await asyncio.sleep(self.stop_seconds + PATIENCE_SECONDS)
        if removed := multiprocess.clear(self.folder.parent):
            log.info("removed what services that were killed left in %s: %d folders", self.folder.parent, len(removed))

    def stop(self) -> None:
        """The first signal lets the workers drain; another, not sent along with it, ends them at once."""
        now = time.monotonic()
        if self.stopping.is_set() and now - self.stopped > TOGETHER_SECONDS:
            self.hurried = True
            for worker in self.workers:
                worker.kill()
        self.stopped = self.stopped or now
        self.stopping.set()

    def fail(self) -> None:
        self.failed = True
        self.stopping.set()

    def fail_to_load(self, reason: str) -> None:
        """The version that is to be served first cannot be had."""
        if not self.stopping.is_set():
            self.reason = reason
        self.fail()

    async def keep(self, place: int) -> None:
        """Keep a worker in a place until the service stops. Each that comes to nothing has the next wait longer, but for the
        first that was ready.
        """
        failures = 0  # in a row
        while not self.stopping.is_set():
            worker, reason = await self.have_one(place)
            failures = 0 if worker and worker.steady() else failures + 1
            if not self.proven and not self.stopping.is_set():
                if worker is None:  # one that ended has said why
                    log.error("%s, and none is ready yet: the service ends", reason)
                self.fail()
            if not self.stopping.is_set():
                at_once = bool(failures and worker and worker.ready)
                wait = BACKOFF_SECONDS[min(failures - at_once, len(BACKOFF_SECONDS) - 1)]
                log.error("%s, another %s", reason, say_next(wait))
                await self.pause(wait)

    async def have_one(self, place: int) -> tuple[Worker | None, str]:
        """A worker from its start to its end, None where it could not be started; and why it is not there any more."""
        try:
            worker = await self.start(place)
        except (OSError, RuntimeError) as err:  # the latter: no further thread
            return None, f"worker {place} cannot be started: {cut(getattr(err, 'strerror', None) or str(err))}"
        try:
            fault = await self.attend(worker)
        except Exception:
            log.exception("listening to %s failed", worker)
            fault = "cannot be listened to, it is killed"
        ending = asyncio.ensure_future(worker.process.wait())
        if not fault and await self.wait_for([ending], self.stop_seconds + PATIENCE_SECONDS):
            fault = "does not end, it is killed"
        if fault:
            worker.kill()
        code = await ending
        if fault and self.stopping.is_set():
            log.error("%s %s", worker, fault)
        self.bury(worker, code)
        return worker, f"{worker} {fault or f'ended ({say(code)})'}"

    async def pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.stopping.wait()

    async def start(self, place: int) -> Worker:
        """A worker that begins to load. Raises OSError, and RuntimeError where there can be no further thread."""
        multiprocess.prepare(self.folder, multiprocess.name_of(place))
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                process = await asyncio.create_subprocess_exec(
                    *(*self.command, *map(str, (place, self.listener.fileno(), theirs.fileno(), self.board.handle))),
                    stdin=asyncio.subprocess.DEVNULL,
                    pass_fds=(self.listener.fileno(), theirs.fileno(), self.board.handle),
                    process_group=0,  # a terminal sends Ctrl-C to a whole group, but the supervisor alone decides
                )
            except BaseException:
                ours.close()  # should it have begun all the same, it ends when it sees that
                raise
        worker = Worker(place, process, ours, time.time())
        self.rollout.tell(worker)
        self.workers.add(worker)
        if self.stopping.is_set():
            process.terminate()
        return worker

    async def attend(self, worker: Worker) -> str:
        """Listen to a worker until it ends, or says nothing for too long or what it should not: why it is to be killed then."""
        limit, patience = LOADING_SECONDS, Patience(step_of(self.hang_seconds))
        receiving = self.receive(worker)
        try:
            while patience.seconds() <= limit:
                await asyncio.wait([receiving], timeout=patience.step)
                if not receiving.done():
                    continue
                if not (said := receiving.result()):
                    return ""
                for report in worker.line.parse(said, ObservedState):
                    limit = self.hang_seconds
                    patience.restart()
                    self.take_report(worker, report)
                receiving = self.receive(worker)
            return HANGS
        except msgspec.DecodeError as err:
            return f"says what cannot be understood ({cut(str(err))}), it is killed"
        except OSError:
            return ""
        finally:
            receiving.cancel()

    def receive(self, worker: Worker) -> asyncio.Task[bytes]:
        """What it says next. A task, as one that is cut off by a timer might lose what has just come."""
        return asyncio.ensure_future(asyncio.get_running_loop().sock_recv(worker.pipe, 65_536))

    def take_report(self, worker: Worker, report: ObservedState) -> None:
        if not worker.ready:
            self.welcome(worker)
        self.rollout.receive(worker, report)

    def welcome(self, worker: Worker) -> None:
        worker.ready = self.proven = True
        worker.since = time.monotonic()
        metrics.WORKER_PID.labels(str(worker.place)).set(worker.process.pid)
        metrics.WORKER_STARTED.labels(str(worker.place)).set(worker.started)
        self.count()
        log.info("%s is ready after %.1f s", worker, worker.since - worker.began)

    def bury(self, worker: Worker, code: int) -> None:
        """Take what is left of a worker out of the metrics, and say how it ended."""
        worker.pipe.close()
        self.workers.discard(worker)
        self.board.forget(worker.place)
        multiprocess.forget_live(self.folder, multiprocess.name_of(worker.place))
        if worker.ready:
            metrics.WORKER_PID.labels(str(worker.place)).set(0)
        self.count()
        if self.stopping.is_set():
            self.check_end(worker, code)
            return
        self.rollout.lose(worker)
        metrics.WORKER_RESTARTS.inc()

    def check_end(self, worker: Worker, code: int) -> None:
        """Say so where a worker that served did not end as one does that has answered all."""
        if worker.ready and code and not self.hurried:
            self.failed = True
            log.error("%s ended (%s) while it drained, what it had not answered yet is lost", worker, say(code))

    def count(self) -> None:
        metrics.WORKERS_ALIVE.set(sum(worker.ready for worker in self.workers))


def allow_many_files() -> None:
    """Lift the limit of open files, connections among them, to what the system allows; workers inherit it."""
    import resource  # not on every platform

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
