"""The open-loop client: requests that come when they come (a Poisson process), whether or not earlier ones are answered.

    python -m benchmarks.poisson FILE    sends FILE's requests as Arrivals, JSON on standard input, say; prints Seen

It runs in a process of its own, so that its CPU time is known. Latency counts from the moment a request was due, so that
a client that is late does not make a server look fast.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from benchmarks import wrk
from benchmarks.arrivals import Arrivals, Client
from benchmarks.bodies import Bodies
from benchmarks.numbers import percentile

LEAD = 0.2  # share of the time that goes by before answers count


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


def group(answers: Sequence[tuple[float, float, int]]) -> dict[str, Group]:
    """Answers by status, most frequent first."""
    spans: dict[int, list[float]] = {}
    for due, answered, status in answers:
        spans.setdefault(status, []).append(1000 * (answered - due))
    return {
        str(status): Group(len(found), percentile(found, 50), percentile(found, 99), max(found))
        for status, found in sorted(spans.items(), key=lambda item: -len(item[1]))
    }


def run(arrivals: Arrivals, file: Path) -> Seen:
    """Send the requests of a file, made by ``wrk.write``, in rotation."""
    client = Client(arrivals, wrk.read(file))
    cpu = time.process_time()
    began = client.run()
    cpu = time.process_time() - cpu
    took = time.perf_counter() - began
    unanswered = client.end()
    first, last = began + LEAD * arrivals.seconds, began + arrivals.seconds
    good = sum(status == 200 and first <= answered < last for _, answered, status in client.answers)
    return Seen(
        planned=arrivals.rate,
        offered=client.sent / arrivals.seconds,
        sent=client.sent,
        unsent=client.unsent,
        unanswered=unanswered,
        broken=client.broken,
        goodput=good / (last - first),
        answers=group(client.answers),
        late_ms=1000 * percentile(client.lateness, 99),
        client_cpu=cpu / took,
    )


def load(arrivals: Arrivals, sent: Bodies) -> Seen:
    """The same in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.poisson", str(wrk.write(sent.requests, Path(folder)))]
        limit = 3 * (arrivals.seconds + arrivals.patience) + 60
        done = subprocess.run(command, input=msgspec.json.encode(arrivals), stdout=subprocess.PIPE, check=True, timeout=limit)
    return msgspec.json.decode(done.stdout, type=Seen)


if __name__ == "__main__":
    seen = run(msgspec.json.decode(sys.stdin.buffer.read(), type=Arrivals), Path(sys.argv[1]))
    sys.stdout.buffer.write(msgspec.json.encode(seen))
