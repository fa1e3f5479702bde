"""Versions that come and go under load, again and again: nobody fails, few wait, nothing grows.

HUBEL_TEST_SWAPS is how many (100). Both versions take some milliseconds an image, and say different words to the same picture.
"""

import os
import time
from pathlib import Path
from statistics import median

import pytest

from models.image.spec import InputSpec
from models.lifecycle import candidate
from models.lifecycle.candidate import Candidate
from models.registry import registry
from tests.conftest import Figures, StartServer
from tests.factories import make_image, make_package
from tests.faults.conftest import capacity
from tests.faults.load import Plan, drive, driving, request
from tests.faults.watch import metrics, settled, usage
from tests.server import Server
from tests.traffic import TURNED, WORDS, traffic, until, versions_served

pytestmark = [pytest.mark.server, pytest.mark.long]

SWAPS = int(os.environ.get("HUBEL_TEST_SWAPS", "100"))
SHARE = 0.7  # of the capacity
TURN = 5  # swaps in a row, which are compared with QUIET_SECONDS before them
PAUSE = 2.0  # seconds between a swap and the next promotion
QUIET_SECONDS = 10.0
SLOWER, GROWTH = 2.0, 1.1
PAIRS, PAIR_SECONDS, SHADOW_COST = int(os.environ.get("HUBEL_TEST_SHADOW_PAIRS", "5")), 20.0, 1.1
SIZE, DIMENSIONS = 256, 128  # of the network


@pytest.fixture
def store(tmp_path: Path) -> Path:
    store = tmp_path / "store"
    shapes = {
        "logits": [3],
        "features": [DIMENSIONS],
        "feature_map": [DIMENSIONS, SIZE // 4, SIZE // 4],
    }
    for labels in (("red", "green", "blue"), TURNED):
        make_package(store, labels=labels, input=InputSpec(height=SIZE, width=SIZE, resize=SIZE), outputs=shapes)
    return store


def swap(server: Server, store: Path, version: int) -> float:
    """Promote, and wait until both workers answer with it; seconds."""
    began = time.monotonic()
    registry.promote(store, "tiny", version, "test")
    until(lambda: versions_served(server) == [version, version], server, every=0.5, patience=120)  # a scrape takes its time too
    return time.monotonic() - began


def test_many_swaps_under_load_cost_no_request_little_time_and_no_memory(
    start_server: StartServer, store: Path, figures: Figures
) -> None:
    server = start_server(store, HUBEL_WORKERS="2")
    until(lambda: versions_served(server) == [1, 1], server)
    body = make_image(color="red")
    before = [capacity(server, body) for _ in range(3)]
    rate = SHARE * median(before)
    messages = [request("/v1/classify", body)]
    quiet: list[tuple[float, float]] = []
    busy: list[tuple[float, float]] = []
    seconds: list[float] = []
    mib: list[float] = []
    with driving(Plan(server.port, rate, 3600, patience=15), messages) as load, traffic(server, clients=1) as clients:
        for first in range(0, SWAPS, TURN):
            time.sleep(PAUSE)  # it frees what was replaced
            began = time.perf_counter()
            time.sleep(QUIET_SECONDS)
            quiet.append((began, time.perf_counter()))
            for number in range(first, min(first + TURN, SWAPS)):
                seconds.append(swap(server, store, 1 + (number + 1) % 2))
                time.sleep(PAUSE)
                mib.append(usage(server).mib)
            busy.append((quiet[-1][1], time.perf_counter()))
        time.sleep(PAUSE)
        began = time.perf_counter()
        time.sleep(QUIET_SECONDS)
        quiet.append((began, time.perf_counter()))
        load.stop()
        seen = load.seen()
        p50, p99 = (
            [[seen.milliseconds(part, since=a, until=b) for a, b in spans] for spans in (quiet, busy)] for part in (50, 99)
        )
        ratio = median(during / without for without, during in zip(p99[0], p99[1], strict=False))  # nothing follows the last
        figures(
            swaps=SWAPS,
            rate=rate,
            requests=len(seen.fates),
            statuses=seen.statuses(),
            refused_without_swaps=sum(a <= fate.due < b for fate in seen.with_status(503) for a, b in quiet),
            turns=len(busy),
            p50_ms=" -> ".join(f"{median(values):.1f}" for values in p50),
            quiet_p50_ms=f"{p50[0][0]:.1f} before, {p50[0][-1]:.1f} after",
            p99_ms=" -> ".join(f"{median(values):.1f} ({min(values):.0f} to {max(values):.0f})" for values in p99),
            ratio=ratio,
            swap_seconds=f"{median(seconds):.1f} ({min(seconds):.1f} to {max(seconds):.1f})",
            mib=f"{mib[1]:.0f} after 2, {mib[-1]:.0f} after {SWAPS}",
        )
    settled(server)
    after = [capacity(server, body) for _ in range(3)]
    figures(capacity=f"{median(before):.1f} before, {median(after):.1f} after")
    assert seen.statuses() == {"200": len(seen.fates)}
    assert set(clients.answers) == {(version, WORDS[version]) for version in (1, 2)}
    assert mib[-1] <= GROWTH * mib[1]
    assert ratio <= SLOWER
    assert server.stop() == 0


def test_a_shadow_of_all_requests_costs_at_most_a_tenth_of_the_p99_at_half_capacity(
    start_server: StartServer, store: Path, figures: Figures
) -> None:
    shapes = registry.verify(store / "tiny" / "1").outputs
    make_package(store, input=InputSpec(height=SIZE, width=SIZE, resize=SIZE), outputs=shapes)  # tiny:3 is as tiny:1
    server = start_server(store)
    body = make_image(color="red")
    rate = capacity(server, body) / 2
    plan, messages = Plan(server.port, rate, PAIR_SECONDS, patience=15), [request("/v1/classify", body)]
    alone: list[float] = []
    beside: list[float] = []
    compared = 0.0
    for _ in range(PAIRS):
        alone.append(drive(plan, messages).milliseconds(99))
        candidate.start(store, "tiny", Candidate(3, "shadow", requests=10**9))
        until(lambda: metrics(server)['hubel_candidate_version{model="tiny"}'] == 3, server, every=0.5, patience=120)
        time.sleep(2)
        beside.append(drive(plan, messages).milliseconds(99))
        compared = metrics(server)['hubel_candidate_images_total{model="tiny",result="agreed",version="3"}']
        candidate.end(store, "tiny", False, "test")
        until(lambda: metrics(server)['hubel_candidate_version{model="tiny"}'] == 0, server)
    ratio = median(with_it / without for with_it, without in zip(beside, alone, strict=True))
    figures(
        rate=rate,
        p99_ms=", ".join(f"{a:.1f} -> {b:.1f}" for a, b in zip(alone, beside, strict=True)),
        ratio=ratio,
        compared=compared,
    )
    assert compared > PAIRS
    assert ratio <= SHADOW_COST
    assert server.stop() == 0
