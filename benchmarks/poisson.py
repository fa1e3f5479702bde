"""The open-loop client: requests that come when they come (a Poisson process), whether or not earlier ones are answered.

    python -m benchmarks.poisson    reads a Plan as one line of JSON and prints a Seen

It runs in a process of its own, so that its CPU time is known, and on raw sockets: asyncio's timers, and uvloop's, know
whole milliseconds only, and an answer can take less. Latency counts from the moment a request was due, so that a client
that is late does not make a server look fast.
"""

import random
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from benchmarks import wrk
from benchmarks.bodies import Bodies
from benchmarks.numbers import percentile
from benchmarks.wire import Connection, answer_in

LEAD = 0.2  # share of the time that goes by before answers count
DRAIN = 0.05  # seconds that the client waits at most before it looks whether it may end


class Plan(Struct):
    """rate: requests a second, for ``seconds``; then ``patience`` more seconds for the answers.

    file: requests as benchmarks.wrk.write makes it. connections: no more are open at a time; a request that finds none
    free is not sent, and is counted.
    """

    port: int
    file: str
    rate: float
    seconds: float
    patience: float = 5.0
    connections: int = 1024
    seed: int = 0


class Group(Struct):
    """Answers with one status: how many, and their milliseconds."""

    count: int
    p50_ms: float
    p99_ms: float
    max_ms: float


class Seen(Struct):
    """What came of it. offered: requests sent a second. goodput: answers of 200 a second while requests were sent,
    without the first fifth. late_ms: 99 % were sent at most so late. client_cpu: share of a core.
    """

    planned: float
    offered: float
    sent: int
    unsent: int
    unanswered: int
    broken: int
    goodput: float
    answers: dict[str, Group]
    late_ms: float
    client_cpu: float


class Client:
    """Sends the plan's requests and notes (due, sent, answered, status) of each."""

    def __init__(self, plan: Plan, requests: list[bytes]) -> None:
        self.plan = plan
        self.requests = requests
        self.poll = select.epoll()
        self.connections: dict[int, Connection] = {}
        self.free: list[Connection] = []
        self.sent = self.unsent = self.broken = 0
        self.lateness: list[float] = []
        self.answers: list[tuple[float, float, int]] = []  # due, answered, status

    def run(self) -> float:
        """Send on time, then wait for what is missing. Returns the time of the beginning."""
        draw = random.Random(self.plan.seed)
        due = began = time.perf_counter() + 0.01
        end = began + self.plan.seconds
        while (due := due + draw.expovariate(self.plan.rate)) < end:
            self.serve(due)
            self.send(due)
        until = end + self.plan.patience
        self.serve(end)
        while self.waiting() and (now := time.perf_counter()) < until:
            self.serve(min(until, now + 0.05))
        return began

    def waiting(self) -> int:
        return len(self.connections) - len(self.free)

    def serve(self, until: float) -> None:
        """Take answers until a moment. select() waits for microseconds, epoll alone for whole milliseconds."""
        while True:
            left = until - time.perf_counter()
            select.select([self.poll], [], [], max(0.0, left))
            for number, _ in self.poll.poll(0):
                self.handle(self.connections[number])
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
        if len(self.connections) >= self.plan.connections:
            return None
        try:
            connection = Connection(self.plan.port)
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
        except OSError:
            self.close(connection)
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
        except OSError:
            more = b""
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

    def close(self, connection: Connection) -> None:
        """Forget a connection; a request that was on its way there is broken."""
        self.broken += connection.due > 0
        if connection in self.free:
            self.free.remove(connection)
        del self.connections[connection.number]
        connection.socket.close()


def group(answers: Sequence[tuple[float, float, int]]) -> dict[str, Group]:
    """Answers by status, most frequent first."""
    spans: dict[int, list[float]] = {}
    for due, answered, status in answers:
        spans.setdefault(status, []).append(1000 * (answered - due))
    return {
        str(status): Group(len(found), percentile(found, 50), percentile(found, 99), max(found))
        for status, found in sorted(spans.items(), key=lambda item: -len(item[1]))
    }


def run(plan: Plan) -> Seen:
    """Carry out a plan."""
    client = Client(plan, wrk.read(Path(plan.file)))
    cpu = time.process_time()
    began = client.run()
    cpu = time.process_time() - cpu
    first, last = began + LEAD * plan.seconds, began + plan.seconds
    good = sum(status == 200 and first <= answered < last for _, answered, status in client.answers)
    return Seen(
        planned=plan.rate,
        offered=client.sent / plan.seconds,
        sent=client.sent,
        unsent=client.unsent,
        unanswered=client.waiting(),
        broken=client.broken,
        goodput=good / (last - first),
        answers=group(client.answers),
        late_ms=1000 * percentile(client.lateness, 99),
        client_cpu=cpu / (time.perf_counter() - began),
    )


def load(plan: Plan, sent: Bodies) -> Seen:
    """Carry out a plan in a process of its own; its ``file`` is written here."""
    with tempfile.TemporaryDirectory() as folder:
        plan.file = str(wrk.write(sent, Path(folder)))
        command = [sys.executable, "-m", "benchmarks.poisson"]
        limit = 3 * (plan.seconds + plan.patience) + 60
        done = subprocess.run(command, input=msgspec.json.encode(plan), stdout=subprocess.PIPE, check=True, timeout=limit)
    return msgspec.json.decode(done.stdout, type=Seen)


if __name__ == "__main__":
    seen = run(msgspec.json.decode(sys.stdin.buffer.read(), type=Plan))
    sys.stdout.buffer.write(msgspec.json.encode(seen))
