"""A thousand clients that hang up: their images are not computed, and nothing of them is left."""

import socket
import time
from pathlib import Path

import pytest

from tests.conftest import Figures, StartServer
from tests.factories import make_image
from tests.faults.conftest import capacity
from tests.faults.load import request
from tests.faults.watch import IN_PROGRESS, metrics, settled, usage

pytestmark = [pytest.mark.server, pytest.mark.long]

CLIENTS = 1000
FLIGHT = 2 * 16  # images: two batches are with the network already
COMPUTED = "hubel_batch_size_images_sum"


@pytest.mark.parametrize("queued_first", [False, True], ids=["after 50 ms", "when all are queued"])
def test_of_a_thousand_clients_that_hang_up_hardly_one_image_is_computed(
    launched: StartServer, wide_store: Path, figures: Figures, queued_first: bool
) -> None:
    settings = {"HUBEL_MAX_QUEUE": "2000", "HUBEL_MAX_QUEUE_MS": "600000", "HUBEL_DEADLINE_MS": "60000"}
    server = launched(wide_store, **settings)
    capacity(server)
    before, started = usage(server), metrics(server)
    message = request("/v1/classify", make_image())
    clients = [socket.create_connection(("127.0.0.1", server.port), timeout=30) for _ in range(CLIENTS)]
    probe_of_all = metrics(server)  # an answer to the last in the line: all have been taken
    assert probe_of_all[COMPUTED] == started[COMPUTED]
    for client in clients:
        client.sendall(message)
    time.sleep(0.05)
    while queued_first and metrics(server)["hubel_queue_depth_images"] < 0.9 * CLIENTS:
        assert metrics(server)[COMPUTED] - started[COMPUTED] < 0.1 * CLIENTS, "the service was too fast for this test"
    for client in clients:
        client.close()
    gone = metrics(server)
    after = settled(server)
    computed_then, computed = (values[COMPUTED] - started[COMPUTED] for values in (gone, after))
    queued = CLIENTS - computed_then - FLIGHT
    time.sleep(1)
    now = usage(server)
    figures(
        computed_when_gone=computed_then,
        computed_after=computed - computed_then,
        queued=queued,
        fds=f"{before.fds} -> {now.fds}",
        mib=f"{before.mib:.0f} -> {now.mib:.0f}",
    )
    assert queued > CLIENTS / 2
    assert computed - computed_then - FLIGHT <= 0.05 * queued
    assert (after[IN_PROGRESS], after["hubel_queue_depth_images"]) == (1, 0)
    assert abs(now.fds - before.fds) <= 5
    assert server.stop() == 0
