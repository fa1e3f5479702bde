"""Services that are made to suffer, and what they can do when they are well."""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from tests.conftest import StartServer
from tests.factories import make_image
from tests.faults.load import Plan, drive, request
from tests.faults.slow import make_slow_package
from tests.faults.watch import processes, settled
from tests.server import ROOT, Server, launch_as

CLIENTS = 32  # of a closed loop: two batches
CAPACITY_SECONDS = 5.0
StartAs = Callable[..., Server]


@pytest.fixture(scope="session")
def slow_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a model that some pictures stop for seconds or minutes."""
    store = tmp_path_factory.mktemp("slow") / "store"
    make_slow_package(store)
    return store


@pytest.fixture
def launched_as(tmp_path: Path) -> Iterator[StartAs]:
    """``launched_as(prefix, root, store, HUBEL_WORKERS="2")``: services that need not be ready, nor end well: what is
    left of them is killed after the test.
    """
    servers: list[Server] = []

    def start(prefix: Sequence[str], root: Path, store: Path, **settings: str) -> Server:
        servers.append(launch_as(prefix, root, store, tmp_path / f"log{len(servers)}.txt", settings))
        return servers[-1]

    yield start
    for server in servers:
        children = processes(server)
        server.kill()
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.kill()


@pytest.fixture
def launched(tiny_store: Path, launched_as: StartAs) -> StartServer:
    """As ``start_server``, for services that need not end well."""

    def start(store: Path = tiny_store, **settings: str) -> Server:
        server = launched_as((), ROOT, store, **settings)
        server.wait_until_ready()
        return server

    return start


def capacity(server: Server, body: bytes | None = None, seconds: float = CAPACITY_SECONDS) -> float:
    """Images a second that a service answers when there is always work, of a picture sent as it is."""
    plan = Plan(server.port, rate=0, seconds=seconds, connections=CLIENTS, spacing="closed")
    seen = drive(plan, [request("/v1/classify", body or make_image())])
    assert set(seen.statuses()) == {"200"}, seen.statuses()
    settled(server)
    return seen.goodput()


@contextmanager
def measured(server: Server) -> Generator[list[float]]:
    """Capacity before and after a block: the machine may have become slower or faster meanwhile."""
    found = [capacity(server)]
    yield found
    found.append(capacity(server))
