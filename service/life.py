"""What a worker does beside serving: it tells the supervisor that it lives, and drains when it has to stop.

Neighbours: worker.py starts it, supervisor.py listens.
"""

import asyncio
import logging
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service.edge import Edge

ALIVE = b"."
HUNG = b"h"  # the network has computed one batch for too long
BEAT_SECONDS = 1.0
log = logging.getLogger("hubel")


class Life:
    """hang_seconds: how long the network may compute a batch. drain_seconds: between the word that we stop and the deed."""

    def __init__(self, edge: "Edge", pipe: socket.socket, *, hang_seconds: float, drain_seconds: float) -> None:
        self.edge = edge
        self.pipe = pipe
        self.hang_seconds = hang_seconds
        self.drain_seconds = drain_seconds

    def begin(self, stop: Callable[[], object]) -> None:
        """The server has started. stop: lets nobody in any more, and ends it when all are answered."""
        self.stop = stop
        loop = asyncio.get_running_loop()
        self.pipe.setblocking(False)
        loop.add_reader(self.pipe, self.drain)  # the supervisor says nothing: what can be read is that it is gone
        loop.add_signal_handler(signal.SIGTERM, self.drain)
        self.edge.begin()
        self.beat(loop)

    def beat(self, loop: asyncio.AbstractEventLoop) -> None:
        with suppress(OSError):  # it is gone, or looks at us later
            self.pipe.send(HUNG if self.edge.busy_seconds() > self.hang_seconds else ALIVE)
        loop.call_later(min(BEAT_SECONDS, self.hang_seconds / 4), self.beat, loop)

    def drain(self) -> None:
        """Say on /readyz that we stop, and close connections after their answer; a moment later let nobody in."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self.pipe)
        if not self.edge.draining:
            self.edge.draining = True
            log.info("no new connections in %g s, then the end when all requests are answered", self.drain_seconds)
            loop.call_later(self.drain_seconds, self.stop)
