"""Hours in minutes: mixed work at seven tenths of the capacity, and nothing grows. A build that leaks does not pass.

HUBEL_TEST_SOAK_SECONDS makes it longer than the eight minutes of make test-long.
"""

import os
import time
from base64 import b64encode
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from benchmarks.bodies import FORM, form
from tests.conftest import Figures, StartServer
from tests.factories import encode, make_image, make_picture
from tests.faults.build import build_with
from tests.faults.conftest import StartAs
from tests.faults.load import Plan, drive, driving, request
from tests.faults.watch import Usage, settled, usage
from tests.server import Server

pytestmark = [pytest.mark.server, pytest.mark.long]

SECONDS = float(os.environ.get("HUBEL_TEST_SOAK_SECONDS", "480"))
LEAK_SECONDS = 75.0
SEGMENT = 30.0  # seconds of load at once
GROWTH = 50  # MiB, from the middle to the end
THREADS, FDS = 2, 5  # that may come and go
SHARE = 0.7  # of the capacity
REFUSED = 0.05  # of the requests, on a machine that does other work too
LEAK = """
_read_body, _kept = read_body, []


async def read_body(*arguments, **options):
    _kept.append(bytearray(await _read_body(*arguments, **options)))
    return bytes(_kept[-1])
"""


@dataclass(frozen=True)
class Mixed:
    """A request and the status that it gets when all is well."""

    message: bytes
    status: int


@cache
def mixture() -> list[Mixed]:
    """Small and large pictures of all formats, alone and several, in all shapes of bodies, and some that are bad."""
    sizes = ((64, 48), (320, 240), (500, 375), (800, 600), (1200, 900))
    pictures = [grainy(format, *size) for size in sizes for format in ("JPEG", "PNG", "WEBP")]
    good = [request("/v1/classify", picture) for picture in pictures]
    good += [request(path, picture) for path in ("/v1/features", "/v1/explain", "/v1/top-k?k=2") for picture in pictures[:6]]
    good.append(request("/v1/classify", form(pictures[:4], "images"), FORM))
    encoded = {"images": [b64encode(picture).decode() for picture in pictures[:2]]}
    good.append(request("/v1/classify", msgspec.json.encode(encoded), "application/json"))
    damaged = pictures[3][: len(pictures[3]) // 2]
    bad = [(damaged, 400), (b"", 400), (make_image("GIF"), 415), (b"x" * 50_000, 415)]
    return [Mixed(message, 200) for message in good] + [
        *(Mixed(request("/v1/classify", body), status) for body, status in bad),
        Mixed(request("/v1/nothing", b"x"), 404),
        Mixed(request("/metrics", method="GET"), 200),
    ]


def grainy(format: str, width: int, height: int) -> bytes:
    """A picture whose file is as large as a photograph's, or larger."""
    grain = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)
    return encode(Image.blend(make_picture(width, height), Image.fromarray(grain), 0.3), format)


@dataclass
class Soak:
    """What a service used from the beginning to the end; how many requests were sent, were refused because others were
    slower than it takes on average, and were answered otherwise than they should be: (kind, should be, is).
    """

    uses: list[Usage]
    requests: int = 0
    refused: int = 0
    wrong: list[tuple[int, int, str]] = field(default_factory=list[tuple[int, int, str]])

    def growth(self) -> float:
        """MiB: the mean of the last tenth above the mean of the tenth after the middle."""
        tenth, middle = max(1, len(self.uses) // 10), len(self.uses) // 2
        means = [sum(use.mib for use in part) / tenth for part in (self.uses[middle : middle + tenth], self.uses[-tenth:])]
        return means[1] - means[0]


def soak(server: Server, seconds: float) -> Soak:
    messages = [mixed.message for mixed in mixture()]
    closed = drive(Plan(server.port, rate=0, seconds=5, connections=32, spacing="closed"), messages)
    rate = SHARE * len(closed.ended("answered")) / closed.seconds
    result = Soak([])
    end, seed = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        seed += 1
        with driving(Plan(server.port, rate, SEGMENT, patience=15, seed=seed), messages) as load:
            while load.process.poll() is None and time.monotonic() < end:
                result.uses.append(usage(server))
                time.sleep(1)
            load.stop()
            seen = load.seen()
        result.requests += len(seen.fates)
        result.refused += len(seen.with_status(503))
        for fate in seen.fates:
            if fate.status not in (503, should_be := mixture()[fate.kind].status):
                result.wrong.append((fate.kind, should_be, str(fate.status or fate.end)))
    return result


def test_nothing_grows_under_mixed_work(launched: StartServer, wide_store: Path, figures: Figures) -> None:
    server = launched(wide_store)
    before = usage(server)
    done = soak(server, SECONDS)
    settled(server)
    time.sleep(1)
    now, half = usage(server), done.uses[len(done.uses) // 2 :]
    threads = [use.threads for use in half]
    figures(
        seconds=SECONDS,
        requests=done.requests,
        refused=done.refused,
        wrong=len(done.wrong),
        growth_mib=done.growth(),
        mib=f"{before.mib:.0f} -> {now.mib:.0f}, at most {max(use.mib for use in done.uses):.0f}",
        threads=f"{min(threads)} to {max(threads)}",
        fds=f"{before.fds} -> {now.fds}",
    )
    assert done.growth() <= GROWTH
    assert max(threads) - min(threads) <= THREADS
    assert abs(now.fds - before.fds) <= FDS
    assert done.wrong == []
    assert done.refused <= REFUSED * done.requests
    assert server.stop() == 0


def test_a_build_that_keeps_every_body_is_found_out(
    launched_as: StartAs, wide_store: Path, tmp_path: Path, figures: Figures
) -> None:
    root = build_with(tmp_path, "service/http/body.py", LEAK)
    server = launched_as((), root, wide_store)
    server.wait_until_ready()
    done = soak(server, LEAK_SECONDS)
    figures(seconds=LEAK_SECONDS, requests=done.requests, growth_mib=done.growth())
    assert done.growth() > GROWTH
