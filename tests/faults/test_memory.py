"""Hardly more memory than an idle service has: what asks for too much may die, the service does not."""

import time
from pathlib import Path

import pytest
from PIL import Image

from tests.client import send
from tests.conftest import Figures
from tests.factories import encode, make_image
from tests.faults.conftest import StartAs
from tests.faults.load import Plan, drive, request
from tests.faults.sandbox import anonymous_bytes, limit, memory_group
from tests.faults.watch import engines, metrics, probe, processes, workers
from tests.server import ROOT

pytestmark = [pytest.mark.server, pytest.mark.long]

SHARE = 1.2  # of what it has when idle
SIDE = 6000  # pixels; 108 MB when it is decoded
JOIN = 'echo $$ > "$1/cgroup.procs"; shift; exec "$@"'


def test_what_runs_out_of_memory_is_replaced(launched_as: StartAs, tiny_store: Path, figures: Figures) -> None:
    with memory_group() as group:
        server = launched_as(["sh", "-ec", JOIN, "sh", str(group)], ROOT, tiny_store, HUBEL_DECODE_THREADS="4")
        server.wait_until_ready()
        before, idle = (workers(server), engines(server)), anonymous_bytes(group)
        limit(group, int(SHARE * idle))
        large = request("/v1/classify", encode(Image.new("RGB", (SIDE, SIDE))))
        seen = drive(Plan(server.port, rate=8, seconds=5, spacing="even", patience=15), [large])
        until = time.monotonic() + 30
        while time.monotonic() < until and not (workers(server) and probe(server.port, "/readyz").status == 200):
            time.sleep(0.2)
        figures(idle_mib=idle / 2**20, statuses=seen.statuses(), killed=(workers(server), engines(server)) != before)
        assert server.process.poll() is None
        with server.client() as client:
            assert send(client, "/v1/classify", [make_image()], "raw").status_code == 200
        assert (workers(server), engines(server)) != before, "nothing died: the test asked for too little"
        values = metrics(server)
        assert values["hubel_worker_restarts_total"] + values["hubel_engine_restarts_total"] >= 1
        assert len(processes(server)) == 3
        assert server.stop() == 0
