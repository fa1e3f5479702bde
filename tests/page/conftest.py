"""A browser, the real service with the bundled cifar10, and pages in that browser, each watched for what it must not do."""

from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from service.http import api_keys
from tests.conftest import StartServer, starting
from tests.page.browsing import Visit, a_browser, new_page, visiting
from tests.server import ROOT, Server

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

STORE = ROOT / "models/store"
LIMIT = 8  # requests a day of the key ``slow``; three of them ask what the service is
OpenPage = Callable[..., Visit]


@pytest.fixture(scope="package")
def browser() -> "Iterator[Browser]":
    yield from a_browser()


@pytest.fixture(scope="package")
def start(browser: "Browser", tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartServer]:
    """As ``start_server``, for all modules here; nothing is started where there is no browser."""
    with starting(tiny_store, tmp_path_factory) as begin:
        yield begin


@pytest.fixture(scope="package")
def bundled(start: StartServer) -> Server:
    return start(STORE, HUBEL_MODEL="cifar10")


@pytest.fixture(scope="package")
def keys() -> dict[str, tuple[str, str]]:
    """By name: a key, and its lines in a file of keys."""
    return {"web": api_keys.make("web"), "slow": api_keys.make("slow", f"{LIMIT}/day")}


@pytest.fixture(scope="package")
def guarded(start: StartServer, keys: dict[str, tuple[str, str]], tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A service that asks for keys."""
    file = tmp_path_factory.mktemp("keys") / "keys.toml"
    file.write_text("".join(block for _, block in keys.values()))
    return start(STORE, HUBEL_MODEL="cifar10", HUBEL_API_KEYS_FILE=str(file))


@pytest.fixture(scope="package")
def idle() -> "dict[frozenset[tuple[str, Any]], list[Page]]":
    """Pages that a visit has ended in, by the options of their contexts: to make one takes longer than most visits."""
    return {}


@pytest.fixture
def open_page(browser: "Browser", bundled: Server, idle: "dict[frozenset[tuple[str, Any]], list[Page]]") -> Generator[OpenPage]:
    """``open_page(server, width=360, bypass_csp=True)``: the page of a service, with options of the browser's context. At the
    end it has done nothing that it must not."""
    visits: list[tuple[Visit, list[Page]]] = []

    def begin(
        server: Server = bundled, before: Callable[[Visit], None] | None = None, width: int = 1280, **options: Any
    ) -> Visit:
        pages = idle.setdefault(frozenset(options.items()), [])
        page = pages.pop() if pages else new_page(browser, **options)
        visits.append((visiting(page, server.url, before, width), pages))
        return visits[-1][0]

    yield begin
    for visit, pages in visits:
        visit.close()
        pages.append(visit.page)
