"""What must wait while the network is busy: as much as the queue holds, and not longer than its deadline."""

import asyncio
import math
import time
from pathlib import Path
from statistics import median

import pytest

from service.engine.client import EngineClient
from service.errors import Overloaded
from service.inference.admission import Admission
from tests.conftest import StartServer
from tests.factories import make_image
from tests.faults.load import Plan, Seen, request, run
from tests.faults.slow import PAUSE
from tests.faults.watch import metrics, settled
from tests.server import Server
from tests.service.engine.fakes import BLOCKED, Engines, image

DISCONNECTED = 'hubel_dropped_images_total{reason="disconnected"}'
LATE = 60  # seconds after which a test has hung
QUEUE, SURPLUS = 5, 2


def test_of_more_images_than_places_exactly_the_surplus_is_refused_and_at_once() -> None:
    """Those that the network works on have places too."""
    engines = Engines()
    session = engines.start()
    client = EngineClient.connect(engines.address, QUEUE, LATE)
    admission = Admission(engines.board, lambda: engines.board.engine(0), max_batch=1, max_queue=QUEUE)

    async def ask(number: int) -> None:
        with admission.admit(1):
            await client.submit(image(number), ("logits",), math.inf)

    async def scenario() -> tuple[int, int]:
        client.attach(asyncio.get_running_loop())
        requests = [asyncio.create_task(ask(number)) for number in (BLOCKED, *range(1, QUEUE + SURPLUS))]
        refused, _ = await asyncio.wait(requests, timeout=1)
        session.gate.set()
        answers = await asyncio.wait_for(asyncio.gather(*requests, return_exceptions=True), LATE)
        assert {id(request) for request in refused} == {id(r) for r, a in zip(requests, answers, strict=True) if a}
        client.close()
        return sum(isinstance(answer, Overloaded) for answer in answers), answers.count(None)

    try:
        assert asyncio.run(scenario()) == (SURPLUS, QUEUE)
    finally:
        client.close()
        engines.close()
    assert sum(map(len, session.batches)) == QUEUE


def burst(server: Server, count: int) -> Seen:
    """A picture that stops the network, then others 10 ms apart; sent whether or not the first is answered."""
    requests = [request("/v1/classify", image) for image in (PAUSE, *[make_image()] * (count - 1))]
    return run(Plan(server.port, rate=100, seconds=count / 100, patience=LATE, spacing="even"), requests)


@pytest.mark.server
def test_over_http_too_exactly_the_surplus_is_refused_and_at_once(start_server: StartServer, slow_store: Path) -> None:
    settings = {"HUBEL_MAX_QUEUE": str(QUEUE), "HUBEL_MAX_IMAGES": "1", "HUBEL_MAX_QUEUE_MS": "600000"}
    server = start_server(slow_store, HUBEL_THREADS="1", HUBEL_MAX_BATCH="1", HUBEL_DEADLINE_MS="60000", **settings)
    seen = burst(server, QUEUE + SURPLUS)
    assert seen.statuses() == {"200": QUEUE, "503": SURPLUS}
    first_answer = min(fate.ended for fate in seen.with_status(200))
    assert all(fate.ended < first_answer and int(fate.retry_after) >= 1 for fate in seen.with_status(503))
    assert settled(server)["hubel_batch_size_images_sum"] == QUEUE


@pytest.mark.server
def test_what_waits_longer_than_its_deadline_is_answered_then_and_never_computed(
    start_server: StartServer, slow_store: Path
) -> None:
    deadline = 500
    server = start_server(slow_store, HUBEL_THREADS="1", HUBEL_MAX_BATCH="1", HUBEL_DEADLINE_MS=str(deadline))
    seen = burst(server, 6)
    assert seen.statuses() == {"504": 6}
    late = [fate.milliseconds - deadline for fate in seen.fates]
    assert median(late) < 250, late
    assert min(late) > -2  # the service's clock has whole milliseconds, and each end rounds its own
    until = time.monotonic() + 60
    while (values := settled(server))["hubel_batch_size_images_sum"] < 1 and time.monotonic() < until:
        time.sleep(0.05)
    after = burst(server, 1)  # the network stops again: what was queued behind it before would have been computed by now
    assert after.statuses() == {"504": 1}
    values = metrics(server)
    assert values["hubel_batch_size_images_sum"] == 1
    assert values['hubel_dropped_images_total{reason="deadline"}'] + values.get(DISCONNECTED, 0) == 5
