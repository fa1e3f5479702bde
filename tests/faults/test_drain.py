"""SIGTERM under load: whoever was let in is answered, nobody is let in any more, and the service ends well."""

import os
import random
import signal
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from msgspec import Struct

from models.image.spec import InputSpec
from models.registry import registry
from tests.conftest import Figures, StartServer
from tests.factories import make_image, make_package
from tests.faults.conftest import capacity
from tests.faults.load import Fate, Plan, Seen, driving, request
from tests.faults.watch import Probed, metrics, probe
from tests.server import Server
from tests.traffic import until, versions_served

pytestmark = pytest.mark.server

ROUNDS = 20
GRACE = 27  # seconds: HUBEL_SHUTDOWN_SECONDS and the drain before
BEFORE, AFTER = 1.0, 3.0  # seconds of load
ANSWERED = 'hubel_requests_total{route="/v1/classify",status="200"}'
UNREAD = 5  # requests that may wait in a round for a service that does not take them any more, when the port is closed


class Round(Struct):
    """One service under load that got SIGTERM. lost: requests that were sent whole and not answered, but for ``unread``:
    the first on their connection and reset, which the service had not accepted or not begun to read.
    """

    seen: Seen
    code: int
    seconds: float
    probes: list[Probed]
    lost: list[Fate]
    unread: list[Fate]


@contextmanager
def asking_whether_ready(port: int) -> Generator[list[Probed]]:
    """Every 20 ms, over new connections, until the port is closed."""
    answers: list[Probed] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set() and (not answers or answers[-1].status):
            answers.append(probe(port, "/readyz"))
            stop.wait(0.02)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield answers
    finally:
        stop.set()
        thread.join()


def drain(server: Server, rate: float, seed: int = 0) -> Round:
    plan = Plan(server.port, rate, BEFORE + AFTER, patience=GRACE, connections=256, seed=seed)
    with driving(plan, [request("/v1/classify", make_image())]) as load, asking_whether_ready(server.port) as probes:
        until(lambda: metrics(server).get(ANSWERED, 0) > 0, server)
        time.sleep(BEFORE * (1 + random.Random(seed).random()) / 2)
        began = time.perf_counter()
        os.kill(server.process.pid, signal.SIGTERM)
        code = server.process.wait(GRACE)
        seconds = time.perf_counter() - began
        seen = load.seen()
    silent = [fate for fate in seen.lost() if fate.written]
    unread = [fate for fate in silent if fate.fresh and fate.end == "reset"]
    return Round(seen, code, seconds, probes, [fate for fate in silent if fate not in unread], unread)


def check(round: Round) -> None:
    """What holds of every round."""
    assert round.lost == []
    assert len(round.unread) <= UNREAD
    assert round.code == 0
    assert set(round.seen.statuses()) - {"reset"} == {"200", "refused"}, round.seen.statuses()
    told = [one.status for one in round.probes]
    assert 503 in told, "the port was closed before /readyz said no"
    assert told[told.index(503) :] in ([503] * told.count(503), [503] * told.count(503) + [0])


def test_sigterm_under_load_loses_nothing_and_says_not_ready_first(launched: StartServer, wide_store: Path) -> None:
    check(drain(launched(wide_store, HUBEL_DRAIN_MS="1000"), rate=20))


def test_sigterm_under_load_after_a_swap_loses_nothing_either(launched: StartServer, tmp_path: Path) -> None:
    shapes = {"logits": [3], "features": [128], "feature_map": [128, 64, 64]}
    for _ in range(2):
        make_package(tmp_path, input=InputSpec(height=256, width=256, resize=256), outputs=shapes)
    server = launched(tmp_path, HUBEL_DRAIN_MS="1000")
    registry.promote(tmp_path, "tiny", 2, "test")
    until(lambda: versions_served(server)[0] == 2, server)
    check(drain(server, rate=20))
    assert " ended (" not in server.output()


@pytest.mark.long
@pytest.mark.parametrize("workers", [1, 2])
def test_sigterm_at_seven_tenths_of_capacity_never_loses_an_accepted_request(
    launched: StartServer, wide_store: Path, figures: Figures, workers: int
) -> None:
    settings = {"HUBEL_WORKERS": str(workers)}
    rate = 0.7 * capacity(launched(wide_store, **settings))
    rounds = [drain(launched(wide_store, **settings), rate, seed) for seed in range(ROUNDS // 2)]
    answered, refused = ([len(r.seen.ended(end)) for r in rounds] for end in ("answered", "refused"))
    figures(
        rounds=len(rounds),
        rate=rate,
        answered=sum(answered),
        refused_after=sum(refused),
        lost=sum(len(r.lost) for r in rounds),
        unread=sum(len(r.unread) for r in rounds),
        slowest_exit_s=max(r.seconds for r in rounds),
        codes=sorted({r.code for r in rounds}),
    )
    for round in rounds:
        check(round)
