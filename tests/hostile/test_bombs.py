"""Small requests that ask for much memory or time get little of either, over HTTP."""

import gzip
import statistics
import time
from collections.abc import Callable

import httpx
import pytest

from tests.factories import make_image
from tests.hostile.bombs import BOMBS
from tests.hostile.memory import MIB, Peak
from tests.server import Server

pytestmark = pytest.mark.server

MAX_GROWTH = 64 * MIB
MAX_SECONDS = 0.25  # measured in the long tier, on a machine that does nothing else


@pytest.fixture(scope="module")
def warm(server: Server) -> Server:
    """A service that has seen a large body and a large image already."""
    with server.client() as client:
        for image in (make_image("PNG", 2000, 1000), make_image("WEBP", 2000, 1000), make_image() + bytes(9_500_000)):
            assert client.post("/v1/classify", content=image).status_code == 200
    return server


def cost(server: Server, client: httpx.Client, body: bytes, **headers: str) -> tuple[int, float, int]:
    """Status, seconds and bytes of memory."""
    peak = Peak(server.processes())
    began = time.perf_counter()
    status = client.post("/v1/classify", content=body, headers=headers).status_code
    return status, time.perf_counter() - began, peak.grown()


@pytest.mark.parametrize(("make", "statuses"), BOMBS.values(), ids=BOMBS)
def test_a_bomb_is_refused_or_answered_without_its_memory(
    warm: Server, make: Callable[[], bytes], statuses: tuple[int, ...]
) -> None:
    body = make()
    assert len(body) < 10 * MIB
    with warm.client() as client:
        status, _, growth = cost(warm, client, body)
    assert status in statuses  # after the deadline it would be 504
    assert growth <= MAX_GROWTH


def test_a_body_packed_a_thousandfold_is_refused_and_not_unpacked(warm: Server) -> None:
    body = gzip.compress(bytes(200 * MIB))
    assert len(body) < MIB
    with warm.client() as client:
        status, _, growth = cost(warm, client, body, **{"content-encoding": "gzip"})
    assert status == 415
    assert growth <= 8 * MIB


@pytest.mark.long
@pytest.mark.parametrize(("make", "statuses"), BOMBS.values(), ids=BOMBS)
def test_a_bomb_takes_a_quarter_of_a_second_at_most(warm: Server, make: Callable[[], bytes], statuses: tuple[int, ...]) -> None:
    body = make()
    with warm.client() as client:
        costs = [cost(warm, client, body) for _ in range(9)]
    assert {status for status, _, _ in costs} <= {*statuses}
    assert statistics.median(seconds for _, seconds, _ in costs) <= MAX_SECONDS
