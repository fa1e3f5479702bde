"""Stage queue: what is computed together, what is not computed at all, and who gets which answer."""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from models.image.preprocess import Pixels
from service.inference import batcher as module
from service.inference.batcher import (
    BULK,
    FILL_SECONDS,
    INTERACTIVE,
    LOOK_SECONDS,
    SPARE,
    Arrays,
    Batcher,
    Compute,
    Reason,
)

POISON = 13


class Clock:
    """Of the batcher, in seconds, in ticks that floats hold exactly."""

    def __init__(self) -> None:
        self.now = 1000.0


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    return clock


class Image:
    """One that is to be computed, and what became of it."""

    suspect = False

    def __init__(
        self, number: int, lane: int = INTERACTIVE, outputs: tuple[str, ...] = ("features",), deadline: float = math.inf
    ):
        self.number = number
        self.pixels: Pixels = np.full((2, 2, 3), number, np.uint8)
        self.outputs, self.lane, self.deadline = outputs, lane, deadline
        self.left = False
        self.passes = 0
        self.row: Arrays = {}
        self.dropped: list[Reason | None] = []
        self.error: Exception | None = None
        self.told: tuple[float, float, int, bool] | None = None

    def cancelled(self) -> bool:
        return self.left

    def begin(self) -> None:
        self.passes += 1

    def drop(self, reason: Reason | None) -> None:
        self.dropped.append(reason)

    def answer(self, row: Arrays, began: float, ended: float, together: int, first: bool) -> None:
        self.row, self.told = row, (began, ended, together, first)

    def fail(self, error: Exception) -> None:
        self.error = error


class Network:
    """``features`` of image n are (n, n), its ``logits`` are (-n); a pass takes ``seconds``, and fails with poison in it."""

    def __init__(self, clock: Clock, seconds: float = 0.0) -> None:
        self.clock = clock
        self.seconds = seconds
        self.batches: list[list[int]] = []
        self.outputs: list[tuple[str, ...]] = []

    def __call__(self, images: Pixels, outputs: tuple[str, ...]) -> Arrays:
        numbers = [int(pixels[0, 0, 0]) for pixels in images]
        self.batches.append(numbers)
        self.outputs.append(outputs)
        self.clock.now += self.seconds
        if POISON in numbers:
            raise ValueError("poison")
        values = np.array(numbers, np.float32)
        every = {"features": np.stack([values, values], axis=1), "logits": -values[:, None]}
        return {name: every[name] for name in outputs}


@pytest.fixture
def network(clock: Clock) -> Network:
    return Network(clock)


def put(batcher: Batcher, clock: Clock, *images: Image) -> list[Image]:
    for image in images:
        batcher.put(image, clock.now)
    return list(images)


def drain(batcher: Batcher, clock: Clock) -> None:
    """Compute until there is nothing left, as long as that may take."""
    while (wait := batcher.due(clock.now)) < math.inf:
        clock.now += wait
        batcher.run()


def several(numbers: range, lane: int = INTERACTIVE) -> list[Image]:
    return [Image(number, lane) for number in numbers]


def test_a_single_image_is_due_at_once_where_nothing_was_computed_just_now(network: Network, clock: Clock) -> None:
    batcher = Batcher(network, max_batch=8, max_wait=3600.0)  # which only images that waited behind others wait for
    assert batcher.due(clock.now) == math.inf
    for number in range(3):
        (image,) = put(batcher, clock, Image(number))
        assert batcher.due(clock.now) == 0
        batcher.run()
        assert image.row["features"].tolist() == [number, number]
        assert batcher.due(clock.now) == math.inf
    assert network.batches == [[0], [1], [2]]


@pytest.mark.parametrize(("coming", "seconds"), [(3, 0.0), (4, FILL_SECONDS)])
def test_a_batch_waits_for_images_that_are_being_decoded_where_they_would_fill_it(
    network: Network, clock: Clock, coming: int, seconds: float
) -> None:
    batcher = Batcher(network, max_batch=4, coming=lambda: coming)
    put(batcher, clock, Image(1))
    began = clock.now
    while wait := batcher.due(clock.now):
        clock.now += wait
    batcher.run()
    assert clock.now - began == pytest.approx(seconds)
    put(batcher, clock, Image(2))
    assert batcher.due(clock.now) == min(seconds, LOOK_SECONDS)  # the next one waits as long again
    put(batcher, clock, *several(range(3, 6)))
    assert batcher.due(clock.now) == 0  # it is full
    batcher.run()
    assert network.batches == [[1], [2, 3, 4, 5]]


def test_a_batch_waits_no_longer_where_those_on_their_way_have_gone(network: Network, clock: Clock) -> None:
    coming = [5]
    batcher = Batcher(network, max_batch=4, coming=lambda: coming[0])
    put(batcher, clock, Image(1))
    assert batcher.due(clock.now) == LOOK_SECONDS
    coming[0] = 1
    assert batcher.due(clock.now) == 0


def test_what_is_there_is_computed_together_and_no_batch_is_larger_than_allowed(network: Network, clock: Clock) -> None:
    batcher = Batcher(network, max_batch=4)
    images = put(batcher, clock, *several(range(1, 11)))
    drain(batcher, clock)
    assert network.batches == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10]]
    assert [image.row["features"].tolist() for image in images] == [[n, n] for n in range(1, 11)]


@pytest.mark.parametrize(("seconds", "together"), [(0.125, [4, 4, 2]), (0.3, [1] * 10), (2.0, [1] * 10), (0.01, [8, 2])])
@pytest.mark.parametrize("lane", [INTERACTIVE, BULK])
def test_a_batch_of_a_slow_network_holds_what_it_computes_in_half_a_second(
    network: Network, clock: Clock, seconds: float, together: list[int], lane: int
) -> None:
    batcher = Batcher(network, max_batch=8)
    put(batcher, clock, *several(range(1, 11), lane))
    while batcher.due(clock.now) == 0:
        batcher.seconds_per_image = seconds
        batcher.run()
    assert [len(batch) for batch in network.batches] == together


def test_pixels_are_put_where_the_network_wants_them(network: Network, clock: Clock) -> None:
    place = np.zeros((8, 2, 2, 3), np.uint8)
    batcher = Batcher(network, max_batch=8, room=lambda n: place[:n])
    put(batcher, clock, Image(1), Image(2))
    drain(batcher, clock)
    assert network.batches == [[1, 2]]
    assert place[:, 0, 0, 0].tolist() == [1, 2, *[0] * 6]


def test_one_pass_computes_what_all_its_members_asked_for_and_gives_each_its_own(network: Network, clock: Clock) -> None:
    batcher = Batcher(network, max_batch=8)
    outputs = (("logits",), ("features",), ("logits",))
    images = put(batcher, clock, *(Image(n, outputs=names) for n, names in enumerate(outputs, 1)))
    drain(batcher, clock)
    given = [{name: row.tolist() for name, row in image.row.items()} for image in images]
    assert given == [{"logits": [-1]}, {"features": [2, 2]}, {"logits": [-3]}]
    assert network.outputs == [("features", "logits")]


def test_an_image_that_nobody_waits_for_any_more_is_not_computed(network: Network, clock: Clock) -> None:
    batcher = Batcher(network, max_batch=8)
    gone, kept = put(batcher, clock, Image(1), Image(2))
    gone.left = True
    drain(batcher, clock)
    assert network.batches == [[2]]
    assert (gone.dropped, kept.dropped) == (["disconnected"], [])


def test_an_image_past_its_deadline_is_not_computed(network: Network, clock: Clock) -> None:
    batcher = Batcher(network, max_batch=8)
    late, kept = put(batcher, clock, Image(1, deadline=clock.now + 1), Image(2, deadline=clock.now + 3))
    clock.now += 2
    drain(batcher, clock)
    assert network.batches == [[2]]
    assert (late.dropped, kept.dropped) == (["deadline"], [])


def test_where_nobody_waits_for_any_image_the_network_has_nothing_to_do(network: Network, clock: Clock) -> None:
    batcher = Batcher(network, max_batch=8)
    for image in put(batcher, clock, Image(1), Image(2)):
        image.left = True
    drain(batcher, clock)
    assert network.batches == []
    assert batcher.seconds_per_image == 0


def test_interactive_images_go_before_bulk_which_keeps_a_share(network: Network, clock: Clock) -> None:
    batcher = Batcher(network, max_batch=4)
    put(batcher, clock, *several(range(1, 4), BULK), *several(range(101, 106)))
    drain(batcher, clock)
    assert network.batches == [[101, 102, 103, 1], [104, 105, 2, 3]]


def test_bulk_is_held_back_while_single_images_come_too_and_would_wait_long(clock: Clock) -> None:
    network = Network(clock)
    batcher = Batcher(network, max_batch=8)
    batcher.seconds_per_image = 0.01  # two images in 25 ms
    put(batcher, clock, *several(range(20, 32), BULK), Image(2))
    batcher.run()
    assert network.batches == [[2, 20, 21]]
    batcher.seconds_per_image = 0.01
    clock.now += module.RECENT_SECONDS + 1
    batcher.run()  # nobody came lately
    assert network.batches[1] == list(range(22, 30))


def test_bulk_alone_fills_batches(network: Network, clock: Clock) -> None:
    batcher = Batcher(network, max_batch=8)
    batcher.seconds_per_image = 0.02
    put(batcher, clock, *several(range(20, 44), BULK))
    drain(batcher, clock)
    assert [len(batch) for batch in network.batches] == [8, 8, 8]


def test_a_batch_that_is_not_full_waits_for_more_after_the_network_was_busy(network: Network, clock: Clock) -> None:
    batcher = Batcher(network, max_batch=3, max_wait=0.5)
    put(batcher, clock, Image(0))
    batcher.run()
    put(batcher, clock, Image(1))  # came while that was computed
    assert batcher.due(clock.now) == 0.5
    clock.now += 0.25
    put(batcher, clock, Image(2))
    assert batcher.due(clock.now) == 0.25
    put(batcher, clock, Image(3))
    assert batcher.due(clock.now) == 0  # full: it goes at once
    batcher.run()
    put(batcher, clock, Image(4))
    drain(batcher, clock)  # not for ever
    assert network.batches == [[0], [1, 2, 3], [4]]


def test_a_poisonous_image_fails_alone(network: Network, clock: Clock) -> None:
    batcher = Batcher(network, max_batch=8)
    first, poison, third = put(batcher, clock, Image(1), Image(POISON), Image(3))
    drain(batcher, clock)
    assert network.batches == [[1, POISON, 3], [1], [POISON], [3]]
    assert [image.row["features"].tolist() for image in (first, third)] == [[1, 1], [3, 3]]
    assert str(poison.error) == "poison"
    assert [image.error for image in (first, third)] == [None, None]
    assert [image.told and image.told[2:] for image in (first, third)] == [(1, True), (1, True)]


def test_an_image_that_an_engine_died_with_is_computed_first_and_by_itself(network: Network, clock: Clock) -> None:
    batcher = Batcher(network, max_batch=8)
    suspects = several(range(5, 7))
    for image in suspects:
        image.suspect = True
    put(batcher, clock, Image(1), *suspects, Image(2))
    drain(batcher, clock)
    assert network.batches == [[5], [6], [1, 2]]


def too_few_rows(images: Pixels, outputs: tuple[str, ...]) -> Arrays:
    return {name: np.zeros((len(images) - 1, 1), np.float32) for name in outputs}


def too_few_outputs(images: Pixels, outputs: tuple[str, ...]) -> Arrays:
    return {name: np.zeros((len(images), 1), np.float32) for name in outputs[1:]}


@pytest.mark.parametrize("compute", [too_few_rows, too_few_outputs], ids=lambda compute: compute.__name__)
def test_a_network_that_answers_too_little_fails_its_images(compute: Compute, clock: Clock) -> None:
    batcher = Batcher(compute, max_batch=8)
    images = put(batcher, clock, Image(1), Image(2))
    drain(batcher, clock)
    assert [isinstance(image.error, LookupError) for image in images] == [True, True]


def test_each_image_is_told_when_its_pass_was_how_many_were_in_it_and_which_was_the_first(clock: Clock) -> None:
    batcher = Batcher(Network(clock, seconds=0.5), max_batch=8)
    images = put(batcher, clock, Image(1), Image(2))
    clock.now += 0.25
    batcher.run()
    assert [image.told for image in images] == [(1000.25, 1000.75, 2, True), (1000.25, 1000.75, 2, False)]
    assert [image.passes for image in images] == [1, 1]


def test_the_time_an_image_takes_is_learnt_from_the_batches(clock: Clock) -> None:
    batcher = Batcher(network := Network(clock, seconds=0.02), max_batch=2)

    def compute(seconds: float) -> float:
        network.seconds = seconds
        put(batcher, clock, *several(range(2)))
        batcher.run()
        return batcher.seconds_per_image

    assert compute(0.02) == pytest.approx(0.01)
    assert compute(0.06) == pytest.approx((0.01 + 0.03) / 2)
    before = [compute(0.06) for _ in range(100)][-1]
    assert before == pytest.approx(0.03, rel=0.01)
    assert compute(0.02) == pytest.approx(before + 0.1 * (0.01 - before))


def test_a_guess_counts_as_a_full_batch(clock: Clock) -> None:
    batcher = Batcher(Network(clock, seconds=0.04), max_batch=4, guess=0.02)
    put(batcher, clock, Image(1))
    batcher.run()
    assert batcher.seconds_per_image == pytest.approx((4 * 0.02 + 0.04) / 5)
    put(batcher, clock, *several(range(4)))
    batcher.run()
    assert batcher.seconds_per_image == pytest.approx((4 * 0.02 + 0.04 + 4 * 0.01) / 9)


def test_what_nobody_waits_for_is_computed_when_there_is_nothing_else_and_seldom(clock: Clock) -> None:
    batcher = Batcher(Network(clock, seconds=1 / 64), max_batch=8)
    done = 0
    while clock.now < 1000 + 5:
        (image,) = put(batcher, clock, Image(7, SPARE))
        drain(batcher, clock)
        done += bool(image.row)
        assert image.row or image.dropped == [None]
        clock.now += 1 / 1024
    assert done / 64 == 5 / 10  # a tenth of the time
    assert batcher.seconds_per_image == 0


def test_what_nobody_waits_for_is_left_out_while_there_is_work(network: Network, clock: Clock) -> None:
    batcher = Batcher(network, max_batch=8)
    spare, wanted = put(batcher, clock, Image(7, SPARE), Image(1))
    drain(batcher, clock)
    assert network.batches == [[1]]
    assert (spare.dropped, wanted.dropped) == ([None], [])


def test_images_of_a_front_that_is_gone_are_taken_out(network: Network, clock: Clock) -> None:
    batcher = Batcher(network, max_batch=8)
    put(batcher, clock, *several(range(1, 5)), *several(range(5, 9), BULK))

    def odd(image: Any) -> bool:
        return image.number % 2 == 1

    batcher.forget(odd)
    drain(batcher, clock)
    assert network.batches == [[2, 4, 6, 8]]
