"""Requests that are to fill the log and to raise alarms, from one client and from twenty."""

import http.client
from collections.abc import Callable

import pytest

from tests.conftest import StartServer
from tests.factories import make_image
from tests.hostile.memory import MIB
from tests.hostile.siege import siege

pytestmark = [pytest.mark.server, pytest.mark.long]
HEADERS = {"x-deadline-ms": "1", "x-request-id": "a" * 64}


def deadlines(port: int, going: Callable[[], bool]) -> None:
    """Images that nobody can answer in the time that is given."""
    image, connection = make_image("JPEG", 64, 64), http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    while going():
        connection.request("POST", "/v1/classify", image, HEADERS)
        connection.getresponse().read()


@pytest.mark.parametrize("clients", [1, 20])
def test_deadlines_that_cannot_be_met_stop_nobody_and_hardly_write(start_server: StartServer, clients: int) -> None:
    server = start_server()
    before = len(server.output())
    seen = siege(server, "tests.hostile.test_siege_log:deadlines", clients=clients)
    written = server.output()[before:]
    assert server.stop() == 0
    assert len(written) < 20_000, written[-2000:]
    seen.check(memory=128 * MIB)
