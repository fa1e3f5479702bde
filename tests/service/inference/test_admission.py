"""Whether one more image may wait: how many do, in all fronts, and how long that takes."""

import time
from dataclasses import dataclass

import pytest

from service.engine.board import Board
from service.errors import Overloaded
from service.inference import admission as module
from service.inference.admission import ADMITTED_SECONDS, BULK_SHARE, FEATURES_SHARE, Admission


@dataclass
class Engine:
    """What the live one says of itself."""

    seconds_per_image: float = 0.0
    spare_from: float = 0.0


class Fronts:
    """Admission of each of some fronts to the same engine."""

    def __init__(self, count: int = 1, **limits: float) -> None:
        self.engine = Engine()
        self.board = Board.make()
        every = {"max_batch": 8, "max_queue": 100} | limits
        self.all = [Admission(self.board, lambda: self.engine, place=i, fronts=count, **every) for i in range(count)]  # type: ignore[arg-type]

    def __getitem__(self, place: int) -> Admission:
        return self.all[place]


def test_as_many_images_as_the_queue_holds_are_admitted_by_all_fronts_together() -> None:
    fronts = Fronts(2, max_queue=5)
    with fronts[0].admit(2), fronts[1].admit(3):
        assert [front.admitted for front in fronts.all] == [5, 5]
        assert [front.own for front in fronts.all] == [2, 3]
        for front in fronts.all:
            with pytest.raises(Overloaded):
                front.check(1)
    assert fronts[0].admitted == 0


def test_the_forecast_is_of_all_that_waits_in_any_front_and_of_what_is_in_the_line() -> None:
    fronts = Fronts(2)
    fronts.engine.seconds_per_image = 0.5
    assert fronts[0].forecast() == 0
    with fronts[0].admit(3), fronts[1].admit(1), fronts[1].aside(soon=True):
        assert [front.forecast() for front in fronts.all] == [2.0, 2.0]
        with fronts[0].aside(soon=False):  # decoding is what that waits for
            assert fronts[0].forecast() == 1.5


def test_what_waited_in_a_front_that_is_gone_does_not_count() -> None:
    fronts = Fronts(2, max_queue=5)
    with fronts[0].admit(2):
        fronts[1].admit(3).__enter__()
        fronts.board.forget(1)
        assert fronts[0].admitted == 2
        fronts[0].check(3)


def test_work_of_less_weight_may_fill_a_part_of_the_queue_while_weightier_work_comes_to_any_front() -> None:
    fronts = Fronts(2, max_queue=8, max_queue_seconds=2.0, max_batch=1)
    with fronts[0].admit(4, FEATURES_SHARE), fronts[0].admit(1):
        with pytest.raises(Overloaded, match=r"1 more would pass the limit of 4 \(HUBEL_MAX_QUEUE, of which work of this kind"):
            fronts[1].check(1, FEATURES_SHARE)
        fronts[1].check(1)
    with fronts[0].admit(1), fronts[0].admit(2):
        fronts.engine.seconds_per_image = 0.5
        with pytest.raises(Overloaded, match=r"takes 1\.5 s; the limit is 1 s \(HUBEL_MAX_QUEUE_MS, of which work of this kind"):
            fronts[1].check(1, FEATURES_SHARE)
        fronts[1].check(1)


def test_by_itself_any_kind_of_work_may_fill_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    fronts = Fronts(max_queue=8)
    with fronts[0].admit(5, BULK_SHARE), fronts[0].admit(1, FEATURES_SHARE):
        fronts[0].check(2, FEATURES_SHARE)
        with pytest.raises(Overloaded):
            fronts[0].check(2, BULK_SHARE)
        later = time.perf_counter() + ADMITTED_SECONDS
        monkeypatch.setattr(module.time, "perf_counter", lambda: later)
        fronts[0].check(2, BULK_SHARE)


def test_any_request_is_taken_where_nothing_waits() -> None:
    fronts = Fronts(max_queue=8)
    fronts.engine.seconds_per_image = 100.0  # an estimate from a bad moment
    with fronts[0].admit(8, FEATURES_SHARE, seconds=0.1):
        assert fronts[0].admitted == 8


def test_what_cannot_be_computed_in_time_is_refused_at_once() -> None:
    fronts = Fronts()
    fronts.engine.seconds_per_image = 0.5
    with fronts[0].admit(10):
        wanted = r"10 images are waiting, which takes 5\.0 s; the answer is wanted within 2\.0 s"
        with pytest.raises(Overloaded, match=wanted) as caught:
            fronts[0].check(1, seconds=2.0)
        assert caught.value.retry_after_seconds == 5
        fronts[0].check(1, seconds=6.0)


def test_more_images_than_the_queue_holds_are_refused_with_the_limit_and_a_time_to_come_back() -> None:
    fronts = Fronts(max_queue=5)
    fronts.engine.seconds_per_image = 0.8
    with fronts[0].admit(4):
        with pytest.raises(Overloaded) as caught, fronts[0].admit(2):
            pass
        assert str(caught.value) == (
            "4 images are waiting and 2 more would pass the limit of 5 (HUBEL_MAX_QUEUE); try again in 4 s"
        )
        assert caught.value.headers() == {"retry-after": "4"}  # 4 images of 0.8 s, rounded up
        assert fronts[0].admitted == 4
        with fronts[0].admit(1):
            assert fronts[0].admitted == 5


def test_images_are_refused_when_those_before_take_too_long() -> None:
    fronts = Fronts(max_queue_seconds=1.5)
    fronts.engine.seconds_per_image = 0.1
    with fronts[0].admit(15), fronts[0].admit(1), pytest.raises(Overloaded) as caught:
        fronts[0].check(1)
    assert str(caught.value) == (
        "16 images are waiting, which takes 1.6 s; the limit is 1.5 s (HUBEL_MAX_QUEUE_MS); try again in 2 s"
    )


@pytest.mark.parametrize(("seconds", "images"), [(10.0, 2), (0.4, 5), (0.125, 16), (0.07, 28), (0.01, 32)])
def test_two_batches_may_always_wait_however_slow_the_network_is(seconds: float, images: int) -> None:
    fronts = Fronts(max_batch=16, max_queue_seconds=0.01)
    fronts.engine.seconds_per_image = seconds
    with fronts[0].admit(1), fronts[0].admit(images - 2):
        fronts[0].check(1)
        with fronts[0].admit(1), pytest.raises(Overloaded):
            fronts[0].check(1)


def test_the_time_to_come_back_is_at_least_a_second() -> None:
    fronts = Fronts(max_queue=1)
    with fronts[0].admit(1), pytest.raises(Overloaded) as caught, fronts[0].admit(1):
        pass
    assert caught.value.retry_after_seconds == 1


def test_places_are_free_again_after_an_error() -> None:
    fronts = Fronts(max_queue=5)
    with pytest.raises(ValueError, match="bad image"), fronts[0].admit(5):
        raise ValueError("bad image")
    assert fronts[0].admitted == 0


def test_what_is_aside_is_not_before_the_network() -> None:
    fronts = Fronts(max_queue=4)
    with fronts[0].admit(4):
        with pytest.raises(Overloaded):
            fronts[0].check(1)
        with fronts[0].aside(soon=False):
            fronts[0].check(1)
        with pytest.raises(Overloaded):
            fronts[0].check(1)
    assert fronts[0].admitted == 0


def test_what_the_network_will_soon_have_counts_for_refusals_in_all_fronts_and_not_for_its_room() -> None:
    fronts = Fronts(2, max_batch=1, max_queue_seconds=1.0)
    fronts.engine.seconds_per_image = 0.3
    with fronts[0].admit(4), fronts[0].aside(soon=True), fronts[0].aside(soon=True):
        assert fronts[1].admitted == 2
        assert fronts[1].has_room(1.0)
        assert not fronts[1].idle()
        with pytest.raises(Overloaded, match=r"4 images are waiting, which takes 1\.2 s"):
            fronts[1].check(1)
    fronts[1].check(1)


def test_there_is_room_while_less_waits_than_a_kind_of_work_may() -> None:
    fronts = Fronts(2, max_batch=4, max_queue_seconds=2.0)
    fronts.engine.seconds_per_image = 0.1
    for waiting, room in ((0, True), (7, True), (8, False), (19, False)):
        with fronts[0].admit(waiting):
            assert fronts[1].has_room(BULK_SHARE) == room
            assert fronts[1].has_room(1.0)


def test_it_is_idle_while_nothing_waits_in_any_front_no_engine_computes_and_there_is_time() -> None:
    fronts = Fronts(2)
    assert fronts[0].idle()
    with fronts[1].admit(1):
        assert not fronts[0].idle()
    fronts.board.engine(3).begin(time.perf_counter())
    assert not fronts[0].idle()
    fronts.board.engine(3).end(0.0, 0.0)
    assert fronts[0].idle()
    fronts.engine.spare_from = time.perf_counter() + 3600
    assert not fronts[0].idle()
