"""What stands still around the service: the machine, whoever reads its log, and its folder of metrics that something removes."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.client import samples
from tests.conftest import StartServer
from tests.factories import make_image
from tests.server import READY_SECONDS, ROOT, Server, environment, free_port

pytestmark = pytest.mark.server


def test_a_machine_that_stood_still_has_the_same_processes_afterwards(start_server: StartServer) -> None:
    server = start_server(HUBEL_HANG_SECONDS="1", HUBEL_WORKERS="2")
    until = time.monotonic() + READY_SECONDS
    while len(server.workers()) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    before = server.processes()
    assert len(before) == 4
    for pid in before:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(2.5)
    for pid in reversed(before):
        os.kill(pid, signal.SIGCONT)
    time.sleep(1.5)
    assert server.processes() == before
    assert "hangs" not in server.output()
    assert server.stop() == 0


@pytest.fixture
def unread(tiny_store: Path, tmp_path: Path) -> Iterator[Server]:
    """A service whose standard error nobody reads; ``log`` holds its other output."""
    port = free_port()
    settings = {"HUBEL_STORE": str(tiny_store), "HUBEL_MODEL": "tiny", "HUBEL_PORT": str(port), "HUBEL_WORKERS": "1"}
    with (tmp_path / "out.txt").open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "service"],
            cwd=ROOT,
            env=environment(**settings),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    assert process.stderr is not None
    os.set_blocking(process.stderr.fileno(), False)
    server = Server(port, process, tmp_path / "out.txt")
    server.wait_until_ready()
    yield server
    server.kill()
    process.stderr.close()


def test_a_log_that_nobody_reads_stops_nobody(unread: Server) -> None:
    """The pipe is filled up by the test: what the service writes finds no room at all."""
    assert unread.process.stderr is not None
    filler = os.open(f"/proc/{unread.process.pid}/fd/2", os.O_WRONLY | os.O_NONBLOCK)
    with suppress(BlockingIOError):
        while True:
            os.write(filler, b"x" * 4096)
    (worker,), engines = unread.workers(), unread.engines()
    with unread.client() as client:
        for number in range(30):
            headers = {"x-deadline-ms": "1", "x-request-id": f"{number}"}
            assert client.post("/v1/classify", content=make_image(), headers=headers).status_code in (200, 408, 503, 504)
        assert client.post("/v1/classify", content=make_image()).status_code == 200
    os.kill(worker, signal.SIGKILL)  # the supervisor has to say so
    unread.wait_until_ready()
    assert len(unread.workers()) == 1
    assert unread.workers() != [worker]
    (engine,) = engines
    os.kill(engine, signal.SIGKILL)  # and of this
    with unread.client() as client:
        assert client.post("/v1/classify", content=make_image()).status_code == 200
    assert len(unread.engines()) == 1
    assert unread.engines() != engines
    assert unread.stop() == 0
    os.close(filler)


def test_lines_that_a_client_causes_come_once_a_second_and_its_own_deadlines_are_no_failures(start_server: StartServer) -> None:
    server = start_server()
    with server.client() as client:
        began = time.monotonic()
        statuses = [
            client.post("/v1/classify", content=make_image(), headers={"x-deadline-ms": "1"}).status_code for _ in range(60)
        ]
        found = samples(client)
        seconds = time.monotonic() - began
    assert 504 in statuses
    counted = {key: value for key, value in found.items() if key.startswith("hubel_requests_total{") and "/v1/classify" in key}
    assert not any('status="504"' in key for key in counted)
    assert counted['hubel_requests_total{route="/v1/classify",status="499"}'] == statuses.count(504)
    assert server.stop() == 0
    lines = re.findall(r"WARNING hubel.requests: request \S+ to /v1/classify: no answer to 1 image within 1 ms", server.output())
    assert 1 <= len(lines) <= seconds + 2


def test_a_folder_of_metrics_that_something_removes_is_there_again(start_server: StartServer, tmp_path: Path) -> None:
    place = tmp_path / "tmp"
    place.mkdir()
    server = start_server(TMPDIR=str(place))
    (folder,) = place.glob("hubel-metrics-*")
    with server.client() as client:
        assert client.post("/v1/classify", content=make_image()).status_code == 200
        shutil.rmtree(folder)
        answered = 'hubel_requests_total{route="/v1/classify",status="200"}'
        assert samples(client)[answered] == 1
        os.kill(server.workers()[0], signal.SIGKILL)
        server.wait_until_ready()
        assert samples(client)[answered] == 1
    assert server.stop() == 0
    assert not list(place.glob("hubel-metrics-*"))


@pytest.mark.long
def test_what_a_killed_service_left_is_removed_by_the_next(launched: StartServer, tmp_path: Path) -> None:
    place = tmp_path / "tmp"
    place.mkdir()
    first, second = launched(TMPDIR=str(place)), launched(TMPDIR=str(place))
    assert len(list(place.glob("hubel-metrics-*"))) == 2
    first.kill()
    third = launched(TMPDIR=str(place))
    assert len(list(place.glob("hubel-metrics-*"))) == 2
    assert "removed what services that were killed left" in third.output()
    assert second.stop() == third.stop() == 0
    assert not list(place.glob("hubel-metrics-*"))
