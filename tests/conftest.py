"""The real service for tests that talk to it, with a tiny model that knows red, green and blue; the figures that tests print."""

import os
import signal
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from models.image.spec import InputSpec
from tests.factories import make_package
from tests.server import Server, launch

StartServer = Callable[..., Server]
FIGURES = pytest.StashKey[list[str]]()
Figures = Callable[..., None]

# A service that has to compile all that it imports takes twice as long to start, and hundreds are started.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# In the background of a script Ctrl-C is ignored, by all that is started from here too; tests send it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    config.stash[FIGURES] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if lines := terminalreporter.config.stash[FIGURES]:
        terminalreporter.section("figures")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Figures:
    """``figures(goodput=80.123)``: a line with the test's name in the summary, also of tests that pass."""

    def note(**values: object) -> None:
        shown = (f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items())
        request.config.stash[FIGURES].append(f"{request.node.name}: {', '.join(shown)}")

    return note


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the model tiny:1 live. To be read, not changed."""
    store = tmp_path_factory.mktemp("served") / "store"
    make_package(store)
    return store


@pytest.fixture(scope="session")
def wide_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As ``tiny_store``, but an image takes some 15 ms of a core, so that requests have to wait for one another."""
    store = tmp_path_factory.mktemp("wide") / "store"
    shapes = {"logits": [3], "features": [256], "feature_map": [256, 128, 128]}
    make_package(store, input=InputSpec(height=512, width=512, resize=512), outputs=shapes)
    return store


@contextmanager
def starting(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Generator[StartServer]:
    """Services are stopped at the end of the block, and end well."""
    started: list[Server] = []

    def start(store: Path = tiny_store, **settings: str) -> Server:
        server = launch(store, tmp_path_factory.mktemp("server") / "log.txt", **settings)
        started.append(server)
        server.wait_until_ready()
        return server

    yield start
    codes = [(server.stop(), server.output()) for server in started]
    assert [code for code, _ in codes] == [0] * len(codes), [output for code, output in codes if code]


@pytest.fixture(scope="module")
def start_server(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartServer]:
    """``start_server(store, HUBEL_MAX_QUEUE="4")``: a service that is ready. All are stopped after the module's last test."""
    with starting(tiny_store, tmp_path_factory) as start:
        yield start


@pytest.fixture(scope="session")
def server(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service with the tiny model and all settings at their defaults, shared by the tests that only ask it."""
    with starting(tiny_store, tmp_path_factory) as start:
        yield start()


@pytest.fixture(scope="session")
def client(server: Server) -> Iterator[httpx.Client]:
    """A client of ``server``."""
    with server.client() as client:
        yield client
