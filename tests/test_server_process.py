"""The real service as a process: how it stops, and how it does not start."""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import httpx
import onnx
import onnxruntime
import pytest

from models.package.manifest import CARD, FILE, MODEL
from models.registry import registry
from service.settings import Settings
from service.status import ask
from tests.client import assert_problem, body_of, labels_of, results_of, samples, send
from tests.conftest import StartServer
from tests.factories import make_image, make_onnx, make_package
from tests.models.package.external_data import hide_in_constant, tensor
from tests.server import READY_SECONDS, ROOT, Server, environment, launch, runs

pytestmark = pytest.mark.server

GPU = "CUDAExecutionProvider" in onnxruntime.get_available_providers()


def test_ctrl_c_in_a_terminal_ends_it_well(start_server: StartServer) -> None:
    server = start_server(HUBEL_WORKERS="2")
    with server.client() as client:
        assert client.get("/livez").status_code == 200
        assert server.stop(signal.SIGINT, group=True) == 0
    assert "Traceback" not in server.output()


def test_as_many_workers_answer_as_the_device_needs_where_nobody_says_how_many(start_server: StartServer) -> None:
    server = start_server(HUBEL_WORKERS="0")
    assert len(server.workers()) == Settings().worker_count()
    assert len(server.engines()) == 1


def test_a_signal_while_the_model_is_loading_ends_it_well(tiny_store: Path, tmp_path: Path) -> None:
    server = launch(tiny_store, tmp_path / "log.txt")
    until = time.monotonic() + 30
    while "loading tiny:1" not in server.output() and time.monotonic() < until:
        time.sleep(0.01)
    assert server.stop() == 0
    assert "serving" not in server.output()
    assert "Traceback" not in server.output()


def test_requests_in_flight_at_sigterm_are_answered(start_server: StartServer, wide_store: Path) -> None:
    patient = {"HUBEL_DEADLINE_MS": "60000", "HUBEL_MAX_QUEUE_MS": "60000"}  # none is to be refused, however slow the machine
    server = start_server(wide_store, HUBEL_MAX_BATCH="8", HUBEL_THREADS="1", **patient)
    images = [make_image("PNG", seed=i) for i in range(32)]
    (engine,) = server.engines()

    async def scenario() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=server.url, timeout=60, trust_env=False) as client:
            os.kill(engine, signal.SIGSTOP)  # so that none is answered before all of them are in flight
            try:
                requests = [asyncio.create_task(client.post("/v1/classify", **body_of(images, "multipart"))) for _ in range(4)]
                while "hubel_requests_in_progress 5.0" not in (await client.get("/metrics")).text:
                    assert not any(request.done() for request in requests)
                server.process.send_signal(signal.SIGTERM)
            finally:
                os.kill(engine, signal.SIGCONT)
            return list(await asyncio.gather(*requests))

    for response in asyncio.run(scenario()):
        assert len(results_of(response)) == 32
    assert server.stop() == 0


def test_an_idle_connection_is_kept_as_long_as_it_is_set_to(start_server: StartServer) -> None:
    server = start_server(HUBEL_KEEP_ALIVE_SECONDS="2")
    with closing(HTTPConnection("127.0.0.1", server.port, timeout=60)) as client:
        client.connect()
        connection = client.sock
        for pause in (1.0, 0.0):
            client.request("GET", "/livez")
            assert client.getresponse().read() == b'{"status":"alive"}'
            time.sleep(pause)
        assert client.sock is connection
        answered = time.monotonic()
        assert connection.recv(1) == b""
        assert 1.5 < time.monotonic() - answered < 60  # no speed: as it is set to, not the 75 s that it is otherwise


def test_a_killed_worker_is_replaced_and_who_comes_meanwhile_waits_instead_of_being_refused(start_server: StartServer) -> None:
    server = start_server()
    (worker,), engines = server.workers(), server.engines()
    with server.client() as client:
        assert client.get("/livez").status_code == 200
        os.kill(worker, signal.SIGKILL)
    with server.client() as client:
        assert labels_of("/v1/classify", results_of(send(client, "/v1/classify", [make_image(color="red")], "raw"))) == ["red"]
        counts = samples(client)
    assert worker not in server.workers()
    assert server.engines() == engines
    assert counts["hubel_worker_restarts_total"] == counts["hubel_workers_alive"] == counts["hubel_workers_expected"] == 1
    assert counts["hubel_requests_in_progress"] == 1
    assert f"worker 0 (pid {worker}) ended (SIGKILL), another takes its place" in server.output()
    assert server.stop() == 0


def test_a_killed_engine_is_replaced_and_who_asks_meanwhile_is_answered(start_server: StartServer) -> None:
    server = start_server()
    workers, (engine,) = server.workers(), server.engines()
    with server.client() as client:
        os.kill(engine, signal.SIGKILL)
        answer = send(client, "/v1/classify", [make_image(color="red")], "raw")
        assert labels_of("/v1/classify", results_of(answer)) == ["red"]
        counts = samples(client)
    assert server.workers() == workers
    assert engine not in server.engines()
    assert counts["hubel_engine_restarts_total"] == 1
    assert counts["hubel_worker_restarts_total"] == counts["hubel_lost_images_total"] == 0
    assert "engine of version 1: its process ended (SIGKILL), another takes its place" in server.output()
    assert server.stop() == 0


def test_when_the_supervisor_is_killed_its_workers_and_engines_stop_and_free_the_port(start_server: StartServer) -> None:
    server = start_server(HUBEL_WORKERS="2", HUBEL_DRAIN_MS="100")
    processes = server.processes()
    server.process.kill()
    assert server.process.wait(10) == -signal.SIGKILL
    until = time.monotonic() + 20
    while any(map(runs, processes)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(map(runs, processes))
    socket.create_server(("127.0.0.1", server.port)).close()
    server.process.returncode = 0  # it ended as it was meant to


def test_a_service_that_was_killed_leaves_nothing_that_the_next_one_does_not_remove(
    start_server: StartServer, tiny_store: Path, tmp_path: Path
) -> None:
    (temporary := tmp_path / "temporary").mkdir()
    killed = launch(tiny_store, tmp_path / "log.txt", TMPDIR=str(temporary))
    killed.wait_until_ready()
    with killed.client() as client:
        assert client.post("/v1/classify", content=make_image()).status_code == 200
    killed.kill()
    (left,) = temporary.iterdir()
    assert list(left.iterdir())
    server = start_server(TMPDIR=str(temporary))
    (own,) = temporary.iterdir()
    assert own != left
    assert server.stop() == 0
    assert not list(temporary.iterdir())


def test_before_it_stops_it_says_so_and_answers_what_still_comes(start_server: StartServer) -> None:
    server = start_server(HUBEL_DRAIN_MS="2000")
    with server.client() as client:
        assert client.get("/readyz").status_code == 200
        server.process.send_signal(signal.SIGTERM)
        until = time.monotonic() + 10
        while (response := client.get("/readyz")).status_code == 200 and time.monotonic() < until:
            time.sleep(0.01)
        assert_problem(response, 503, "draining")
        assert response.headers["connection"] == "close"
        answer = send(client, "/v1/classify", [make_image(color="green")], "raw")
        assert labels_of("/v1/classify", results_of(answer)) == ["green"]
        assert answer.headers["connection"] == "close"
    assert server.process.wait(20) == 0


def test_status_shows_who_is_alive_and_what_is_loaded(start_server: StartServer) -> None:
    server = start_server(HUBEL_WORKERS="2")
    settings = environment(HUBEL_PORT=str(server.port))
    until = time.monotonic() + READY_SECONDS
    while (
        ask("127.0.0.1", server.port).workers_expected > len(ask("127.0.0.1", server.port).workers) and time.monotonic() < until
    ):
        time.sleep(0.1)
    text, code = run_status(settings)
    assert code == 0, text
    assert text.splitlines()[0] == f"127.0.0.1:{server.port}  ready"
    assert "tiny:1 on " in text
    assert "workers  2 of 2, replaced 0 times" in text
    for pid in server.workers():
        assert f"pid {pid}, up " in text
    assert text.count(", version 1") == 2
    described, _ = run_status(settings, "--json")
    assert {worker["pid"] for worker in json.loads(described)["workers"]} == set(server.workers())
    assert server.stop() == 0
    text, code = run_status(settings)
    assert code == 1
    assert text.startswith(f"error: nothing answers at 127.0.0.1:{server.port}: Connection refused")


def run_status(settings: dict[str, str], *options: str) -> tuple[str, int]:
    """What ``hubel status`` prints, and its exit code."""
    command = [sys.executable, "-m", "hubel", "status", *options]
    run = subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True, timeout=60, check=False)
    return run.stdout + run.stderr, run.returncode


def end_of(server: Server) -> list[str]:
    """The lines that a service wrote before it ended by itself with the exit code 1."""
    try:
        server.process.wait(READY_SECONDS)
    finally:
        code = server.stop()
    assert code == 1, server.output()
    return server.output().splitlines()


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        pytest.param({"HUBEL_MODEL": "nobody"}, "no model 'nobody' in ", id="unknown model"),
        pytest.param({"HUBEL_MODEL": "tiny:9"}, "no version '9' of model tiny", id="unknown version", marks=pytest.mark.long),
        pytest.param(
            {"HUBEL_STORE": "/nowhere"}, "no model 'tiny' in /nowhere; there is none", id="no store", marks=pytest.mark.long
        ),
        pytest.param({"HUBEL_PORT": "http"}, "HUBEL_PORT is 'http': ", id="bad setting"),
        pytest.param({"HUBEL_MAX_QUEUE": "1"}, "the settings do not fit together: ", id="settings that do not fit"),
        pytest.param(
            {"HUBEL_HOST": "192.0.2.1", "HUBEL_ALLOW_ANONYMOUS": "true"},
            "cannot listen on 192.0.2.1:",
            id="an address of another machine",
        ),
        pytest.param(
            {"HUBEL_DEVICE": "cuda"},
            "HUBEL_DEVICE is cuda but ",
            id="no GPU",
            marks=pytest.mark.skipif(GPU, reason="this machine may have a usable GPU"),
        ),
    ],
)
def test_what_it_cannot_start_with_is_told_in_one_line(
    tiny_store: Path, tmp_path: Path, settings: dict[str, str], reason: str
) -> None:
    (line,) = end_of(launch(tiny_store, tmp_path / "log.txt", HUBEL_LOG_LEVEL="error", **settings))
    assert line.startswith(f"error: {reason}")


def test_a_port_in_use_is_told_in_one_line(tiny_store: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        lines = end_of(launch(tiny_store, tmp_path / "log.txt", HUBEL_LOG_LEVEL="error", HUBEL_PORT=port))
    assert lines == [f"error: cannot listen on 127.0.0.1:{port}: Address already in use; set HUBEL_HOST or HUBEL_PORT"]


def test_a_damaged_package_is_told_in_one_line(tiny_store: Path, tmp_path: Path) -> None:
    store = Path(shutil.copytree(tiny_store, tmp_path / "store"))
    with open(store / "tiny" / "1" / MODEL, "ab") as file:
        file.write(b"\0")
    (line,) = end_of(launch(store, tmp_path / "log.txt", HUBEL_LOG_LEVEL="error", HUBEL_WORKERS="2"))
    assert line.startswith("error: ")
    assert "model.onnx was changed: its SHA-256 is " in line


def rewrite(folder: Path, **changes: object) -> None:
    """Write the manifest again with other fields, whether they fit together or not, and the hashes of what lies there."""
    content = json.loads((folder / FILE).read_text()) | changes
    content["files"] = {name: registry.sha256(folder / name) for name in content["files"]}
    (folder / FILE).write_text(json.dumps(content))


def damage_the_manifest(folder: Path) -> None:
    (folder / FILE).write_text((folder / FILE).read_text()[:-100])


def take_a_label_away(folder: Path) -> None:
    rewrite(folder, labels=["red", "green"])


def take_another_number_of_classes(folder: Path) -> None:
    make_onnx(folder / MODEL, classes=5)
    rewrite(folder)


def hide_external_data(folder: Path) -> None:
    model = onnx.load_model(folder / MODEL)
    hide_in_constant(model, tensor("../../secret.bin"))
    (folder / MODEL).write_bytes(model.SerializeToString())
    rewrite(folder)


def link_the_graph(folder: Path) -> None:
    (folder / MODEL).rename(folder.parents[2] / MODEL)
    (folder / MODEL).symlink_to(folder.parents[2] / MODEL)


def put_a_pipe_there(folder: Path) -> None:
    (folder / CARD).unlink()
    os.mkfifo(folder / CARD)


def take_the_graph_away(folder: Path) -> None:
    (folder / MODEL).unlink()


def leave_it(folder: Path) -> None:
    assert folder.is_dir()


@pytest.mark.parametrize(
    ("change", "settings", "reason"),
    [
        (damage_the_manifest, {}, "manifest.json is not a manifest that can be served: "),
        pytest.param(take_a_label_away, {}, "outputs.logits is [3] for 2 labels", marks=pytest.mark.long),
        (take_another_number_of_classes, {}, "'logits': ('tensor(float)', [5])"),
        pytest.param(hide_external_data, {}, "model.onnx holds a tensor with external data", marks=pytest.mark.long),
        (link_the_graph, {}, "model.onnx is not a plain file but a link"),
        pytest.param(put_a_pipe_there, {}, "card.md is not a plain file but a pipe", marks=pytest.mark.long),
        pytest.param(take_the_graph_away, {}, "model.onnx is missing", marks=pytest.mark.long),
        (leave_it, {"HUBEL_REQUIRE_SIGNATURE": str(ROOT / "pyproject.toml")}, "tiny:1 is not signed; there is no "),
        (leave_it, {"HUBEL_REQUIRE_SIGNATURE": "/nowhere.pem"}, "the key /nowhere.pem cannot be read: No such file"),
    ],
    ids=lambda value: getattr(value, "__name__", "") or (",".join(value) if isinstance(value, dict) else None),
)
def test_a_package_that_must_not_be_served_is_told_in_one_line(
    tiny_store: Path, tmp_path: Path, change: Callable[[Path], None], settings: dict[str, str], reason: str
) -> None:
    store = Path(shutil.copytree(tiny_store, tmp_path / "store"))
    change(store / "tiny" / "1")
    (line,) = end_of(launch(store, tmp_path / "log.txt", HUBEL_LOG_LEVEL="error", **settings))
    assert line.startswith("error: ")
    assert reason in line


def test_a_package_that_answers_otherwise_than_promised_is_not_served(tmp_path: Path) -> None:
    make_package(tmp_path / "store", golden_error=3.0)
    lines = end_of(launch(tmp_path / "store", tmp_path / "log.txt", HUBEL_LOG_LEVEL="error", HUBEL_WORKERS="2"))
    (line,) = set(lines)  # each worker may say it
    assert line.startswith("error: tiny:1 answers its golden inputs differently")
