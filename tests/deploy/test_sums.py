"""The sums in /metrics are those that clients counted, also when processes are killed, and strangers add no series."""

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.client import HTTPConnection
from string import ascii_letters

import httpx
import psutil
import pytest

from tests.client import samples
from tests.conftest import Figures, StartServer
from tests.factories import make_image
from tests.server import Server

pytestmark = pytest.mark.server

ROUTES = ("/v1/classify", "/v1/top-k", "/v1/features")
STATUSES = ("200", "400", "499", "500", "503", "504")
GOOD, BAD = make_image(), make_image()[:200]
BEFORE = 300  # requests of strangers, after which what a process keeps for itself has grown


class Tally:
    """Clients that ask, and what they were answered. broken: requests that got no answer, by route."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.answered: Counter[tuple[str, str]] = Counter()
        self.broken: Counter[str] = Counter()
        self.lock = threading.Lock()

    def ask(self, requests: int, stopped: Callable[[], bool] = lambda: False) -> None:
        """One after the other, each ten on a connection of their own."""
        for first in range(0, requests, 10):
            with self.server.client() as client:
                for number in range(first, first + 10):
                    if stopped():
                        return
                    self.ask_one(client, ROUTES[number % 3], BAD if number % 7 == 0 else GOOD)

    def ask_one(self, client: httpx.Client, route: str, image: bytes) -> None:
        try:
            status = str(client.post(route, content=image).status_code)
        except httpx.TransportError:
            with self.lock:
                self.broken[route] += 1
            return
        with self.lock:
            self.answered[route, status] += 1

    def counted(self) -> Counter[tuple[str, str]]:
        """The same by the service."""
        with self.server.client() as client:
            found = samples(client)
        names = {
            (r, s): f'hubel_requests_total{{route="{r}",status="{s}"}}' for r in ROUTES for s in ("200", "400", "499", "503")
        }
        return Counter({key: int(found[name]) for key, name in names.items() if found.get(name)})


def replaced(server: Server, pid: int, which: Callable[[], list[int]], count: int) -> None:
    """Wait until another process is there in the place of one that was killed, and is ready."""
    until = time.monotonic() + 60
    while pid in which() or len(which()) < count or not ready(server, count):
        assert time.monotonic() < until, server.output()
        time.sleep(0.1)


def ready(server: Server, workers: int) -> bool:
    try:
        with server.client() as client:
            found = samples(client)
        return found["hubel_workers_alive"] == workers or workers == 1
    except httpx.TransportError:
        return False


def test_sums_are_the_clients_own_before_and_after_processes_are_killed(start_server: StartServer) -> None:
    server = start_server(HUBEL_WORKERS="2")
    tally = Tally(server)
    tally.ask(60)
    assert tally.counted() == tally.answered
    assert sum(tally.answered.values()) == 60

    os.kill(pid := server.workers()[1], signal.SIGKILL)  # an idle one
    replaced(server, pid, server.workers, 2)
    assert tally.counted() == tally.answered
    tally.ask(20)
    assert tally.counted() == tally.answered

    kill_under_load(tally, server.engines()[0], server.engines, 1)
    assert not tally.broken  # the next engine computes them
    assert tally.counted() == tally.answered

    before = Counter(tally.answered)
    kill_under_load(tally, server.workers()[0], server.workers, 2)
    after, counted = tally.answered, tally.counted()
    assert sum(after.values()) > sum(before.values())
    assert all(counted[key] >= number for key, number in after.items())  # each answer that came was counted before
    assert sum(counted.values()) <= sum(after.values()) + sum(tally.broken.values())


def kill_under_load(tally: Tally, pid: int, which: Callable[[], list[int]], count: int) -> None:
    over = threading.Event()
    threads = [threading.Thread(target=tally.ask, args=(10**9, over.is_set)) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    os.kill(pid, signal.SIGKILL)
    replaced(tally.server, pid, which, count)
    over.set()
    for thread in threads:
        thread.join()


def strange(rng: random.Random, number: int) -> tuple[str, str, dict[str, str], bytes]:
    """A request that nobody foresaw: method, path, headers, body."""
    word = "".join(rng.choices(ascii_letters + "0123456789._-", k=rng.randrange(1, 40)))
    paths = (f"/{word}", f"/v1/{word}", f"/v1/models/{word}/infer", f"/v2/models/{word}", f"/v1/classify?model={word}")
    headers = {"X-Model": word, "X-Request-ID": word, "User-Agent": word, "Content-Type": f"image/{word}"}
    method = ("GET", "POST", "DELETE", "PUT")[number % 4]
    return method, (*paths, f"/v1/feedback/{word}")[number % 6], headers, GOOD if method == "POST" else b""


def pester(server: Server, requests: int, seed: int) -> None:
    rng = random.Random(seed)
    connection = HTTPConnection("127.0.0.1", server.port, timeout=30)
    for number in range(requests):
        method, path, headers, body = strange(rng, number)
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        response.read()
        assert 400 <= response.status < 500, (method, path)
    connection.close()


def series(server: Server) -> set[str]:
    with server.client() as client:
        return set(samples(client))


def memory(server: Server) -> int:
    """Bytes that the processes hold for themselves."""
    return sum(psutil.Process(pid).memory_full_info().uss for pid in server.processes())


def test_strangers_add_no_series(server: Server) -> None:
    series(server)  # the route of metrics has its own
    pester(server, BEFORE, seed=1)
    before = series(server)
    pester(server, 600, seed=2)
    assert series(server) == before


@pytest.mark.long
def test_ten_thousand_requests_of_strangers_add_no_series_and_little_memory(start_server: StartServer, figures: Figures) -> None:
    server = start_server()
    series(server)
    pester(server, 10 * BEFORE, seed=1)
    before, held = series(server), memory(server)
    pester(server, 10_000, seed=2)
    more = (memory(server) - held) / 1e6
    figures(series=len(before), megabytes=more)
    assert series(server) == before
    assert more <= 5
