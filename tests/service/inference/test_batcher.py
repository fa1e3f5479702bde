"""Stage queue: what is computed together, what is not computed at all, and who gets which answer."""

import asyncio
import itertools
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from models.image.preprocess import Pixels
from service.errors import DeadlineExceeded, Overloaded
from service.inference import batcher as module
from service.inference.batcher import ADMITTED_SECONDS, Arrays, Batcher, Compute, Job

POISON = 13
LATE = 10  # seconds after which a test has hung

MakeBatcher = Callable[..., Batcher]


def image(number: int) -> Pixels:
    return np.full((2, 2, 3), number, np.uint8)


def numbers(images: Pixels) -> list[int]:
    return [int(pixels[0, 0, 0]) for pixels in images]


def answers(images: Pixels, names: tuple[str, ...]) -> Arrays:
    """``features`` of image n are (n, n), its ``logits`` are (-n)."""
    values = np.array(numbers(images), np.float32)
    every = {"features": np.stack([values, values], axis=1), "logits": -values[:, None]}
    return {name: every[name] for name in names}


class Network:
    """Answers as ``answers``, unless an image is poison; holds every batch until the gate is open; keeps a record."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.outputs: list[tuple[str, ...]] = []
        self.busy = threading.Event()
        self.gate = threading.Event()

    def __call__(self, images: Pixels, outputs: tuple[str, ...]) -> Arrays:
        self.batches.append(numbers(images))
        self.outputs.append(outputs)
        self.busy.set()
        assert self.gate.wait(LATE)
        if POISON in self.batches[-1]:
            raise ValueError("poison")
        return answers(images, outputs)


@pytest.fixture
def make_batcher() -> Iterator[MakeBatcher]:
    made: list[Batcher] = []

    def make(compute: Compute, max_batch: int = 8, max_queue: int = 100, **options: Any) -> Batcher:
        made.append(Batcher(compute, max_batch=max_batch, max_queue=max_queue, **options))
        return made[-1]

    yield make
    for batcher in made:
        batcher.close()


def run(scenario: Coroutine[Any, Any, None]) -> None:
    """Run an asynchronous test; one that hangs fails."""

    async def timed() -> None:
        async with asyncio.timeout(LATE):
            await scenario

    asyncio.run(timed())


def submit(
    batcher: Batcher, number: int, outputs: tuple[str, ...] = ("features",), seconds: float = LATE, bulk: bool = False
) -> asyncio.Task[Job]:
    return asyncio.create_task(batcher.submit(image(number), outputs, time.perf_counter() + seconds, bulk))


async def keep_busy(batcher: Batcher, network: Network) -> asyncio.Task[Job]:
    """Have image 0 computed, which lasts until the gate opens: what is submitted now has to wait."""
    task = submit(batcher, 0)
    assert await asyncio.to_thread(network.busy.wait, LATE)
    return task


def features_of(job: Job) -> list[float]:
    return job.answer.result()["features"].tolist()


def test_an_idle_batcher_hands_over_a_single_image_in_the_turn_in_which_it_came(make_batcher: MakeBatcher) -> None:
    network = Network()
    batcher = make_batcher(network, max_wait=3600.0)  # which only images that waited behind others wait for

    async def scenario() -> None:
        for number in range(3):
            network.gate.clear()
            task = submit(batcher, number)
            await asyncio.sleep(0)  # it comes
            await asyncio.sleep(0)
            assert batcher.in_flight == 1
            network.gate.set()
            assert features_of(await task) == [number, number]

    run(scenario())
    assert network.batches == [[0], [1], [2]]


def test_images_that_arrive_together_are_computed_together(make_batcher: MakeBatcher) -> None:
    network = Network()
    network.gate.set()
    batcher = make_batcher(network)

    async def scenario() -> None:
        await asyncio.gather(*(submit(batcher, number) for number in (1, 2, 3)))

    run(scenario())
    assert network.batches == [[1, 2, 3]]


def test_images_that_arrive_while_a_batch_runs_make_the_next_one(make_batcher: MakeBatcher) -> None:
    network = Network()
    batcher = make_batcher(network)

    async def scenario() -> None:
        tasks = [await keep_busy(batcher, network)]
        for number in (1, 2, 3, 4, 5):
            tasks.append(submit(batcher, number))
            await asyncio.sleep(0.002)
        network.gate.set()
        await asyncio.gather(*tasks)

    run(scenario())
    assert network.batches == [[0], [1, 2, 3, 4, 5]]


def test_no_batch_is_larger_than_allowed_and_none_is_reordered(make_batcher: MakeBatcher) -> None:
    network = Network()
    batcher = make_batcher(network, max_batch=4)

    async def scenario() -> None:
        tasks = [await keep_busy(batcher, network), *(submit(batcher, number) for number in range(1, 11))]
        await asyncio.sleep(0)
        network.gate.set()
        await asyncio.gather(*tasks)

    run(scenario())
    assert network.batches == [[0], [1, 2, 3, 4], [5, 6, 7, 8], [9, 10]]


def test_each_answer_belongs_to_its_own_image(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(answers, max_batch=7)

    async def scenario() -> None:
        jobs = await asyncio.gather(*(submit(batcher, number) for number in range(100)))
        assert [features_of(job) for job in jobs] == [[n, n] for n in range(100)]

    run(scenario())


def test_one_pass_computes_what_all_its_members_asked_for_and_gives_each_its_own(make_batcher: MakeBatcher) -> None:
    network = Network()
    batcher = make_batcher(network)

    async def scenario() -> None:
        first = await keep_busy(batcher, network)
        tasks = [submit(batcher, n, outputs) for n, outputs in ((1, ("logits",)), (2, ("features",)), (3, ("logits",)))]
        await asyncio.sleep(0)
        network.gate.set()
        await first
        given = [{name: row.tolist() for name, row in (await task).answer.result().items()} for task in tasks]
        assert given == [{"logits": [-1]}, {"features": [2, 2]}, {"logits": [-3]}]

    run(scenario())
    assert network.batches == [[0], [1, 2, 3]]
    assert network.outputs == [("features",), ("features", "logits")]


def test_an_image_that_nobody_waits_for_any_more_is_not_computed(make_batcher: MakeBatcher) -> None:
    network = Network()
    batcher = make_batcher(network)

    async def scenario() -> None:
        first, gone, kept = await keep_busy(batcher, network), submit(batcher, 1), submit(batcher, 2)
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        network.gate.set()
        await asyncio.gather(first, kept)
        assert gone.cancelled()

    run(scenario())
    assert network.batches == [[0], [2]]


def test_an_image_that_was_put_into_a_batch_is_still_not_computed_when_its_waiter_leaves(make_batcher: MakeBatcher) -> None:
    network = Network()
    dropped: list[str] = []
    batcher = make_batcher(network, max_batch=3, drop=dropped.append)

    async def scenario() -> None:
        first = await keep_busy(batcher, network)
        tasks = [submit(batcher, number) for number in (1, 2, 3)]
        await asyncio.sleep(0.01)
        assert batcher.in_flight == 2  # a full batch is put together while the one before runs
        tasks[1].cancel()
        await asyncio.sleep(0)
        network.gate.set()
        await asyncio.gather(first, tasks[0], tasks[2])

    run(scenario())
    assert network.batches == [[0], [1, 3]]
    assert dropped == ["disconnected"]


def test_a_batch_that_nobody_waits_for_any_more_is_not_computed_at_all(make_batcher: MakeBatcher) -> None:
    network = Network()
    dropped: list[str] = []
    batcher = make_batcher(network, max_batch=2, drop=dropped.append)

    async def scenario() -> None:
        first = await keep_busy(batcher, network)
        gone = [submit(batcher, number) for number in (1, 2)]
        await asyncio.sleep(0.01)
        for task in gone:
            task.cancel()
        await asyncio.sleep(0)
        network.gate.set()
        await first
        assert features_of(await submit(batcher, 3)) == [3, 3]

    run(scenario())
    assert network.batches == [[0], [3]]
    assert dropped == ["disconnected"] * 2


def test_interactive_images_go_before_bulk_which_keeps_a_share(make_batcher: MakeBatcher) -> None:
    network = Network()
    batcher = make_batcher(network, max_batch=4)

    async def scenario() -> None:
        tasks = [await keep_busy(batcher, network), *(submit(batcher, number, bulk=True) for number in (1, 2, 3))]
        await asyncio.sleep(0)
        tasks += [submit(batcher, number) for number in (101, 102, 103, 104, 105)]
        network.gate.set()
        await asyncio.gather(*tasks)

    run(scenario())
    assert network.batches == [[0], [101, 102, 103, 1], [104, 105, 2, 3]]


def test_a_batch_that_is_not_full_waits_for_more_after_the_network_was_busy(make_batcher: MakeBatcher) -> None:
    network = Network()
    batcher = make_batcher(network, max_batch=3, max_wait=LATE)

    async def scenario() -> None:
        tasks = [await keep_busy(batcher, network), submit(batcher, 1)]
        await asyncio.sleep(0)
        network.gate.set()
        await tasks[0]
        await asyncio.sleep(0.02)
        assert network.batches == [[0]]
        await asyncio.gather(tasks[1], submit(batcher, 2), submit(batcher, 3))  # full: it goes at once
        assert features_of(await submit(batcher, 4)) == [4, 4]  # idle: so does this

    run(scenario())
    assert network.batches == [[0], [1, 2, 3], [4]]


def test_a_batch_does_not_wait_longer_than_it_may(make_batcher: MakeBatcher) -> None:
    network = Network()
    batcher = make_batcher(network, max_wait=0.02)

    async def scenario() -> None:
        tasks = [await keep_busy(batcher, network), submit(batcher, 1)]
        await asyncio.sleep(0)
        network.gate.set()
        await asyncio.gather(*tasks)
        assert (await tasks[1]).queue_seconds >= 0.02

    run(scenario())
    assert network.batches == [[0], [1]]


def test_a_waiter_that_leaves_during_its_batch_does_not_disturb_the_others(make_batcher: MakeBatcher) -> None:
    network = Network()
    batcher = make_batcher(network)

    async def scenario() -> None:
        tasks = [submit(batcher, number) for number in (1, 2, 3)]
        assert await asyncio.to_thread(network.busy.wait, LATE)
        tasks[1].cancel()
        network.gate.set()
        assert [features_of(await tasks[i]) for i in (0, 2)] == [[1, 1], [3, 3]]
        assert features_of(await submit(batcher, 4)) == [4, 4]

    run(scenario())
    assert network.batches == [[1, 2, 3], [4]]


def test_an_image_past_its_deadline_is_refused_and_not_computed(make_batcher: MakeBatcher) -> None:
    network = Network()
    batcher = make_batcher(network)

    async def scenario() -> None:
        first, late, kept = await keep_busy(batcher, network), submit(batcher, 1, seconds=0.01), submit(batcher, 2)
        await asyncio.sleep(0.05)
        network.gate.set()
        with pytest.raises(DeadlineExceeded, match=r"the image waited \d+\.\d s and was not computed"):
            await late
        await asyncio.gather(first, kept)

    run(scenario())
    assert network.batches == [[0], [2]]


def test_a_poisonous_image_fails_alone(make_batcher: MakeBatcher) -> None:
    network = Network()
    sizes: list[int] = []
    batcher = make_batcher(network, observe=sizes.append)

    async def scenario() -> None:
        first = await keep_busy(batcher, network)
        tasks = [submit(batcher, number) for number in (1, POISON, 3)]
        await asyncio.sleep(0)
        network.gate.set()
        assert features_of(await first) == [0, 0]
        assert features_of(await tasks[0]) == [1, 1]
        with pytest.raises(ValueError, match="poison"):
            await tasks[1]
        assert features_of(await tasks[2]) == [3, 3]
        assert features_of(await submit(batcher, 4)) == [4, 4]

    run(scenario())
    assert network.batches == [[0], [1, POISON, 3], [1], [POISON], [3], [4]]
    assert sizes == [1, 1, 1, 1]


def too_few_rows(images: Pixels, outputs: tuple[str, ...]) -> Arrays:
    return {name: array[1:] for name, array in answers(images, outputs).items()}


def too_few_outputs(images: Pixels, outputs: tuple[str, ...]) -> Arrays:
    return answers(images, outputs[1:])


@pytest.mark.parametrize("compute", [too_few_rows, too_few_outputs], ids=lambda compute: compute.__name__)
def test_a_network_that_answers_too_little_fails_its_images_at_once(make_batcher: MakeBatcher, compute: Compute) -> None:
    batcher = make_batcher(compute)

    async def scenario() -> None:
        tasks = [submit(batcher, number) for number in (1, 2)]
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(outcome, LookupError) for outcome in outcomes] == [True, True]

    run(scenario())


def test_the_sizes_of_batches_and_the_times_of_images_are_told(make_batcher: MakeBatcher) -> None:
    network = Network()
    sizes: list[int] = []
    batcher = make_batcher(network, observe=sizes.append)

    async def scenario() -> None:
        tasks = [await keep_busy(batcher, network), submit(batcher, 1), submit(batcher, 2)]
        await asyncio.sleep(0.05)
        network.gate.set()
        first, second, third = [await task for task in tasks]
        assert first.infer_seconds >= 0.05
        assert second.queue_seconds >= 0.04
        assert second.infer_seconds == third.infer_seconds > 0

    run(scenario())
    assert sizes == [1, 2]


def test_closing_waits_for_the_batch_in_flight() -> None:
    network = Network()
    batcher = Batcher(network, max_batch=8, max_queue=100)

    async def scenario() -> None:
        task = await keep_busy(batcher, network)
        threading.Timer(0.05, network.gate.set).start()
        await asyncio.to_thread(batcher.close)
        assert network.gate.is_set()
        assert features_of(await task) == [0, 0]

    run(scenario())


def test_as_many_images_as_the_queue_holds_are_admitted(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(answers, max_queue=5)
    with batcher.admit(2), batcher.admit(3):
        assert batcher.admitted == 5
    assert batcher.admitted == 0


def test_work_of_less_weight_may_fill_a_part_of_the_queue_while_weightier_work_comes(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(answers, max_queue=8, max_queue_seconds=2.0, max_batch=1)
    with batcher.admit(1):
        batcher.admitted = 5
        with pytest.raises(Overloaded, match=r"1 more would pass the limit of 4 \(HUBEL_MAX_QUEUE, of which work of this kind"):
            batcher.check(1, share=0.5)
        batcher.check(1, share=0.75)
        batcher.admitted, batcher.seconds_per_image = 3, 0.5
        with pytest.raises(Overloaded, match=r"takes 1\.5 s; the limit is 1 s \(HUBEL_MAX_QUEUE_MS, of which work of this kind"):
            batcher.check(1, share=0.5)
        batcher.check(1, share=0.75)
        batcher.check(1)


def test_by_itself_any_kind_of_work_may_fill_the_queue(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(answers, max_queue=8)
    with batcher.admit(1, share=0.5), batcher.admit(1, share=0.25):
        batcher.admitted = 6
        batcher.check(2, share=0.5)
        with pytest.raises(Overloaded):
            batcher.check(2, share=0.25)
        batcher.admitted_at[0.5] -= ADMITTED_SECONDS
        batcher.check(2, share=0.25)


def test_bulk_is_held_back_while_single_images_come_too_and_would_wait_long(make_batcher: MakeBatcher) -> None:
    network = Network()
    batcher = make_batcher(network, max_batch=8)

    async def scenario() -> None:
        deadline = time.perf_counter() + LATE
        jobs = [asyncio.create_task(batcher.submit(image(1), ("logits",), deadline))]
        await asyncio.sleep(0)
        batcher.seconds_per_image = 0.01  # two images in 25 ms
        jobs += [asyncio.create_task(batcher.submit(image(n), ("logits",), deadline, bulk=True)) for n in range(20, 32)]
        while not network.busy.is_set():
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        assert batcher.in_flight == 1  # no batch of bulk is ready: who comes now would wait for two
        jobs.append(asyncio.create_task(batcher.submit(image(2), ("logits",), deadline)))
        await asyncio.sleep(0.05)
        network.gate.set()
        await asyncio.gather(*jobs)

    run(scenario())
    assert network.batches[0] == [1]
    assert network.batches[1] == [2, 20, 21]
    assert max(map(len, network.batches)) <= 3


def test_bulk_alone_fills_batches(make_batcher: MakeBatcher) -> None:
    network = Network()
    network.gate.set()
    batcher = make_batcher(network, max_batch=8)
    batcher.seconds_per_image = 0.02

    async def scenario() -> None:
        deadline = time.perf_counter() + LATE
        await asyncio.gather(*(batcher.submit(image(n), ("logits",), deadline, bulk=True) for n in range(20, 44)))

    run(scenario())
    assert [len(batch) for batch in network.batches] == [8, 8, 8]


def test_any_request_is_taken_where_nothing_waits(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(answers, max_queue=8)
    batcher.seconds_per_image = 100.0  # an estimate from a bad moment
    with batcher.admit(8, share=0.5, seconds=0.1):
        assert batcher.admitted == 8


def test_what_cannot_be_computed_in_time_is_refused_at_once(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(answers, max_queue=100)
    batcher.admitted, batcher.seconds_per_image = 10, 0.5
    with pytest.raises(
        Overloaded, match=r"10 images are waiting, which takes 5\.0 s; the answer is wanted within 2\.0 s"
    ) as caught:
        batcher.check(1, seconds=2.0)
    assert caught.value.retry_after_seconds == 5
    batcher.check(1, seconds=6.0)


def test_how_long_a_batch_has_been_computed_is_known_and_0_when_none_is(make_batcher: MakeBatcher) -> None:
    network = Network()
    batcher = make_batcher(network)

    async def scenario() -> None:
        job = asyncio.create_task(batcher.submit(image(1), ("logits",), time.perf_counter() + LATE))
        while not network.busy.is_set():
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        assert 0.04 < batcher.busy_seconds() < LATE
        network.gate.set()
        await job

    assert batcher.busy_seconds() == 0
    run(scenario())
    batcher.close()
    assert batcher.busy_seconds() == 0


def test_more_images_than_the_queue_holds_are_refused_with_the_limit_and_a_time_to_come_back(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(answers, max_queue=5)
    batcher.seconds_per_image = 0.8
    with batcher.admit(4):
        with pytest.raises(Overloaded) as caught, batcher.admit(2):
            pass
        assert str(caught.value) == (
            "4 images are waiting and 2 more would pass the limit of 5 (HUBEL_MAX_QUEUE); try again in 4 s"
        )
        assert caught.value.headers() == {"retry-after": "4"}  # 4 images of 0.8 s, rounded up
        assert batcher.admitted == 4
        with batcher.admit(1):
            assert batcher.admitted == 5


def test_images_are_refused_when_those_before_take_too_long(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(answers, max_queue_seconds=1.5)
    batcher.seconds_per_image = 0.1
    with batcher.admit(15), batcher.admit(1), pytest.raises(Overloaded) as caught:
        batcher.check(1)
    assert str(caught.value) == (
        "16 images are waiting, which takes 1.6 s; the limit is 1.5 s (HUBEL_MAX_QUEUE_MS); try again in 2 s"
    )


def test_two_batches_may_always_wait_however_slow_the_network_is(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(answers, max_batch=8, max_queue_seconds=1.5)
    batcher.seconds_per_image = 10.0
    with batcher.admit(8), batcher.admit(7):
        batcher.check(1)
        with batcher.admit(1), pytest.raises(Overloaded):
            batcher.check(1)


def test_an_idle_service_takes_a_large_request_however_long_it_takes(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(answers, max_queue_seconds=1.5)
    batcher.seconds_per_image = 1.0
    with batcher.admit(32):
        assert batcher.admitted == 32


def test_the_time_to_come_back_is_at_least_a_second(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(answers, max_queue=1)
    with batcher.admit(1), pytest.raises(Overloaded) as caught, batcher.admit(1):
        pass
    assert caught.value.retry_after_seconds == 1


def test_places_are_free_again_after_an_error(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(answers, max_queue=5)
    with pytest.raises(ValueError, match="bad image"), batcher.admit(5):
        raise ValueError("bad image")
    assert batcher.admitted == 0


def test_the_time_an_image_takes_is_learnt_from_the_batches(make_batcher: MakeBatcher) -> None:
    def slow(images: Pixels, outputs: tuple[str, ...]) -> Arrays:
        time.sleep(0.1)
        return answers(images, outputs)

    batcher = make_batcher(slow)
    before = batcher.seconds_per_image

    async def scenario() -> None:
        await submit(batcher, 1)

    run(scenario())
    assert batcher.seconds_per_image > before


def test_versions_are_never_computed_together_and_none_waits_for_ever(make_batcher: MakeBatcher) -> None:
    blocker, first, second = Network(), Network(), Network()
    first.gate.set()
    second.gate.set()
    batcher = make_batcher(blocker, max_batch=4)
    order: list[str] = []

    def by(network: Network, name: str) -> Compute:
        def compute(images: Pixels, outputs: tuple[str, ...]) -> Arrays:
            order.append(name)
            return network(images, outputs)

        return compute

    async def scenario() -> None:
        busy = await keep_busy(batcher, blocker)
        computes = (by(first, "first"), by(second, "second"))
        deadline = time.perf_counter() + LATE
        jobs = [
            asyncio.create_task(batcher.submit(image(n), ("features",), deadline, compute=computes[n % 3 == 0]))
            for n in range(1, 13)
        ]
        await asyncio.sleep(0)
        blocker.gate.set()
        await asyncio.gather(busy, *jobs)
        assert [features_of(job.result())[0] for job in jobs] == list(range(1, 13))

    run(scenario())
    assert sorted(itertools.chain(*second.batches)) == [3, 6, 9, 12]
    assert sorted(itertools.chain(*first.batches)) == [1, 2, 4, 5, 7, 8, 10, 11]
    assert "second" in order[:2]


def test_a_job_knows_how_many_were_computed_with_it(make_batcher: MakeBatcher) -> None:
    network = Network()
    network.gate.set()
    batcher = make_batcher(network)

    async def scenario() -> None:
        alone = await submit(batcher, 1)
        together = await asyncio.gather(*(submit(batcher, number) for number in (2, POISON, 3)), return_exceptions=True)
        assert alone.together == 1
        assert [job.together for job in together if isinstance(job, Job)] == [1, 1]  # one by one after the failure

    run(scenario())


def test_what_nobody_waits_for_is_computed_when_there_is_nothing_else_and_seldom(
    make_batcher: MakeBatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock of its own, in ticks that floats hold exactly."""
    now, pass_seconds, tick = 1000.0, 1 / 64, 1 / 1024
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: now))
    batcher = make_batcher(answers)

    def slow(images: Pixels, outputs: tuple[str, ...]) -> Arrays:
        nonlocal now
        now += pass_seconds
        return answers(images, outputs)

    async def scenario() -> None:
        nonlocal now
        done = 0
        while now < 1000 + 5:
            job = await batcher.spare(image(7), ("features",), slow)
            done += job is not None
            assert job is None or features_of(job) == [7, 7]
            now += tick
        assert done * pass_seconds == 5 / 10  # a tenth of the time
        assert batcher.seconds_per_image == 0

    run(scenario())


def test_what_nobody_waits_for_is_left_out_while_there_is_work(make_batcher: MakeBatcher) -> None:
    network = Network()
    batcher = make_batcher(network)

    async def scenario() -> None:
        busy = await keep_busy(batcher, network)
        assert not batcher.idle()
        assert await batcher.spare(image(7), ("features",), answers) is None
        network.gate.set()
        await busy
        with batcher.admit(1):
            assert await batcher.spare(image(7), ("features",), answers) is None
        assert await batcher.spare(image(7), ("features",), answers) is not None

    run(scenario())


def test_what_is_aside_is_not_before_the_network(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(answers, max_queue=4)
    with batcher.admit(4):
        with pytest.raises(Overloaded):
            batcher.check(1)
        with batcher.aside():
            batcher.check(1)
        with pytest.raises(Overloaded):
            batcher.check(1)
    assert batcher.admitted == 0


def test_there_is_room_while_less_waits_than_a_kind_of_work_may(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(answers, max_batch=4, max_queue_seconds=2.0)
    batcher.seconds_per_image = 0.1
    for waiting, room in ((0, True), (7, True), (8, False), (20, False)):
        batcher.admitted = waiting
        assert batcher.has_room(0.25) == room
    batcher.admitted = 19
    assert batcher.has_room(1.0)
    batcher.admitted = 0
