"""More work than can be done: what is accepted is answered in time, the rest is told at once to come back later."""

import random
from collections.abc import Generator
from pathlib import Path

import pytest

from benchmarks.bodies import FORM, form
from tests.conftest import Figures, StartServer
from tests.factories import make_image
from tests.faults.conftest import capacity, measured
from tests.faults.load import Plan, Seen, drive, request
from tests.faults.watch import probing, settled, usage
from tests.server import Server

pytestmark = [pytest.mark.server, pytest.mark.long]

SECONDS, RECOVERY, QUIET = 20.0, 10.0, 6.0  # of overload; until all is as before; of a look at how that is
GOODPUT = {2: 0.9, 5: 0.8, 10: 0.8}  # of the capacity, by how many times as much is asked for
SLO = 3000  # ms: twice HUBEL_MAX_QUEUE_MS, for its estimate lags behind when the machine slows down
REFUSED = 50  # ms, 99 % of the refusals
PROBE = 1.0  # seconds
MEMORY = 1.2  # times what it was before
NORMAL = 1.5  # times the p99 before; and NOISE
NOISE = 50  # ms that a p99 may differ by on a machine that does other work too
LIGHT = 0.3  # of the capacity: a load that is none
CONNECTIONS = 8000
CLASSIFY = request("/v1/classify", make_image())
BULK = 32  # images of a request
FEW = 8  # the fewest times two that are bulk (more than 4 images)


@pytest.fixture(scope="module")
def server(start_server: StartServer, wide_store: Path) -> Generator[Server]:
    server = start_server(wide_store)
    capacity(server)  # memory is what it is under work
    yield server
    assert server.stop() == 0


def ask(server: Server, rate: float, seconds: float = SECONDS) -> Seen:
    return drive(Plan(server.port, rate, seconds, connections=CONNECTIONS, patience=15), [CLASSIFY])


@pytest.mark.parametrize("times", GOODPUT, ids=lambda times: f"{times} times")
def test_overload_costs_little_goodput_and_ends_when_the_load_does(server: Server, figures: Figures, times: int) -> None:
    settled(server)
    before = usage(server)
    with measured(server) as capacities:
        alone = ask(server, LIGHT * capacities[0], QUIET).milliseconds(99)
        with probing(server.port) as probes:
            seen = ask(server, times * capacities[0])
        after = ask(server, LIGHT * capacities[0], RECOVERY + QUIET)
    p99_after = after.milliseconds(99, since=after.began + RECOVERY)
    share = seen.goodput() / min(capacities)
    now = usage(server)
    figures(
        capacity=[round(c) for c in capacities],
        offered=len(seen.fates) / seen.seconds,
        statuses=seen.statuses(),
        goodput=seen.goodput(),
        share=share,
        accepted_p99_ms=seen.milliseconds(99),
        refused_p50_ms=seen.milliseconds(50, 503),
        refused_p99_ms=seen.milliseconds(99, 503),
        p99_before_ms=alone,
        p99_after_ms=p99_after,
        probes=len(probes.all),
        slowest_probe_ms=1000 * probes.slowest(),
        mib=f"{before.mib:.0f} -> {now.mib:.0f}",
        late_ms=seen.late_ms,
        client_cpu=seen.client_cpu,
    )
    assert set(seen.statuses()) <= {"200", "503"}, seen.statuses()
    assert all(int(fate.retry_after) >= 1 for fate in seen.with_status(503))
    assert probes.failed() == []
    assert probes.slowest() <= PROBE
    assert seen.milliseconds(99) <= SLO
    assert set(after.statuses()) == {"200"}
    assert p99_after <= NORMAL * alone + NOISE
    assert now.mib <= MEMORY * before.mib
    assert share >= GOODPUT[times]
    assert seen.milliseconds(99, 503) <= REFUSED


def test_single_images_do_not_wait_for_large_requests(server: Server, figures: Figures) -> None:
    """At 0.6 of the capacity, of which large requests are the half."""
    settled(server)
    body = form([make_image(seed=seed) for seed in range(BULK)], "images")
    large = request("/v1/classify", body, FORM)
    rate = LIGHT * capacity(server)
    alone = ask(server, rate)
    mixed = drive(Plan(server.port, rate * (BULK + 1) / BULK, SECONDS, patience=15), [large, *[CLASSIFY] * BULK])
    singles, bulk = mixed.of(*range(1, BULK + 1)), mixed.of(0)
    figures(
        alone_p99_ms=alone.milliseconds(99),
        mixed_p99_ms=singles.milliseconds(99),
        mixed_p50_ms=singles.milliseconds(50),
        large_p99_ms=bulk.milliseconds(99),
        statuses=mixed.statuses(),
    )
    assert set(mixed.statuses()) == {"200"}
    assert singles.milliseconds(99) <= 3 * alone.milliseconds(99) + NOISE


def test_when_there_is_too_much_of_everything_single_images_to_classify_are_answered(server: Server, figures: Figures) -> None:
    """At three times the capacity, in images: 1.2 of it to classify, and 0.9 each of features and of large requests."""
    settled(server)
    bodies = {
        "bulk": request("/v1/classify", form([make_image(seed=seed) for seed in range(FEW)], "images"), FORM),
        "features": request("/v1/features", make_image()),
        "classify": CLASSIFY,
    }
    order = ["bulk"] * 3 + ["features"] * 24 + ["classify"] * 32  # 24 + 24 + 32 images
    random.Random(0).shuffle(order)
    images = 3 * FEW + 24 + 32
    with measured(server) as capacities:
        rate = 3 * capacities[0] * len(order) / images
        seen = drive(Plan(server.port, rate, SECONDS, connections=CONNECTIONS, patience=15), [bodies[way] for way in order])
    parts = {way: seen.of(*(kind for kind, one in enumerate(order) if one == way)) for way in bodies}
    answered = {way: len(part.with_status(200)) / len(part.fates) for way, part in parts.items()}
    share = parts["classify"].goodput() / min(capacities)
    figures(
        capacity=[round(c) for c in capacities],
        classify_share=share,
        **{f"{way}_answered": part for way, part in answered.items()},
        classify_p99_ms=parts["classify"].milliseconds(99),
        statuses={way: part.statuses() for way, part in parts.items()},
    )
    assert set(seen.statuses()) <= {"200", "503", "504"}, seen.statuses()
    assert answered["bulk"] <= answered["features"] + 0.05
    assert answered["features"] < answered["classify"]
    assert share >= 0.9
