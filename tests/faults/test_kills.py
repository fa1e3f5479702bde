"""Processes of the service that die or stand still: they are replaced. Of a worker only what it had in hand is lost, of an engine
nothing."""

import os
import random
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from msgspec import Struct
from PIL import Image

from models.registry import registry
from service.processes.supervisor import STEADY_SECONDS
from tests.conftest import Figures, StartServer
from tests.factories import encode, make_image, make_package
from tests.faults.build import build_with
from tests.faults.conftest import StartAs, capacity
from tests.faults.load import Fate, Plan, Seen, drive, driving, request
from tests.faults.slow import WEDGE
from tests.faults.watch import IN_PROGRESS, engines, metrics, processes, settled, workers
from tests.server import READY_SECONDS, Server, runs

pytestmark = pytest.mark.server

KILLS = {1: 10, 2: 10}  # by workers; the latter twice, with and without BENTOML_CONTAINERIZED
PATIENT = {"HUBEL_DEADLINE_MS": "60000", "HUBEL_MAX_QUEUE_MS": "60000"}  # nothing is refused while an engine is replaced
BACK = 5.0  # seconds until the service answers again
FULL = 15.0  # seconds until it has all its workers again
HANG, DEADLINE = 4, 2  # seconds
CLASSIFY = request("/v1/classify", make_image())


class Kill(Struct):
    """One worker that was killed: when, when it was gone (time.perf_counter), and its clients' ports just before."""

    at: float
    gone: float
    ports: frozenset[int]
    back_seconds: float = 0.0
    full_seconds: float = 0.0

    def had(self, fate: Fate) -> bool:
        """The request was on a connection of that worker: known before, or as new as that it came after the look."""
        return fate.sent <= self.gone and fate.ended >= self.at and (fate.port in self.ports or fate.fresh)


def clients_of(worker: int) -> frozenset[int]:
    """The clients' ports of a process's connections."""
    found = psutil.Process(worker).net_connections("tcp")
    return frozenset(one.raddr.port for one in found if one.raddr)


def wait_for(what: Callable[[], object], seconds: float) -> float:
    """Seconds until something is true; raises AssertionError after so many."""
    began = time.perf_counter()
    while not what():
        assert time.perf_counter() - began < seconds, f"not in {seconds:g} s"
        time.sleep(0.02)
    return time.perf_counter() - began


def answers(server: Server) -> bool:
    """An image is classified, over a new connection."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(CLASSIFY)
        return connection.recv(12).startswith(b"HTTP/1.1 200")


def is_back(server: Server) -> bool:
    try:
        return answers(server)
    except OSError:
        return False


def complete(server: Server, count: int, without: int) -> bool:
    """All workers are there again and answer."""
    alive = workers(server)
    return without not in alive and len(alive) == count and metrics(server).get("hubel_workers_alive") == count


def closed(pid: int) -> bool:
    """A process is gone with its last thread, which may outlive the first, and with that its connections."""
    try:
        return not runs(pid) and len(os.listdir(f"/proc/{pid}/task")) <= 1
    except FileNotFoundError:
        return True


def kill_one(server: Server, count: int, draw: random.Random, back: float = BACK) -> Kill:
    worker = draw.choice(workers(server))
    ports = clients_of(worker)
    at = time.perf_counter()
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: closed(worker), back)
    kill = Kill(at, time.perf_counter(), ports)
    wait_for(lambda: is_back(server), back)
    kill.back_seconds = time.perf_counter() - at
    wait_for(lambda: complete(server, count, worker), max(back, FULL))
    kill.full_seconds = time.perf_counter() - at
    return kill


def unexplained(seen: Seen, kills: list[Kill]) -> list[Fate]:
    """Requests without an answer that no killed worker had."""
    return [fate for fate in seen.lost() if not any(kill.had(fate) for kill in kills)]


def kill_engine(server: Server, back: float = BACK) -> float:
    """Kill what computes; seconds until another does, and answers."""
    (engine,) = engines(server)
    began = time.perf_counter()
    os.kill(engine, signal.SIGKILL)
    wait_for(lambda: engines(server) not in ([], [engine]) and is_back(server), back)
    return time.perf_counter() - began


def check_gauges(server: Server, count: int, kills: int, engine_kills: int = 0) -> None:
    values = settled(server)
    assert (values["hubel_engine_restarts_total"], values["hubel_lost_images_total"]) == (engine_kills, 0)
    assert (values[IN_PROGRESS], values["hubel_queue_depth_images"]) == (1, 0)
    assert values["hubel_workers_expected"] == values["hubel_workers_alive"] == count
    assert values["hubel_worker_restarts_total"] == kills


def run_kills(server: Server, count: int, kills: int, rate: float, pause: float, back: float = BACK) -> tuple[Seen, list[Kill]]:
    """Kill under load; ``pause`` is the longest time between a service that has been whole for long enough to be replaced at
    once and the next kill. back: seconds that it may take to answer again.
    """
    draw, done = random.Random(0), list[Kill]()
    plan = Plan(server.port, rate, seconds=kills * (back + STEADY_SECONDS + pause) + 3, patience=15)
    with driving(plan, [CLASSIFY]) as load:
        time.sleep(2)
        for number in range(kills):
            time.sleep(draw.uniform(0.3, pause) + (STEADY_SECONDS if number else 0))
            done.append(kill_one(server, count, draw, back))
        load.stop()
        seen = load.seen()
    return seen, done


def test_a_killed_worker_is_replaced_and_only_what_it_had_is_lost(launched: StartServer, wide_store: Path) -> None:
    server = launched(wide_store)
    seen, kills = run_kills(server, count=1, kills=1, rate=30, pause=0.5, back=READY_SECONDS)  # no speed: a hang
    assert len(seen.with_status(200)) > 20
    assert unexplained(seen, kills) == []
    check_gauges(server, count=1, kills=1)
    assert server.stop() == 0


@pytest.mark.long
@pytest.mark.parametrize("containerized", [False, True], ids=["", "BENTOML_CONTAINERIZED"])
@pytest.mark.parametrize("count", KILLS, ids=lambda count: f"{count} workers")
def test_workers_killed_under_half_load_are_replaced_in_seconds_and_lose_no_more_than_they_had(
    launched: StartServer, wide_store: Path, figures: Figures, count: int, containerized: bool
) -> None:
    more = {"BENTOML_CONTAINERIZED": "true"} if containerized else {}
    server = launched(wide_store, HUBEL_WORKERS=str(count), **more)
    assert len(workers(server)) == count
    rate = capacity(server) / 2
    seen, kills = run_kills(server, count, KILLS[count], rate, pause=1.5)
    had = [sum(kill.had(fate) for fate in seen.fates) for kill in kills]
    figures(
        kills=len(kills),
        rate=rate,
        statuses=seen.statuses(),
        lost=len(seen.lost()),
        in_flight=sum(had),
        slowest_back_s=max(kill.back_seconds for kill in kills),
        slowest_full_s=max(kill.full_seconds for kill in kills),
    )
    assert unexplained(seen, kills) == []
    assert len(seen.lost()) <= sum(had)
    assert set(seen.statuses()) <= {"200", "503", "reset", "closed"}, seen.statuses()
    check_gauges(server, count, len(kills))
    assert server.stop() == 0


def test_an_engine_killed_under_load_loses_no_request(launched: StartServer, wide_store: Path) -> None:
    server = launched(wide_store, **PATIENT)
    before = workers(server)
    with driving(Plan(server.port, rate=10, seconds=READY_SECONDS, patience=READY_SECONDS), [CLASSIFY]) as load:
        for _ in range(2):
            time.sleep(2)
            kill_engine(server, READY_SECONDS)  # no speed: a hang
        load.stop()
        seen = load.seen()
    assert seen.statuses() == {"200": len(seen.fates)}
    assert len(seen.fates) > 30
    assert workers(server) == before
    check_gauges(server, count=1, kills=0, engine_kills=2)
    assert server.stop() == 0


@pytest.mark.long
@pytest.mark.parametrize("count", KILLS, ids=lambda count: f"{count} workers")
def test_engines_killed_under_half_load_are_replaced_in_seconds_and_lose_no_request(
    launched: StartServer, wide_store: Path, figures: Figures, count: int
) -> None:
    server = launched(wide_store, HUBEL_WORKERS=str(count), **PATIENT)
    wait_for(lambda: len(workers(server)) == count, FULL)
    before, draw, back = workers(server), random.Random(0), list[float]()
    rate, kills = capacity(server) / 2, KILLS[count]
    plan = Plan(server.port, rate, seconds=kills * (BACK + STEADY_SECONDS + 1.5) + 3, patience=60)
    with driving(plan, [CLASSIFY]) as load:
        for _ in range(kills):
            time.sleep(STEADY_SECONDS + draw.uniform(0.3, 1.5))
            back.append(kill_engine(server))
        load.stop()
        seen = load.seen()
    figures(kills=kills, rate=rate, statuses=seen.statuses(), slowest_back_s=max(back), slowest_ms=seen.milliseconds(100))
    assert seen.lost() == []
    assert set(seen.statuses()) <= {"200", "503"}, seen.statuses()  # more may wait meanwhile than is let in
    assert workers(server) == before
    check_gauges(server, count, kills=0, engine_kills=kills)
    assert server.stop() == 0


@pytest.mark.long
@pytest.mark.parametrize("count", [1, 2])
def test_without_its_supervisor_the_service_ends_and_frees_the_port(
    launched: StartServer, wide_store: Path, figures: Figures, count: int
) -> None:
    server = launched(wide_store, HUBEL_WORKERS=str(count))
    members = [process.pid for process in processes(server)]
    with driving(Plan(server.port, rate=20, seconds=40), [CLASSIFY]):
        time.sleep(1.5)
        began = time.perf_counter()
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait()
        wait_for(lambda: not any(runs(pid) for pid in members), 30)
        socket.create_server(("127.0.0.1", server.port)).close()
        figures(seconds=time.perf_counter() - began)


@pytest.mark.long
@pytest.mark.parametrize("count", [1, 2])
def test_a_worker_that_stands_still_is_replaced_and_its_clients_are_let_go(
    launched: StartServer, wide_store: Path, figures: Figures, count: int
) -> None:
    settings = {"HUBEL_WORKERS": str(count), "HUBEL_HANG_SECONDS": str(HANG), "HUBEL_DEADLINE_MS": str(1000 * DEADLINE)}
    server = launched(wide_store, **settings)
    worker = workers(server)[-1]
    with driving(Plan(server.port, rate=20, seconds=HANG + BACK + 5, patience=30), [CLASSIFY]) as load:
        time.sleep(1.5)
        os.kill(worker, signal.SIGSTOP)
        took = wait_for(lambda: not runs(worker), HANG + BACK)
        back = wait_for(lambda: is_back(server), BACK)
        seen = load.seen()
    longest = max((fate.ended or load.wait) - fate.due for fate in seen.fates)
    figures(gone_s=took, back_s=back, statuses=seen.statuses(), longest_s=longest)
    assert seen.ended("waiting") == []
    assert longest <= HANG + DEADLINE + BACK
    wait_for(lambda: complete(server, count, worker), FULL)
    check_gauges(server, count, kills=1)
    assert server.stop() == 0


@pytest.mark.long
def test_an_engine_that_stands_still_is_replaced_and_loses_no_request(launched: StartServer, wide_store: Path) -> None:
    server = launched(wide_store, HUBEL_HANG_SECONDS=str(HANG), **PATIENT)
    (engine,) = engines(server)
    with driving(Plan(server.port, rate=10, seconds=HANG + BACK + 5, patience=60), [CLASSIFY]) as load:
        time.sleep(1.5)
        os.kill(engine, signal.SIGSTOP)
        wait_for(lambda: not runs(engine), 2 * HANG + BACK)
        seen = load.seen()
    assert seen.statuses() == {"200": len(seen.fates)}
    check_gauges(server, count=1, kills=0, engine_kills=1)
    assert server.stop() == 0


@pytest.mark.long
def test_an_engine_whose_network_does_not_come_back_is_replaced(
    launched: StartServer, slow_store: Path, figures: Figures
) -> None:
    """The worker, which answers probes, is well all the time."""
    server = launched(slow_store, HUBEL_HANG_SECONDS=str(HANG), HUBEL_DEADLINE_MS=str(1000 * DEADLINE))
    (engine,), before = engines(server), workers(server)
    with driving(Plan(server.port, rate=1, seconds=1, spacing="even", patience=30), [request("/v1/classify", WEDGE)]) as load:
        wedged = load.seen()
    assert [fate.status for fate in wedged.fates] == [504]
    took = wait_for(lambda: not runs(engine), 2 * HANG + BACK)
    back = wait_for(lambda: is_back(server), FULL)
    figures(gone_s=took, back_s=back)
    assert workers(server) == before
    check_gauges(server, count=1, kills=0, engine_kills=1)
    assert server.stop() == 0


def test_the_engine_of_a_version_that_took_the_place_of_another_is_replaced_too(launched: StartServer, tmp_path: Path) -> None:
    for _ in range(2):
        make_package(tmp_path)
    server = launched(tmp_path)
    before = workers(server)
    registry.promote(tmp_path, "tiny", 2, "test")
    served = 'hubel_model_version{model="tiny",worker="0"}'
    wait_for(lambda: metrics(server)[served] == 2 and len(engines(server)) == 1, READY_SECONDS)
    kill_engine(server, READY_SECONDS)
    assert metrics(server)[served] == 2
    assert workers(server) == before
    check_gauges(server, count=1, kills=0, engine_kills=1)
    assert server.stop() == 0


FAULT = """
_run = OnnxSession.run


def _lose(self, images, outputs):
    if images.size and any(0 < image.max() < 5 for image in images):
        {}
    return _run(self, images, outputs)


OnnxSession.run = _lose
"""
GPU_LOST = """raise _explain(RuntimeError("CUDA failure 700: an illegal memory access was encountered ; GPU=0"), self.provider)"""
CRASH = "import ctypes; ctypes.string_at(0)"


@pytest.mark.parametrize("fault", [CRASH, pytest.param(GPU_LOST, marks=pytest.mark.long)], ids=["crash", "the GPU is lost"])
def test_an_image_that_ends_engines_fails_alone_after_the_second(
    launched_as: StartAs, tiny_store: Path, tmp_path: Path, fault: str
) -> None:
    """By injection: a nearly black picture ends the process, or has the error that a broken CUDA context has."""
    root = build_with(tmp_path, "service/inference/session.py", FAULT.format(fault))
    server = launched_as((), root, tiny_store, **PATIENT)
    server.wait_until_ready()
    before = workers(server)
    dark = request("/v1/classify", encode(Image.new("RGB", (40, 40), (2, 2, 2))))
    with driving(Plan(server.port, rate=20, seconds=READY_SECONDS, patience=READY_SECONDS), [CLASSIFY]) as load:
        time.sleep(2)
        seen = drive(Plan(server.port, rate=1, seconds=1, spacing="even", patience=READY_SECONDS), [dark])
        assert is_back(server)
        load.stop()
        others = load.seen()
    assert seen.statuses() == {"500": 1}
    assert others.statuses() == {"200": len(others.fates)}
    assert workers(server) == before
    values = settled(server)
    assert (values["hubel_engine_restarts_total"], values["hubel_lost_images_total"]) == (2, 1)
    assert server.stop() == 0
