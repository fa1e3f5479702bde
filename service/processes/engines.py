"""The supervisor's engines: one process for each version that answers or is tried.

One that ends or hangs is replaced at once, and what it had is computed by the next. A version that is not live yet, and cannot be
loaded or ends its engine, is refused. One that is not needed any more ends once all fronts have left it.
"""

import asyncio
import logging
import math
import signal
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import msgspec

from models.errors import PackageError
from service.engine import messages
from service.engine.board import ENGINES, Board
from service.engine.ipc import MessageSocket, cut, split
from service.engine.messages import Activate, Failed, Load, Loaded
from service.engine.start import BEFORE_ITS_FRONTS, COMMAND, FIRST, Address, arguments, set_oom_score
from service.stopwatch import Awake, Patience, step_of
from service.telemetry import metrics

LOAD_SECONDS = 600.0  # for the first version to be loaded, checked and warmed; what is loaded beside it has the controller's time
RETIRE_SECONDS = 60.0  # for the fronts to leave an engine
CLOSE_SECONDS = 5.0  # for all engines to end once the fronts have
BACKOFF_SECONDS = (*[0.0] * 4, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)  # before another try, by how many in a row came to nothing
STEADY_SECONDS = 2.0  # that an engine has been ready when it has come to something
log = logging.getLogger("hubel")


@dataclass(eq=False)
class Engine:
    """The engine of a version, whichever process that is. ready: a process has loaded it once. since: when the one of now had,
    in seconds of time.monotonic. left: set when it is to end.
    """

    version: int
    place: int
    address: Address
    task: "asyncio.Task[None] | None" = None
    process: asyncio.subprocess.Process | None = None
    control: socket.socket | None = None
    ready: bool = False
    since: float = math.inf
    active: bool = False
    left: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def leaving(self) -> bool:
        return self.left.is_set()

    def activate(self) -> None:
        """It answers from now on."""
        if self.process is not None and self.control is not None:
            set_oom_score(self.process.pid, BEFORE_ITS_FRONTS)
            with suppress(OSError):
                MessageSocket(self.control).send(Activate())

    def leave(self) -> None:
        """It is to end once all fronts have left it."""
        self.left.set()
        if self.control is not None:
            with suppress(OSError):
                self.control.shutdown(socket.SHUT_RDWR)  # who reads it sees its end, and closes it
        self.address.listener.close()


class EngineKeeper:
    """load: what the engine of a version is told, by version, place, whether it is loaded beside another, and whether one has
    been before; raises PackageError. hang_seconds: of silence after which one is killed. failed: called with the reason where
    the first cannot be had.
    """

    def __init__(
        self,
        board: Board,
        load: Callable[[int, int, bool, bool], Load],
        *,
        hang_seconds: float,
        failed: Callable[[str], object],
        command: Sequence[str] = COMMAND,
    ) -> None:
        self.board = board
        self.load = load
        self.hang_seconds = hang_seconds
        self.failed = failed
        self.command = command
        self.engines: dict[int, Engine] = {}
        self.places: set[int] = set()  # on the board, of these and of those that leave
        self.leaving: set[asyncio.Task[None]] = set()
        self.refused: dict[int, str] = {}  # version -> why it cannot be had, until nobody wants it any more
        self.serving = 0
        self.changed = asyncio.Event()

    def want(self, serving: int, others: Sequence[int] = (), active: Sequence[int] = ()) -> None:
        """Have an engine for each of these versions alone. active: of the others, those that are asked already."""
        self.serving = serving
        wanted = {serving, *others}
        self.refused = {version: reason for version, reason in self.refused.items() if version in wanted}
        for version in self.engines.keys() - wanted:
            self._retire(self.engines.pop(version))
        for version in (serving, *others):
            if version not in self.engines and version not in self.refused:
                self._add(version)
        for version in (serving, *active):
            if (engine := self.engines.get(version)) and engine.ready and not engine.active:
                engine.active = True
                engine.activate()

    def is_ready(self, version: int) -> bool:
        return version in self.engines and self.engines[version].ready

    def is_up(self) -> bool:
        """Whether a process holds the version that serves, now."""
        engine = self.engines.get(self.serving)
        return engine is not None and engine.process is not None and engine.since < math.inf

    def pids(self) -> list[int]:
        return [engine.process.pid for engine in self.engines.values() if engine.process is not None]

    def addresses(self) -> dict[int, str]:
        """Where fronts find those that are ready; the live one, which they may wait for, from the start on."""
        return {v: engine.address.name for v, engine in sorted(self.engines.items()) if engine.ready or v == self.serving}

    def _add(self, version: int) -> None:
        if not (free := set(range(ENGINES)) - self.places):
            self.refused[version] = f"{ENGINES} engines run, and there is no place for another until one has ended"
            return
        engine = self.engines[version] = Engine(version, min(free), Address.make())
        self.places.add(engine.place)
        engine.task = asyncio.create_task(self._keep(engine))
        engine.task.add_done_callback(lambda _: self.places.discard(engine.place))

    def _retire(self, engine: Engine) -> None:
        engine.leave()
        if engine.task is not None:
            self.leaving.add(engine.task)
            engine.task.add_done_callback(self.leaving.discard)

    async def _keep(self, engine: Engine) -> None:
        """Have a process for a version until that is to leave, or is refused."""
        failures = 0
        while not engine.leaving:
            engine.since = math.inf
            try:
                reason = await self._have_one(engine)
            except Exception as err:
                log.exception("looking after the engine of version %d failed", engine.version)
                reason = f"{type(err).__name__}: {err}"
            if engine.leaving:
                break
            steady = time.monotonic() - engine.since > STEADY_SECONDS
            failures = 1 if steady else failures + 1
            if engine.version != self.serving:
                self.refused[engine.version] = cut(reason)
                self._retire(self.engines.pop(engine.version))
                self.changed.set()
            elif not engine.ready:
                self.failed(reason)
                return
            else:
                wait = BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS) - 1)]
                metrics.ENGINE_RESTARTS.inc()
                log.error("engine of version %d: %s, another %s", engine.version, reason, say_next(wait))
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await engine.left.wait()

    async def _have_one(self, engine: Engine) -> str:
        """A process from its start to its end; why it is not there any more."""
        beside = not engine.ready and engine.version != self.serving
        try:
            request = self.load(engine.version, engine.place, beside, engine.ready)
        except PackageError as err:
            return str(err)
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with theirs:
            words, handles = arguments(engine.address.listener, theirs, self.board, beside)
            try:
                process = await asyncio.create_subprocess_exec(
                    *self.command, *words, stdin=asyncio.subprocess.DEVNULL, pass_fds=handles, process_group=0
                )
            except (OSError, RuntimeError) as err:  # the latter: no further thread
                ours.close()
                return f"its process cannot be started: {getattr(err, 'strerror', None) or err}"
        engine.process, engine.control = process, ours
        ending = asyncio.ensure_future(process.wait())
        try:
            set_oom_score(process.pid, FIRST if beside else BEFORE_ITS_FRONTS)
            ours.setblocking(True)
            MessageSocket(ours).send(request)
            ours.setblocking(False)
            if engine.leaving:
                engine.leave()
            reason = await self._loaded(engine, ending)
            return reason or await self._watch(engine, ending)
        finally:
            try:
                await self._ended(ending, RETIRE_SECONDS if engine.leaving and engine.ready else 0.5)
            finally:
                if not ending.done():
                    with suppress(ProcessLookupError):
                        process.kill()
                await self._bury(engine, ending)

    async def _bury(self, engine: Engine, ending: "asyncio.Future[int]") -> None:
        log.debug("the engine of version %d ended (%s)", engine.version, say(await ending))
        self.board.engine(engine.place).clear()
        if engine.control is not None:
            engine.control.close()
        engine.process = engine.control = None

    async def _ended(self, ending: "asyncio.Future[int]", seconds: float) -> bool:
        done, _ = await asyncio.wait([ending], timeout=seconds)
        return bool(done)

    async def _loaded(self, engine: Engine, ending: "asyncio.Future[int]") -> str:
        """Until a process has loaded its version; why it has not."""
        patience = Patience(step_of(LOAD_SECONDS))
        receiving = asyncio.ensure_future(self._receive(engine))
        try:
            while patience.seconds() <= LOAD_SECONDS:
                await asyncio.wait([receiving], timeout=patience.step)
                if engine.leaving:
                    return "it is not wanted any more"
                if receiving.done():
                    reply = receiving.result()
                    if isinstance(reply, Failed):
                        return reply.reason
                    if reply is None:
                        await self._ended(ending, 1.0)
                        return f"its process ended ({say(ending.result()) if ending.done() else 'unknown'}) while it was loaded"
                    engine.ready, engine.since = True, time.monotonic()
                    if engine.active:
                        engine.activate()
                    self.changed.set()
                    return ""
            return f"it was not loaded within {LOAD_SECONDS:g} s"
        finally:
            receiving.cancel()

    async def _receive(self, engine: Engine) -> Loaded | Failed | None:
        """What a process says of its version; None where it has ended."""
        message, data, loop = None, b"", asyncio.get_running_loop()
        try:
            while message is None:
                if engine.control is None or not (more := await loop.sock_recv(engine.control, 65_536)):
                    return None
                message, data = split(data + more)
            return messages.FROM_ENGINE.decode(message)
        except (OSError, EOFError):
            return None
        except msgspec.DecodeError as err:
            return Failed("DecodeError", f"its process says what cannot be understood: {err}")

    async def _watch(self, engine: Engine, ending: "asyncio.Future[int]") -> str:
        """Until a process ends, or hangs: that is said, and it is killed."""
        row, step = self.board.engine(engine.place), step_of(self.hang_seconds)
        awake, since, alive = Awake(2 * step), 0.0, row.alive
        while not engine.leaving:
            if await self._ended(ending, step):
                return f"its process ended ({say(ending.result())})"
            if row.alive != alive:
                since, alive = awake.now(), row.alive
            elif awake.now() - since > self.hang_seconds:
                with suppress(ProcessLookupError):
                    engine.process.kill() if engine.process else None
                return "it hangs, it is killed"
        return ""

    async def close(self) -> None:
        """End all of them: the fronts have ended."""
        for version in list(self.engines):
            self._retire(self.engines.pop(version))
        tasks = list(self.leaving)
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSE_SECONDS)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def say(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def say_next(wait: float) -> str:
    """When another process comes, in seconds."""
    return f"is tried in {wait:g} s" if wait else "takes its place"
