"""Admission of decoding: small images never wait for large ones, memory and time are bounded, nobody is served for nothing."""

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from models.image.limits import DECODED_BYTES, LIMITS
from models.image.preprocess import Pixels
from models.image.spec import InputSpec
from service.errors import ImageTooLarge, Overloaded, UndecodableImage
from service.inference import decode_queue
from service.inference.decode_queue import COSTS, DecodeQueue, weigh
from tests.factories import make_image, png_header
from tests.server import ROOT

SPEC = InputSpec(height=32, width=32, resize=36)
SMALL, MEDIUM, LONG = png_header(100, 100), png_header(2000, 1000), png_header(7000, 6000)
PATIENCE = 30.0  # seconds, for what should take none


class Decoder:
    """Stands for decode.py: notes what began, and ends what it is told to."""

    def __init__(self) -> None:
        self.began: list[bytes] = []
        self.release: dict[bytes, threading.Event] = {}
        self.held: set[bytes] = set()

    def hold(self, *files: bytes) -> None:
        """These do not end before ``free``."""
        for file in files:
            self.release[file] = threading.Event()

    def free(self) -> None:
        for event in self.release.values():
            event.set()

    def __call__(self, data: bytes, *_: object) -> Pixels:
        self.began.append(data)
        if data in self.release:
            assert self.release[data].wait(PATIENCE)
        return np.zeros((32, 32, 3), np.uint8)


@pytest.fixture
def decoder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Decoder]:
    made = Decoder()
    monkeypatch.setattr(decode_queue, "preprocess", made)
    yield made
    made.free()


@pytest.fixture
def make(decoder: Decoder) -> Iterator[Callable[..., DecodeQueue]]:
    made: list[DecodeQueue] = []
    pools: list[ThreadPoolExecutor] = []

    def build(threads: int = 2, **options: Any) -> DecodeQueue:
        pools.append(ThreadPoolExecutor(threads))
        given: dict[str, Any] = {"max_bytes": 2**40, "max_images": 100, "max_seconds": 10.0} | options
        made.append(DecodeQueue(pools[-1], threads, LIMITS, **given))
        return made[-1]

    yield build
    decoder.free()
    for one in made:
        one.close()
    for pool in pools:
        pool.shutdown()


async def ask(on: DecodeQueue, *files: bytes, seconds: float = 1e6, owner: object = None) -> list[Pixels]:
    """One request."""
    plans = [on.plan(file, SPEC) for file in files]
    with on.admit(plans, seconds, owner, bulk=len(files) > 4):
        return list(await asyncio.gather(*[on.run(file, plan, SPEC) for file, plan in zip(files, plans, strict=True)]))


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, PATIENCE))


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.002)


def named(base: bytes, name: str) -> bytes:
    """The same header in another file."""
    return base + name.encode()


def test_the_event_loop_itself_decodes_for_whoever_is_alone_what_takes_little(
    make: Callable[..., DecodeQueue], monkeypatch: pytest.MonkeyPatch
) -> None:
    on, threads = make(), list[tuple[int, bool]]()
    photo, progressive = make_image("JPEG", 400, 300), make_image("JPEG", 400, 300, progressive=True)

    def preprocess(data: bytes, *_: object) -> Pixels:
        threads.append((len(data), threading.current_thread() is threading.main_thread()))
        return np.zeros((32, 32, 3), np.uint8)

    monkeypatch.setattr(decode_queue, "preprocess", preprocess)

    async def scenario() -> None:
        for files in ([photo], [progressive], [photo, photo], [photo]):
            await ask(on, *files)

    run(scenario())
    size = len(photo)
    assert threads == [(size, True), (len(progressive), False), (size, False), (size, False), (size, True)]


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_small_and_middling_images_pass_any_number_of_large_ones(
    make: Callable[..., DecodeQueue], decoder: Decoder, threads: int
) -> None:
    on = make(threads)
    large = [named(LONG, str(i)) for i in range(9)]
    decoder.hold(*large)

    async def scenario() -> None:
        asked = asyncio.create_task(ask(on, *large))
        await until(lambda: len(decoder.began) == threads)
        for file in (SMALL, MEDIUM, SMALL, MEDIUM):
            await ask(on, file)
        assert [file for file in decoder.began if file in large] == large[:threads]
        decoder.free()
        await asked

    run(scenario())
    assert len(decoder.began) == 13


def test_what_runs_for_longer_than_predicted_leaves_a_thread_free_as_if_it_had_been_known(
    make: Callable[..., DecodeQueue], decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    on = make(1)
    slow = named(MEDIUM, "made to be slow")
    decoder.hold(slow, LONG)

    async def scenario() -> None:
        first = asyncio.create_task(ask(on, slow))
        await until(lambda: decoder.began == [slow])
        (plan,) = on.running
        plan.began -= 1.0  # it has run for a second
        second = asyncio.create_task(ask(on, LONG))
        await ask(on, MEDIUM)
        assert decoder.began == [slow, MEDIUM]
        decoder.free()
        await first
        await second

    run(scenario())


def test_whoever_asks_for_little_goes_before_the_rest_of_who_asks_for_much(
    make: Callable[..., DecodeQueue], decoder: Decoder
) -> None:
    on = make(1)
    many = [named(LONG, str(i)) for i in range(4)]
    decoder.hold(many[0])

    async def scenario() -> None:
        asked = asyncio.create_task(ask(on, *many))
        await until(lambda: bool(decoder.began))
        late = asyncio.create_task(ask(on, named(LONG, "late")))
        await until(lambda: len(on.waiting) == 4)
        decoder.free()
        await asyncio.gather(asked, late)

    run(scenario())
    assert decoder.began == [many[0], named(LONG, "late"), *many[1:]]


def test_what_waited_for_long_enough_goes_before_what_asks_for_less(make: Callable[..., DecodeQueue], decoder: Decoder) -> None:
    on = make(1)
    first, old, new = (named(LONG, name) for name in ("first", "old", "new"))
    decoder.hold(first)

    async def scenario() -> None:
        asked = [asyncio.create_task(ask(on, first))]
        await until(lambda: bool(decoder.began))
        asked.append(asyncio.create_task(ask(on, named(LONG, "a"), old)))
        await until(lambda: len(on.waiting) == 2)
        for plan in on.waiting:
            plan.key -= 60.0  # a minute ago
        asked.append(asyncio.create_task(ask(on, new)))
        await until(lambda: len(on.waiting) == 3)
        decoder.free()
        await asyncio.gather(*asked)

    run(scenario())
    assert decoder.began == [first, named(LONG, "a"), old, new]


def test_requests_of_one_client_count_together(make: Callable[..., DecodeQueue], decoder: Decoder) -> None:
    on = make(1)
    first, again, other = (named(LONG, name) for name in ("first", "again", "other"))
    decoder.hold(first)

    async def scenario() -> None:
        asked = [asyncio.create_task(ask(on, first, owner="one"))]
        await until(lambda: bool(decoder.began))
        asked += [asyncio.create_task(ask(on, again, owner="one")), asyncio.create_task(ask(on, other, owner="two"))]
        await until(lambda: len(on.waiting) == 2)
        decoder.free()
        await asyncio.gather(*asked)

    run(scenario())
    assert decoder.began == [first, other, again]


def test_images_wait_for_memory_without_keeping_smaller_ones(
    make: Callable[..., DecodeQueue], decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = weigh(LONG, decode_queue.inspect(LONG, LIMITS), SPEC)[2]
    on = make(4, max_bytes=size + size // 2)
    first, second = named(LONG, "first"), named(LONG, "second")
    decoder.hold(first)

    async def scenario() -> None:
        asked = [asyncio.create_task(ask(on, first)), asyncio.create_task(ask(on, second))]
        await until(lambda: bool(on.waiting and decoder.began))
        await ask(on, MEDIUM)
        assert on.held <= on.max_bytes
        monkeypatch.setattr(decode_queue, "HOLD_SECONDS", 0.0)  # it has waited long enough: what becomes free is its own
        next(iter(on.waiting)).key = 0.0
        late = asyncio.create_task(ask(on, named(MEDIUM, "late")))
        await until(lambda: len(on.waiting) == 2)
        assert decoder.began == [first, MEDIUM]
        decoder.free()
        await asyncio.gather(*asked, late)

    run(scenario())
    assert decoder.began[2] == second
    assert on.held == 0


def test_what_would_not_be_decoded_in_time_is_refused_at_once(make: Callable[..., DecodeQueue], decoder: Decoder) -> None:
    refused: list[None] = []
    on = make(2, refused=lambda: refused.append(None))
    files = [named(LONG, str(i)) for i in range(8)]
    decoder.hold(*files)

    async def scenario() -> None:
        asked = asyncio.create_task(ask(on, *files))
        await until(lambda: len(decoder.began) == 2)
        with pytest.raises(
            Overloaded, match=r"8 images wait to be decoded, before 9 more of 378\.0 MP together.* 0\.5 s"
        ) as told:
            await ask(on, *[named(LONG, f"late {i}") for i in range(9)], seconds=0.5)
        assert told.value.retry_after_seconds >= 1
        await ask(on, MEDIUM, seconds=0.5)  # little goes first, so it will be in time
        decoder.free()
        await asked

    run(scenario())
    assert len(refused) == 1
    assert not on.claims


def test_who_meets_nobody_may_try_one_image_but_not_what_will_not_do(make: Callable[..., DecodeQueue], decoder: Decoder) -> None:
    on = make(2)

    async def scenario() -> None:
        await ask(on, LONG, seconds=0.01)
        with pytest.raises(Overloaded, match="fewer at once"):
            await ask(on, *[LONG] * 30, seconds=2.0)

    run(scenario())
    assert decoder.began == [LONG]


def test_no_more_images_wait_than_may(make: Callable[..., DecodeQueue], decoder: Decoder) -> None:
    on = make(1, max_images=3)
    decoder.hold(LONG)

    async def scenario() -> None:
        asked = asyncio.create_task(ask(on, LONG))
        await until(lambda: bool(decoder.began))
        with pytest.raises(Overloaded):
            await ask(on, MEDIUM, MEDIUM, MEDIUM)
        await ask(on, MEDIUM, MEDIUM)
        decoder.free()
        await asked

    run(scenario())


def test_work_whose_client_is_gone_is_dropped_and_what_runs_for_it_counts_until_it_ends(
    make: Callable[..., DecodeQueue], decoder: Decoder
) -> None:
    dropped: list[str] = []
    told: list[tuple[int, int]] = []
    on = make(1, drop=dropped.append, changed=lambda *now: told.append(now))
    files = [named(LONG, str(i)) for i in range(3)]
    decoder.hold(files[0])

    async def scenario() -> None:
        asked = asyncio.create_task(ask(on, *files))
        await until(lambda: bool(decoder.began))
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        assert dropped == ["disconnected"] * 2
        assert (len(on.claims), len(on.waiting), on.held > 0) == (1, 0, True)
        decoder.free()
        await until(lambda: not on.claims)
        await ask(on, MEDIUM)

    run(scenario())
    assert decoder.began == [files[0], MEDIUM]
    assert told[-1] == (0, 0)
    assert max(told) == (2, max(held for _, held in told))


def test_what_is_too_late_is_not_begun(make: Callable[..., DecodeQueue], decoder: Decoder) -> None:
    on = make(1)
    late = named(LONG, "late")
    decoder.hold(LONG)

    async def scenario() -> None:
        asked = [asyncio.create_task(ask(on, LONG)), asyncio.create_task(ask(on, late))]
        await until(lambda: len(on.waiting) == 1)
        next(iter(on.waiting)).deadline = 0.0
        decoder.free()
        await asked[0]
        asked[1].cancel()

    run(scenario())
    assert decoder.began == [LONG]


def test_the_line_waits_while_the_network_has_no_room(make: Callable[..., DecodeQueue], decoder: Decoder) -> None:
    full = [True]
    on = make(2, room=lambda: not full[0])

    async def scenario() -> None:
        asked = asyncio.create_task(ask(on, LONG))
        await ask(on, SMALL)
        await until(lambda: bool(on.waiting))
        assert decoder.began == [SMALL]
        full[0] = False
        await asked

    run(scenario())


def test_what_is_quick_does_not_wait_for_the_network(make: Callable[..., DecodeQueue], decoder: Decoder) -> None:
    full = [True]
    on = make(2, room=lambda: not full[0])

    async def scenario() -> None:
        asked = asyncio.create_task(ask(on, LONG))
        await until(lambda: bool(on.waiting))
        await ask(on, MEDIUM)
        assert decoder.began == [MEDIUM]
        full[0] = False
        await asked

    run(scenario())


def test_small_images_come_after_quick_ones_that_wait(make: Callable[..., DecodeQueue], decoder: Decoder) -> None:
    on = make(1)
    larger = png_header(500, 500)
    first = [named(MEDIUM, str(i)) for i in range(3)]
    decoder.hold(*first)

    async def scenario() -> None:
        asked = [asyncio.create_task(ask(on, file)) for file in first]
        await until(lambda: len(on.waiting) == 1)
        assert not on.plan(larger, SPEC).small
        assert on.plan(SMALL, SPEC).small
        decoder.free()
        await asyncio.gather(*asked)
        assert on.plan(larger, SPEC).small

    run(scenario())


def test_images_are_refused_when_quick_ones_wait_too_long(make: Callable[..., DecodeQueue], decoder: Decoder) -> None:
    on = make(1, max_seconds=1.0)
    first = [named(MEDIUM, str(i)) for i in range(3)]
    decoder.hold(*first)

    async def scenario() -> None:
        asked = [asyncio.create_task(ask(on, file)) for file in first]
        await until(lambda: len(on.waiting) == 1)
        on.check()
        on.max_seconds = 2.5 * on.plan(MEDIUM, SPEC).seconds
        with pytest.raises(Overloaded, match="3 images wait to be decoded"):
            on.check()
        with pytest.raises(Overloaded, match="3 images wait to be decoded, before 1 more"):
            await ask(on, MEDIUM)
        decoder.free()
        await asyncio.gather(*asked)
        on.check()

    run(scenario())


def test_many_small_images_wait_in_line_too_so_that_tiny_ones_pass(make: Callable[..., DecodeQueue]) -> None:
    on = make(2)
    larger = png_header(500, 500)
    assert on.plan(larger, SPEC).small
    on.small_seconds, on.small = 0.02, [0, 20]
    assert not on.plan(larger, SPEC).small
    assert on.plan(SMALL, SPEC).small
    assert not on.plan(SMALL + bytes(decode_queue.TINY_BYTES), SPEC).small


def test_small_images_are_refused_when_they_would_wait_too_long_and_bulk_first(make: Callable[..., DecodeQueue]) -> None:
    on = make(2, max_seconds=1.0)
    on.small_seconds, on.small = 0.05, [20, 30]
    on.check()
    with pytest.raises(Overloaded, match=r"50 images wait to be decoded, which takes 1\.2 s.* within 1\.0 s"):
        on.check(bulk=True)
    with pytest.raises(Overloaded, match=r"20 images wait to be decoded, which takes 0\.5 s.* within 0\.4 s"):
        on.check(0.4)


def test_a_pace_is_learned_within_bounds_and_forgotten(make: Callable[..., DecodeQueue], monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.perf_counter()
    monkeypatch.setattr(decode_queue, "time", SimpleNamespace(perf_counter=lambda: now))  # to decode takes no time
    on = make(1)
    before = on.plan(MEDIUM, SPEC).seconds
    pace = on.paces["png"]
    for _ in range(50):
        pace.learn(1e9)
    assert before * 15 < on.plan(MEDIUM, SPEC).seconds <= before * 20
    assert on.plan(make_image("WEBP", 2000, 1000), SPEC).seconds < 1
    pace.measured -= decode_queue.FORGET_SECONDS
    assert on.plan(MEDIUM, SPEC).seconds == before
    run(_decoded(on, MEDIUM))
    assert on.plan(MEDIUM, SPEC).seconds < before


async def _decoded(on: DecodeQueue, file: bytes) -> None:
    await ask(on, file)


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        (make_image("JPEG", 900, 900), "jpeg"),
        (make_image("JPEG", 900, 900, mode="CMYK"), "jpeg"),
        (make_image("JPEG", 900, 900, progressive=True), "gathered"),
        (make_image("PNG", 900, 900), "png"),
        (make_image("PNG", 900, 900, mode="L"), "png"),
        (make_image("PNG", 900, 900, mode="RGBA"), "deep"),
        (make_image("PNG", 900, 900, mode="LA"), "deep"),
        (make_image("PNG", 900, 900, mode="I;16"), "deep"),
        (make_image("WEBP", 900, 900), "webp"),
        (make_image("WEBP", 900, 900, lossless=True), "webp"),
        (png_header(900, 900)[:24], "png"),
        (make_image("JPEG", 900, 900)[:200], "jpeg"),
    ],
)
def test_a_kind_is_told_by_the_header(file: bytes, kind: str) -> None:
    found, seconds, size = weigh(
        file, decode_queue.inspect(file, LIMITS) if len(file) > 200 else decode_queue.Header(*_like(file)), SPEC
    )
    assert found == kind
    assert seconds > 900 * 900 * COSTS[found].pixel / 1e9
    assert 900 * 900 * 12 < size <= 900 * 900 * DECODED_BYTES + 2 * len(file)


def _like(file: bytes) -> tuple[Any, int, int]:
    return ("png" if file[1:4] == b"PNG" else "jpeg"), 900, 900


def test_scans_over_many_pixels_are_seen() -> None:
    plain, many = (make_image("JPEG", 900, 900, progressive=True), make_image("JPEG", 900, 900, progressive=True))
    many = many[:-2] + b"\xff\xda\0\x08\1\1\0\1\x3f\0" * 80 + many[-2:]
    header = decode_queue.inspect(plain, LIMITS)
    assert weigh(many, header, SPEC)[1] > 2 * weigh(plain, header, SPEC)[1]


def test_a_jpeg_decoded_at_an_eighth_takes_less_memory() -> None:
    file = make_image("JPEG", 3000, 3000)
    header = decode_queue.inspect(file, LIMITS)
    assert weigh(file, header, InputSpec(height=128, width=128, resize=128))[2] < weigh(file, header, SPEC)[2] / 8


def test_limits_and_faults_are_told_before_a_thread_has_anything(make: Callable[..., DecodeQueue], decoder: Decoder) -> None:
    on = make(1)
    with pytest.raises(ImageTooLarge, match="HUBEL_MAX_PIXELS"):
        on.plan(png_header(9000, 8000), SPEC)
    with pytest.raises(UndecodableImage):
        on.plan(b"\xff\xd8\xff", SPEC)
    assert not decoder.began


MEMORY = """
import sys
from models.image.spec import InputSpec
from models.image.limits import LIMITS
from service.inference.decode import decode, inspect
from service.inference.decode_queue import weigh
from service.errors import UndecodableImage
from tests.factories import make_image
from tests.hostile import costly, memory
SPEC = InputSpec(height=32, width=32, resize=36)
for format in ("JPEG", "PNG", "WEBP"):
    decode(make_image(format), SPEC, LIMITS)
for file in {files}:
    peak = memory.Peak([memory.os.getpid()])
    try:
        decode(file, SPEC, LIMITS)
    except UndecodableImage as err:
        assert "cut off" in str(err)
    print(peak.grown() / weigh(file, inspect(file, LIMITS), SPEC)[2])
"""


@pytest.mark.parametrize(
    "files",
    [
        "make_image('JPEG', 2000, 1500, mode='CMYK', subsampling=0), costly.odd_jpeg(2000, 1500)",
        "make_image('JPEG', 2000, 1500, progressive=True, subsampling=0), costly.tiny_webp(2000, 1500)",
        "make_image('PNG', 2000, 1500, mode='LA'), costly.interlaced_png(2000, 1500), make_image('PNG', 2000, 1500, mode='I;16')",
        "make_image('PNG', 2000, 1500), make_image('PNG', 2000, 1500, mode='P', transparency=3)",
    ],
)
def test_no_image_takes_more_memory_than_is_counted_for_it(files: str) -> None:
    program = MEMORY.replace("{files}", f"({files},)").replace("memory.os.getpid()", "__import__('os').getpid()")
    freeing = os.environ | {"MALLOC_MMAP_THRESHOLD_": "131072"}  # what an image took is given back, and not there for the next
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=freeing, capture_output=True, text=True, timeout=120)
    shares = [float(line) for line in result.stdout.split()]
    assert len(shares) == files.count("000, 1500"), result.stderr
    assert all(0.2 < share <= 1.05 for share in shares), shares
