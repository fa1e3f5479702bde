"""benchmarks/training.py: both loops see the same images as often, and what is said of their turns is right."""

from argparse import Namespace
from collections.abc import Iterator

import pytest

from benchmarks import training
from benchmarks.training import Turn, Waiting


def test_every_loop_gets_its_turns_and_sees_all_whole_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.loop.epoch.prefetched", None)  # which a turn sets, and pytest then sets back
    args = Namespace(
        architecture="resnet10-small", size=8, images=9, batch_size=4, rounds=2, workers=0, precision="fp32", threads=1
    )

    turns = training.measure(args)

    assert [len(found) for found in turns.values()] == [2, 2, 2]
    assert all(turn.images == 8 and 0 < turn.waiting < turn.seconds for found in turns.values() for turn in found)


def test_waiting_is_the_time_until_batches_come_and_not_that_between(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0
    monkeypatch.setattr("time.perf_counter", lambda: now)

    def batches() -> Iterator[int]:
        nonlocal now
        for i in range(3):
            now += 20
            yield i

    waiting = Waiting()
    seen: list[object] = []
    for batch in waiting.watch(batches()):
        now += 300
        seen.append(batch)

    assert seen == [0, 1, 2]
    assert waiting.seconds == 60


def test_a_row_has_the_median_and_the_range() -> None:
    turns = [Turn(100, 1.0, 0.1), Turn(100, 2.0, 0.1), Turn(100, 4.0, 0.1)]

    assert training.summary(turns) == {"n": 3, "images_per_second": 50.0, "lowest": 25.0, "highest": 100.0, "waiting": 0.05}
