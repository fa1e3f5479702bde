"""A front and its engine: what is asked is answered, whatever becomes of the engine's process."""

import asyncio
import math
import os
import socket
import time
from collections.abc import Awaitable, Callable
from types import SimpleNamespace

import msgspec
import pytest

from service.engine import ipc
from service.engine.client import KEPT, EngineClient, EngineError
from service.engine.high_water import QUIET_TURNS
from service.engine.ipc import HEAD
from service.engine.messages import Ready
from service.errors import DeadlineExceeded
from service.inference.job import Job
from tests.factories import make_manifest
from tests.service.engine.fakes import BLOCKED, DEADLY, LATE, POISON, SPEC, Dead, Engines, image

Scenario = Callable[[EngineClient], Awaitable[object]]


def play(engines: Engines, *scenarios: Scenario, count: int = 100) -> None:
    """Each with a front of its own, all at once; one that hangs fails."""

    async def run() -> None:
        clients = [EngineClient.connect(engines.address, count, LATE) for _ in scenarios]
        for client in clients:
            client.attach(asyncio.get_running_loop())
        try:
            async with asyncio.timeout(LATE):
                await asyncio.gather(*(scenario(client) for scenario, client in zip(scenarios, clients, strict=True)))
        finally:
            for client in clients:
                client.close()

    asyncio.run(run())


def submit(
    client: EngineClient, number: int, outputs: tuple[str, ...] = ("features",), seconds: float = LATE
) -> asyncio.Task[Job]:
    return asyncio.ensure_future(client.submit(image(number), outputs, time.perf_counter() + seconds))


async def block(client: EngineClient, engines: Engines) -> asyncio.Task[Job]:
    """Have the network busy until its gate opens."""
    task = submit(client, BLOCKED)
    assert await asyncio.to_thread(engines.sessions[-1].busy.wait, LATE)
    return task


def features_of(job: Job) -> list[float]:
    return job.row["features"].tolist()


def test_it_says_what_it_is(engines: Engines) -> None:
    client = EngineClient.connect(engines.address, 4, LATE)
    assert (client.manifest, client.provider, client.precision) == (make_manifest(input=SPEC), "CPU", "fp32")
    assert (client.skipped_backends, client.place) == ([], 0)
    assert abs(client.loaded_at - time.time()) < 60
    client.close()


def test_each_answer_belongs_to_its_own_image_and_fronts_share_batches(engines: Engines) -> None:
    first_is_in, both_are_in = asyncio.Event(), asyncio.Event()

    async def first(client: EngineClient) -> None:
        blocked = await block(client, engines)
        jobs = [submit(client, number) for number in (1, 2)]
        first_is_in.set()
        await both_are_in.wait()
        await asyncio.sleep(0.05)
        engines.sessions[0].gate.set()
        await blocked
        assert [features_of(await job) for job in jobs] == [[1] * 4, [2] * 4]

    async def second(client: EngineClient) -> None:
        await first_is_in.wait()
        jobs = [submit(client, number) for number in (3, 4)]
        await asyncio.sleep(0)
        both_are_in.set()
        assert [features_of(await job) for job in jobs] == [[3] * 4, [4] * 4]

    play(engines, first, second)
    assert sorted(engines.sessions[0].batches[1]) == [1, 2, 3, 4]


def test_more_images_than_slots_wait_for_one(engines: Engines) -> None:
    async def scenario(client: EngineClient) -> None:
        jobs = await asyncio.gather(*(submit(client, number) for number in range(100, 160)))
        assert [features_of(job) for job in jobs] == [[n] * 4 for n in range(100, 160)]

    play(engines, scenario, count=5)


def test_each_image_has_the_outputs_that_were_asked_for_and_its_times(engines: Engines) -> None:
    sizes: list[int] = []
    times: list[float] = []

    def observe(size: int, seconds: float) -> None:
        sizes.append(size)
        times.append(seconds)

    async def scenario(client: EngineClient) -> None:
        client.observe = observe
        blocked = await block(client, engines)
        jobs = [submit(client, 1, ("logits",)), submit(client, 2, ("features", "logits"))]
        await asyncio.sleep(0.05)
        engines.sessions[0].gate.set()
        await blocked
        one, two = [await job for job in jobs]
        assert {name: row.tolist() for name, row in one.row.items()} == {"logits": [-1, 1, 0]}
        assert {name: row.tolist() for name, row in two.row.items()} == {"features": [2] * 4, "logits": [-2, 2, 0]}
        assert (one.together, two.together, blocked.result().together) == (2, 2, 1)
        assert one.queue_seconds >= 0.04
        assert one.infer_seconds == two.infer_seconds > 0

    play(engines, scenario)
    assert sizes == [1, 2]


def test_an_image_whose_waiter_leaves_is_not_computed_and_its_slot_is_used_again(engines: Engines) -> None:
    dropped: list[str] = []

    async def scenario(client: EngineClient) -> None:
        client.drop = dropped.append
        blocked = await block(client, engines)
        gone, kept = submit(client, 1), submit(client, 2)
        await asyncio.sleep(0.05)
        gone.cancel()
        await asyncio.sleep(0)
        engines.sessions[0].gate.set()
        await asyncio.gather(blocked, kept)
        assert gone.cancelled()
        jobs = [await submit(client, number) for number in (3, 4, 5)]
        assert [features_of(job) for job in jobs] == [[n] * 4 for n in (3, 4, 5)]

    play(engines, scenario, count=3)
    assert engines.sessions[0].batches[:2] == [[BLOCKED], [2]]
    assert dropped == ["disconnected"]


def test_an_image_past_its_deadline_is_refused_and_not_computed(engines: Engines) -> None:
    dropped: list[str] = []

    async def scenario(client: EngineClient) -> None:
        client.drop = dropped.append
        blocked, late = await block(client, engines), submit(client, 1, seconds=0.01)
        await asyncio.sleep(0.05)
        engines.sessions[0].gate.set()
        with pytest.raises(DeadlineExceeded, match=r"the image waited \d+\.\d s and was not computed"):
            await late
        await blocked

    play(engines, scenario)
    assert engines.sessions[0].batches == [[BLOCKED]]
    assert dropped == ["deadline"]


def test_a_poisonous_image_fails_alone_with_its_reason(engines: Engines) -> None:
    async def scenario(client: EngineClient) -> None:
        jobs = [submit(client, number) for number in (1, POISON, 3)]
        outcomes = await asyncio.gather(*jobs, return_exceptions=True)
        assert [isinstance(outcome, Job) for outcome in outcomes] == [True, False, True]
        with pytest.raises(RuntimeError, match="ValueError: poison"):
            jobs[1].result()

    play(engines, scenario)


def test_what_nobody_waits_for_is_computed_where_there_is_time(engines: Engines) -> None:
    async def scenario(client: EngineClient) -> None:
        job = await client.spare(image(7), ("features",))
        assert job is not None
        assert features_of(job) == [7] * 4
        engines.servers[0].batcher.spare_from = math.inf
        assert await client.spare(image(7), ("features",)) is None

    play(engines, scenario)


def test_an_engine_that_dies_loses_nothing_and_the_next_is_told_of_to_who_wants_to_know(engines: Engines) -> None:
    changes: list[str] = []

    async def scenario(client: EngineClient) -> None:
        client.changed = lambda: changes.append(client.provider)
        session = engines.sessions[0]
        blocked = await block(client, engines)
        waiting = [submit(client, number) for number in range(1, 6)]
        gone = submit(client, 6)
        await asyncio.sleep(0.05)
        gone.cancel()
        session.run = dead  # type: ignore[method-assign]  # the pass after the one that it is in
        session.gate.set()
        await asyncio.to_thread(engines.wait)
        await blocked
        later = submit(client, 7)  # while there is none
        await asyncio.sleep(0.05)
        next_one = engines.start()
        assert [features_of(await task) for task in waiting] == [[n] * 4 for n in range(1, 6)]
        assert features_of(await later) == [7] * 4
        assert next_one.batches[:5] == [[n] for n in range(1, 6)]  # one by one, as each may be why
        await submit(client, 8)

    def dead(images: object, outputs: object) -> None:
        raise Dead

    play(engines, scenario)
    assert changes == ["CPU"]


def test_an_image_with_which_two_engines_died_fails_alone(engines: Engines, caplog: pytest.LogCaptureFixture) -> None:
    lost: list[int] = []

    async def scenario(client: EngineClient) -> None:
        client.lost = lambda: lost.append(1)
        deadly, others = submit(client, DEADLY), [submit(client, number) for number in (1, 2, 3)]
        for _ in range(2):
            await asyncio.to_thread(engines.wait)
            engines.start()
        with pytest.raises(EngineError, match="2 engines died while they computed this image"):
            await deadly
        assert [features_of(await task) for task in others] == [[n] * 4 for n in (1, 2, 3)]
        assert features_of(await submit(client, 4)) == [4] * 4

    play(engines, scenario)
    assert lost == [1]
    assert "an image is not computed: 2 engines died" in caplog.text


def test_where_no_engine_takes_the_place_of_one_that_died_its_images_fail(engines: Engines) -> None:
    seen: list[EngineClient] = []

    async def scenario(client: EngineClient) -> None:
        seen.append(client)
        engines.listener.close()
        with pytest.raises(EngineError, match="no other takes its place"):
            await submit(client, DEADLY)
        with pytest.raises(EngineError, match="not in memory any more"):
            await submit(client, 1)

    play(engines, scenario)
    assert (seen[0].socket.fileno(), seen[0].handle) == (-1, -1)  # nothing is left open


def test_who_leaves_is_told_that_the_rest_is_not_computed_and_others_go_on(engines: Engines) -> None:
    async def leaving(client: EngineClient) -> None:
        blocked = await block(client, engines)
        client.close()
        with pytest.raises(EngineError, match="not in memory any more"):
            await blocked
        engines.sessions[0].gate.set()

    async def staying(client: EngineClient) -> None:
        await asyncio.sleep(0.05)
        assert features_of(await submit(client, 1)) == [1] * 4

    play(engines, leaving, staying)


def test_the_memory_of_a_rush_is_given_back_while_others_go_on(engines: Engines) -> None:
    async def scenario(client: EngineClient) -> None:
        await asyncio.gather(*(submit(client, number) for number in range(100, 190)))
        blocked = await block(client, engines)
        held = os.fstat(client.handle).st_blocks
        for turn in range(QUIET_TURNS):
            assert (client.upkeep() > KEPT) == (turn == 0)
            assert os.fstat(client.handle).st_blocks == held
        client.upkeep()
        assert (client.touched.mark, client.used) == (KEPT, 1)
        assert client.slots.pixels[:KEPT].any(axis=(1, 2, 3)).all()
        assert not client.slots.pixels[KEPT + 22 :].any()  # a page holds 21 of these
        engines.sessions[0].gate.set()
        await blocked
        assert features_of(await submit(client, 5)) == [5] * 4

    play(engines, scenario)


def test_at_an_address_where_nobody_is_there_is_an_error() -> None:
    listener, address = ipc.listen()
    listener.close()
    with pytest.raises(EngineError, match="cannot be spoken to"):
        EngineClient.connect(address, 4, LATE)


@pytest.mark.parametrize("said", [b"", b"\xff\xff\xff\xff", b"\0\0\0\3abc"])
def test_who_talks_nonsense_there_is_no_engine(said: bytes) -> None:
    listener, address = ipc.listen()
    with listener, socket.socket(socket.AF_UNIX) as other:
        other.connect("\0" + address)
        end, _ = listener.accept()
        end.close()

        async def scenario() -> None:
            task = asyncio.create_task(asyncio.to_thread(EngineClient.connect, address, 4, LATE))
            end, _ = await asyncio.to_thread(listener.accept)
            with end:
                end.sendall(said)
            with pytest.raises(EngineError):
                await task

        asyncio.run(scenario())


def test_another_user_s_process_is_no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    listener, address = ipc.listen()
    with listener:
        monkeypatch.setattr(ipc, "os", SimpleNamespace(geteuid=lambda: os.geteuid() + 1))
        with pytest.raises(EngineError, match="another user's"):
            EngineClient.connect(address, 4, LATE)


def test_a_greeting_in_parts_is_read_before_the_answers(engines: Engines) -> None:
    client = EngineClient.connect(engines.address, 4, LATE)
    ready = msgspec.msgpack.encode(Ready(make_manifest(input=SPEC), "other", "fp32", [], 3, 1.5, 8))
    data = len(ready).to_bytes(HEAD) + ready
    client.greeted = False
    assert client._take_greeting(data[:2]) == data[:2]  # pyright: ignore[reportPrivateUsage]
    assert client._take_greeting(data[:-1]) == data[:-1]  # pyright: ignore[reportPrivateUsage]
    assert not client.greeted
    assert client._take_greeting(data + b"\1\0") == b"\1\0"  # pyright: ignore[reportPrivateUsage]
    assert (client.greeted, client.provider, client.place) == (True, "other", 3)
    client.close()
