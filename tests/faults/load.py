"""Load on the real service from a process of its own, with the fate of every request: benchmarks/arrivals.py, recorded.

    python -m tests.faults.load FILE OUT    sends FILE's requests as a Plan, JSON on standard input, says; writes Seen

Open loop: a request is sent when it is due, whether or not earlier ones are answered, and its latency counts from then.
Times are seconds of time.perf_counter, which on Linux is one clock for all processes.
"""

import itertools
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from benchmarks import wrk
from benchmarks.arrivals import Arrivals, Client
from benchmarks.numbers import percentile
from benchmarks.wire import Connection
from tests.server import ROOT

LEAD = 0.2  # share of the time that goes by before answers count
End = Literal["waiting", "answered", "refused", "reset", "closed", "unsent"]


class Plan(Arrivals):
    """Requests ``rate`` a second at random moments ("poisson") or at equal distances ("even"); or "closed": each of
    ``connections`` clients asks again when it is answered, to find out how much can be served.
    """

    spacing: Literal["poisson", "even", "closed"] = "poisson"


class Fate(Struct, array_like=True):
    """What became of a request. kind: its place among those sent in rotation. port: the client's own; it tells the
    connection. fresh: the first on its connection. written: when the system had taken its last byte, 0 where it did not.

    end: "answered", or without an answer: "refused" by a closed port, "reset" or "closed" by the server, "unsent" because
    no connection was free, "waiting" still when the client had no more patience.
    """

    due: float
    kind: int
    sent: float = 0.0
    written: float = 0.0
    ended: float = 0.0
    status: int = 0
    end: End = "waiting"
    port: int = 0
    fresh: bool = False
    retry_after: str = ""
    request_id: str = ""

    @property
    def milliseconds(self) -> float:
        return 1000 * (self.ended - self.due)


class Seen(Struct):
    """All requests of a run. ``began``: when the first could be due. late_ms: 99 % were sent at most so late."""

    began: float
    seconds: float
    late_ms: float
    client_cpu: float
    fates: list[Fate]

    def of(self, *kinds: int) -> "Seen":
        """The same with only these kinds of requests."""
        return msgspec.structs.replace(self, fates=[fate for fate in self.fates if fate.kind in kinds])

    def with_status(self, status: int) -> list[Fate]:
        return [fate for fate in self.fates if fate.status == status]

    def ended(self, *ends: End) -> list[Fate]:
        return [fate for fate in self.fates if fate.end in ends]

    def lost(self) -> list[Fate]:
        """Requests that were sent whole, or in part, and got no answer."""
        return self.ended("reset", "closed", "waiting")

    def goodput(self, images: Callable[[int], int] = lambda kind: 1) -> float:
        """Images answered with 200 a second, while requests were sent, without the first fifth."""
        first, last = self.began + LEAD * self.seconds, self.began + self.seconds
        good = sum(images(fate.kind) for fate in self.with_status(200) if first <= fate.ended < last)
        return good / (last - first)

    def milliseconds(self, percent: float, status: int = 200, since: float = 0.0, until: float = float("inf")) -> float:
        """A percentile of the latencies of answers to what was due in a span of time; NaN where there is none."""
        spans = [fate.milliseconds for fate in self.with_status(status) if since <= fate.due < until]
        return percentile(spans, percent) if spans else float("nan")

    def statuses(self) -> dict[str, int]:
        """How many of each status, or of each other end."""
        names = [str(fate.status) if fate.status else fate.end for fate in self.fates]
        return {name: names.count(name) for name in sorted(set(names))}


class Recorder(Client):
    """The open-loop client, which notes the fate of every request."""

    def __init__(self, plan: Plan, requests: list[bytes]) -> None:
        super().__init__(plan, requests)
        self.plan = plan
        self.fates: list[Fate] = []
        self.current: dict[int, Fate] = {}  # by connection, what is on its way there
        self.used: set[int] = set()  # connections that have carried a request
        self.until = float("inf")  # when closed-loop clients stop
        self.stopped = False  # nothing more is to be sent

    def moments(self, began: float, end: float) -> Iterator[float]:
        if self.plan.spacing == "poisson":
            dues = super().moments(began, end)
        elif self.plan.spacing == "even":
            dues = (began + i / self.plan.rate for i in range(int(self.plan.seconds * self.plan.rate)))
        else:
            self.until = end
            dues = (time.perf_counter() for _ in range(self.plan.connections))
        return itertools.takewhile(lambda _: not self.stopped, dues)

    def serve(self, until: float) -> None:
        super().serve(min(until, time.perf_counter() + 0.05) if self.stopped else until)

    def send(self, due: float) -> None:
        fate = Fate(due, len(self.fates) % len(self.requests), ended=due)
        self.fates.append(fate)
        connection = self.free.pop() if self.free else self.connect()
        if connection is None:
            self.unsent += 1
            fate.end = "unsent" if len(self.connections) >= self.plan.connections else "refused"
            return
        self.sent += 1
        fate.sent, fate.fresh = time.perf_counter(), connection.number not in self.used
        fate.port = connection.socket.getsockname()[1]
        self.lateness.append(fate.sent - due)
        self.used.add(connection.number)
        self.current[connection.number] = fate
        connection.due, connection.unsent = due, memoryview(self.requests[fate.kind])
        self.push(connection)

    def push(self, connection: Connection) -> bool:
        whole = super().push(connection)
        if whole and not connection.unsent and (fate := self.current.get(connection.number)) and not fate.written:
            fate.written = time.perf_counter()
        return whole

    def finish(self, connection: Connection, status: int, stays: bool) -> None:
        fate = self.current.pop(connection.number)
        fate.status, fate.end, fate.ended = status, "answered", time.perf_counter()
        head = connection.received.partition(b"\r\n\r\n")[0]
        fate.retry_after, fate.request_id = field(head, b"retry-after"), field(head, b"x-request-id")
        super().finish(connection, status, stays)
        if self.plan.spacing == "closed" and fate.ended < self.until:
            self.send(fate.ended)

    def close(self, connection: Connection, error: OSError | None = None) -> None:
        if fate := self.current.pop(connection.number, None):
            fate.ended = time.perf_counter()
            fate.end = "refused" if isinstance(error, ConnectionRefusedError) else "reset" if error else "closed"
        self.used.discard(connection.number)
        super().close(connection, error)


def field(head: bytes, name: bytes) -> str:
    """Value of a header field in the head of an answer; empty where it is not there."""
    at = head.lower().find(b"\r\n" + name + b":")
    return head[at + len(name) + 3 :].split(b"\r\n", 1)[0].strip().decode("latin-1") if at >= 0 else ""


def run(plan: Plan, requests: Sequence[bytes]) -> Seen:
    """In this process."""
    return watch(Recorder(plan, list(requests)))


def watch(client: Recorder) -> Seen:
    cpu, began = time.process_time(), time.perf_counter()
    first = client.run()
    cpu = (time.process_time() - cpu) / (time.perf_counter() - began)
    client.end()
    seconds = min(client.plan.seconds, time.perf_counter() - first)
    late = 1000 * percentile(client.lateness, 99)
    return Seen(first, seconds, late, cpu, client.fates)


class Load:
    """Load that goes on in a process of its own; ``seen()`` waits for its end, ``stop()`` brings that forward."""

    def __init__(self, plan: Plan, process: subprocess.Popen[bytes], out: Path) -> None:
        self.plan = plan
        self.process = process
        self.out = out
        self.wait = 3 * (plan.seconds + plan.patience) + 60
        assert process.stdin
        process.stdin.write(msgspec.json.encode(plan))
        process.stdin.close()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def seen(self) -> Seen:
        assert self.process.wait(self.wait) == 0
        return msgspec.msgpack.decode(self.out.read_bytes(), type=Seen)


@contextmanager
def driving(plan: Plan, requests: Sequence[bytes], prefix: Sequence[str] = ()) -> Generator[Load]:
    """Load while the block runs, and to the end of the plan where the block asks what was seen.

    prefix: a command that runs the one after it in its own place.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = wrk.write(requests, Path(folder))
        out = Path(folder) / "seen"
        command = [*prefix, sys.executable, "-m", "tests.faults.load", str(file), str(out)]
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE)
        try:
            yield Load(plan, process, out)
        finally:
            process.kill()
            process.wait()


def drive(plan: Plan, requests: Sequence[bytes], prefix: Sequence[str] = ()) -> Seen:
    """A whole run in a process of its own."""
    with driving(plan, requests, prefix) as load:
        return load.seen()


def request(path: str, body: bytes = b"", content_type: str = "image/jpeg", method: str = "POST", **headers: str) -> bytes:
    """A whole HTTP/1.1 request; ``x_deadline_ms="50"`` is a header."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Type: {content_type}", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def main() -> None:
    client = Recorder(msgspec.json.decode(sys.stdin.buffer.read(), type=Plan), wrk.read(Path(sys.argv[1])))

    def stop(*_: object) -> None:
        client.stopped = True

    signal.signal(signal.SIGINT, stop)
    Path(sys.argv[2]).write_bytes(msgspec.msgpack.encode(watch(client)))


if __name__ == "__main__":
    main()
