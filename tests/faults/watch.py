"""What goes on in a service under test: its processes, their memory, and how fast it answers those who look after it."""

import http.client
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import psutil

from tests.client import samples
from tests.server import ENGINE, WORKER, Server, runs_module

PROBES = ("/livez", "/readyz", "/metrics")
IN_PROGRESS, DEPTH = "hubel_requests_in_progress", "hubel_queue_depth_images"


@dataclass(frozen=True)
class Usage:
    """Of all processes of a service together."""

    mib: float
    threads: int
    fds: int


def processes(server: Server) -> list[psutil.Process]:
    """The service's own process and what descends from it."""
    found: list[psutil.Process] = []
    with suppress(psutil.NoSuchProcess):
        main = psutil.Process(server.process.pid)
        for process in (main, *main.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                if process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
    return found


def workers(server: Server) -> list[int]:
    """Ids of the processes that answer requests."""
    return [process.pid for process in processes(server) if runs_module(process.pid, WORKER)]


def engines(server: Server) -> list[int]:
    """Ids of the processes that compute."""
    return [process.pid for process in processes(server) if runs_module(process.pid, ENGINE)]


def usage(server: Server) -> Usage:
    mib, threads, fds = 0.0, 0, 0
    for process in processes(server):
        with suppress(psutil.NoSuchProcess):
            mib += process.memory_info().rss / 2**20
            threads += process.num_threads()
            fds += process.num_fds()
    return Usage(mib, threads, fds)


def metrics(server: Server) -> dict[str, float]:
    with server.client() as client:
        return samples(client)


def settled(server: Server, seconds: float = 30) -> dict[str, float]:
    """Metrics once nothing is in progress but the request for them, or as they are after so long."""
    until = time.monotonic() + seconds
    while True:
        values = metrics(server)
        if (values[IN_PROGRESS] <= 1 and values[DEPTH] == 0) or time.monotonic() > until:
            return values
        time.sleep(0.05)


@dataclass(frozen=True)
class Probed:
    """One answer to a probe: when it was asked (time.perf_counter), how long it took, its status; 0: there was none."""

    path: str
    asked: float
    seconds: float
    status: int


def probe(port: int, path: str, timeout: float = 5.0) -> Probed:
    """Ask over a new connection, as an orchestrator does."""
    asked, status = time.perf_counter(), 0
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    with suppress(OSError, http.client.HTTPException):
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        status = answer.status
    connection.close()
    return Probed(path, asked, time.perf_counter() - asked, status)


@dataclass
class Probes:
    """What came back while somebody asked in turn for each of some paths."""

    all: list[Probed] = field(default_factory=list[Probed])

    def slowest(self) -> float:
        return max(one.seconds for one in self.all)

    def failed(self) -> list[Probed]:
        return [one for one in self.all if one.status != 200]


@contextmanager
def probing(port: int, paths: Sequence[str] = PROBES, every: float = 0.2) -> Generator[Probes]:
    """Ask from a thread while the block runs."""
    seen, stop = Probes(), threading.Event()

    def ask() -> None:
        while not stop.is_set():
            for path in paths:
                seen.all.append(probe(port, path))
                stop.wait(every)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()
