"""What a worker does besides serving: it tells the supervisor that it lives and which version answers, hears which
shall, and drains when it has to stop.
"""

import asyncio
import logging
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import msgspec

from service.rollout.messages import Channel, DesiredState, ObservedState
from service.stopwatch import step_of

if TYPE_CHECKING:
    from service.http.asgi import HttpApp

HANGUPS = (signal.SIGHUP, signal.SIGQUIT)
log = logging.getLogger("hubel")


class Controlled(Protocol):
    """What the desired state is for: it asks versions and reports on them."""

    def reconcile(self, desired: DesiredState) -> None:
        """Ask the versions that the supervisor says."""
        ...

    def report(self) -> ObservedState:
        """Which version answers, and what was seen of a candidate since ``reported``."""
        ...

    def upkeep(self) -> None:
        """Is due about once a second."""
        ...

    def reported(self) -> None:
        """The report was sent."""
        ...

    def on_change(self, send_state: Callable[[], object]) -> None:
        """``send_state`` is called when there is something new to report."""
        ...


class WorkerControl:
    """start: what is controlled, asked for once the server has started. desired: the first that the supervisor gave.
    hang_seconds: of silence, after which the supervisor takes it for hung. drain_seconds: between the word that we stop and
    the deed. upkeep: what else is to be done about once a second.
    """

    def __init__(
        self,
        http_app: "HttpApp",
        start: Callable[[], Controlled],
        line: Channel,
        desired: DesiredState,
        *,
        hang_seconds: float,
        drain_seconds: float,
        upkeep: Callable[[], object] = lambda: None,
    ) -> None:
        self.http_app = http_app
        self.start = start
        self.line = line
        self.desired = desired
        self.step = step_of(hang_seconds)
        self.drain_seconds = drain_seconds
        self.upkeep = upkeep

    def begin(self, finish: Callable[[], object], stop: Callable[[], object]) -> None:
        """The server has started. finish: has the answers that are being made end their connections. stop: lets nobody in
        any more, and ends the server when all are answered.
        """
        self.finish = finish
        self.stop = stop
        loop = asyncio.get_running_loop()
        for number in enders(signal.SIGTERM):
            loop.add_signal_handler(number, self.drain)
        self.http_app.begin()
        self.service = self.start()
        self.service.on_change(self.send_state)
        self.beat(loop)
        self.service.reconcile(self.desired)
        loop.add_reader(self.line.pipe, self.receive)

    def beat(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.call_later(self.step, self.beat, loop)
        self.send_state()
        self.service.upkeep()
        self.upkeep()

    def send_state(self) -> None:
        """Say how it is. What the supervisor does not take now, it hears the next time."""
        report = self.service.report()
        if self.line.send(report):
            self.service.reported()
        else:
            self.line.send(msgspec.structs.replace(report, progress=None))  # a sign of life, where the other is too long

    def receive(self) -> None:
        """Take the last of the desired states that have come; drain when the supervisor is gone."""
        try:
            data = self.line.pipe.recv(65_536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.drain()
        elif desired := list(self.line.parse(data, DesiredState)):
            self.service.reconcile(desired[-1])

    def drain(self) -> None:
        """Say on /readyz that we stop, and close connections after their answer; a moment later let nobody in."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self.line.pipe)
        if not self.http_app.draining:
            self.http_app.draining = True
            self.finish()
            log.info("no new connections in %g s, then the end when all requests are answered", self.drain_seconds)
            loop.call_later(self.drain_seconds, self.stop)


def enders(*always: signal.Signals) -> list[signal.Signals]:
    """The signals that let a service end well: some, and a terminal's unless whoever started it has them ignored, as nohup."""
    return [*always, *(number for number in HANGUPS if signal.getsignal(number) is not signal.SIG_IGN)]
