"""Requests sent when they arrive, and their answers: one thread, raw sockets, epoll.

asyncio's timers, and uvloop's, know whole milliseconds only, and an answer can take less.
"""

import random
import select
import time
from collections.abc import Iterator

from msgspec import Struct

from benchmarks.wire import Connection, answer_in


class Arrivals(Struct):
    """Requests at random moments, ``rate`` a second on average, for ``seconds``; then ``patience`` more seconds for the
    answers. connections: no more are open at a time; a request that finds none free is not sent, and is counted.
    """

    port: int
    rate: float
    seconds: float
    patience: float = 5.0
    connections: int = 1024
    seed: int = 0


class Client:
    """Sends what arrives and notes (due, sent, answered, status) of each."""

    def __init__(self, arrivals: Arrivals, requests: list[bytes]) -> None:
        self.arrivals = arrivals
        self.requests = requests
        self.poll = select.epoll()
        self.connections: dict[int, Connection] = {}
        self.free: list[Connection] = []
        self.sent = self.unsent = self.broken = 0
        self.lateness: list[float] = []
        self.answers: list[tuple[float, float, int]] = []  # due, answered, status

    def run(self) -> float:
        """Send on time, then wait for what is missing. Returns the time of the beginning."""
        began = time.perf_counter() + 0.01
        end = began + self.arrivals.seconds
        for due in self.moments(began, end):
            self.serve(due)
            self.send(due)
        until = end + self.arrivals.patience
        self.serve(end)
        while self.waiting() and (now := time.perf_counter()) < until:
            self.serve(min(until, now + 0.05))
        return began

    def moments(self, began: float, end: float) -> Iterator[float]:
        """When each request is due."""
        draw, due = random.Random(self.arrivals.seed), began
        while (due := due + draw.expovariate(self.arrivals.rate)) < end:
            yield due

    def end(self) -> int:
        """Close everything; returns how many requests were not answered."""
        waiting = self.waiting()
        for connection in self.connections.values():
            connection.socket.close()
        self.poll.close()
        return waiting

    def waiting(self) -> int:
        return len(self.connections) - len(self.free)

    def serve(self, until: float) -> None:
        """Take answers until a moment. select() waits for microseconds, epoll alone for whole milliseconds."""
        while True:
            left = until - time.perf_counter()
            select.select([self.poll], [], [], max(0.0, left))
            for number, _ in self.poll.poll(0):
                if connection := self.connections.get(number):
                    self.handle(connection)
            if left <= 0:
                return

    def send(self, due: float) -> None:
        connection = self.free.pop() if self.free else self.connect()
        if connection is None:
            self.unsent += 1
            return
        connection.due = due
        connection.unsent = memoryview(self.requests[self.sent % len(self.requests)])
        self.sent += 1
        self.lateness.append(time.perf_counter() - due)
        self.push(connection)

    def connect(self) -> Connection | None:
        if len(self.connections) >= self.arrivals.connections:
            return None
        try:
            connection = Connection(self.arrivals.port)
        except OSError:
            return None
        self.connections[connection.number] = connection
        self.poll.register(connection.number, select.EPOLLIN)
        return connection

    def push(self, connection: Connection) -> bool:
        """Send what can be sent; False where the connection is lost."""
        try:
            if connection.push():
                self.poll.modify(connection.number, select.EPOLLIN | (select.EPOLLOUT if connection.unsent else 0))
        except OSError as err:
            self.close(connection, err)
            return False
        return True

    def handle(self, connection: Connection) -> None:
        """Send more of a request, or take more of an answer."""
        if connection.unsent and not self.push(connection):
            return
        try:
            more = connection.socket.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError as err:
            self.close(connection, err)
            return
        connection.received += more
        if not more:
            self.close(connection)
        elif answer := answer_in(connection.received):
            self.finish(connection, *answer)

    def finish(self, connection: Connection, status: int, stays: bool) -> None:
        self.answers.append((connection.due, time.perf_counter(), status))
        connection.due, connection.received = 0.0, b""
        if stays and not connection.unsent:
            self.free.append(connection)
        else:
            self.close(connection)

    def close(self, connection: Connection, error: OSError | None = None) -> None:
        """Forget a connection; a request that was on its way there is broken."""
        self.broken += connection.due > 0
        if connection in self.free:
            self.free.remove(connection)
        del self.connections[connection.number]
        connection.socket.close()
