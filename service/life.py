"""What a worker does beside serving: it tells the supervisor that it lives and which versions it holds, hears which it shall
hold, and drains when it has to stop.

Neighbours: worker.py starts it, supervisor.py listens, orders.py is what both say.
"""

import asyncio
import logging
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from service.orders import Line, Orders

if TYPE_CHECKING:
    from service.edge import Edge

BEAT_SECONDS = 1.0
log = logging.getLogger("hubel")


class Life:
    """orders: the first that the supervisor gave. hang_seconds: how long the network may compute a batch. drain_seconds:
    between the word that we stop and the deed.
    """

    def __init__(self, edge: "Edge", line: Line, orders: Orders, *, hang_seconds: float, drain_seconds: float) -> None:
        self.edge = edge
        self.line = line
        self.orders = orders
        self.hang_seconds = hang_seconds
        self.drain_seconds = drain_seconds

    def begin(self, finish: Callable[[], object], stop: Callable[[], object]) -> None:
        """The server has started. finish: has the answers that are being made end their connections. stop: lets nobody in
        any more, and ends the server when all are answered.
        """
        self.finish = finish
        self.stop = stop
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.drain)
        self.service = self.edge.begin()
        self.service.on_change(self.speak)
        self.beat(loop)
        self.service.obey(self.orders)
        loop.add_reader(self.line.pipe, self.hear)

    def beat(self, loop: asyncio.AbstractEventLoop) -> None:
        self.speak()
        loop.call_later(min(BEAT_SECONDS, self.hang_seconds / 4), self.beat, loop)

    def speak(self) -> None:
        """Say how it is. What the supervisor does not take now, it hears the next time."""
        report = self.service.report()
        hung = self.edge.busy_seconds() > self.hang_seconds
        if self.line.say(msgspec.structs.replace(report, hung=hung)):
            self.service.reported()

    def hear(self) -> None:
        """Obey the last of the orders that have come; drain when the supervisor is gone."""
        try:
            data = self.line.pipe.recv(65_536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.drain()
        elif orders := list(self.line.parse(data, Orders)):
            self.service.obey(orders[-1])

    def drain(self) -> None:
        """Say on /readyz that we stop, and close connections after their answer; a moment later let nobody in."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self.line.pipe)
        if not self.edge.draining:
            self.edge.draining = True
            self.finish()
            log.info("no new connections in %g s, then the end when all requests are answered", self.drain_seconds)
            loop.call_later(self.drain_seconds, self.stop)
