"""The memory of a front and an engine: what one writes the other reads, and an engine's death leaves its mark."""

import os
from collections.abc import Iterator

import numpy as np
import pytest

from service.engine.slots import DONE, TEXT, Layout, Slots
from tests.factories import make_manifest
from tests.service.engine.fakes import SPEC, image

MANIFEST = make_manifest(input=SPEC)


@pytest.fixture
def sides() -> Iterator[tuple[Slots, Slots]]:
    """The front's and the engine's view of three slots."""
    front, handle = Slots.make(3, MANIFEST)
    yield front, Slots(handle, Layout.of(3, MANIFEST))
    os.close(handle)


def test_what_is_asked_and_answered_is_read_on_the_other_side_and_slots_do_not_touch(sides: tuple[Slots, Slots]) -> None:
    front, engine = sides
    for slot in range(3):
        front.ask(slot, image(slot + 1), front.bits(["logits"]), 1.5, 2.5 + slot, slot, *[7] * (slot == 1))
    assert [engine.asked(slot) for slot in range(3)] == [
        (1.5, 2.5 + n, front.bits(["logits"]), n, 0, target) for n, target in enumerate((-1, 7, -1))
    ]
    assert [np.unique(engine.pixels[slot]).tolist() for slot in range(3)] == [[1], [2], [3]]
    engine.put(1, "logits", np.array([1, 2, 3], np.float32))
    engine.put(1, "features", np.array([4, 5, 6, 7], np.float32))
    engine.say(2, "Kind\nwhy not")
    engine.finish(1, DONE, 3.0, 4.0, 7, 2)
    assert {name: row.tolist() for name, row in front.row(1, ["features", "logits"]).items()} == {
        "features": [4, 5, 6, 7],
        "logits": [1, 2, 3],
    }
    assert front.answer(1) == (3.0, 4.0, 7, 2, DONE)
    assert front.text(2) == "Kind\nwhy not"
    assert not front.row(0, ["logits"])["logits"].any()


def test_an_answer_stays_when_its_slot_is_used_again(sides: tuple[Slots, Slots]) -> None:
    front, engine = sides
    engine.put(0, "logits", np.array([1, 2, 3], np.float32))
    row = front.row(0, ["logits"])["logits"]
    engine.put(0, "logits", np.array([4, 5, 6], np.float32))
    assert row.tolist() == [1, 2, 3]


def test_a_reason_that_is_too_long_is_cut(sides: tuple[Slots, Slots]) -> None:
    front, engine = sides
    engine.say(0, "é" * TEXT)
    engine.say(1, "short")
    assert 0 < len(front.text(0)) < TEXT
    assert front.text(1) == "short"


def test_only_an_image_that_was_being_computed_is_struck_when_its_engine_dies(sides: tuple[Slots, Slots]) -> None:
    front, engine = sides
    for slot in range(3):
        front.ask(slot, image(slot), 1, 1.5, 2.5, 0, 10 + slot)
    engine.begin(1)
    engine.begin(2)
    engine.finish(2, DONE)
    assert [front.strike(slot) for slot in range(3)] == [0, 1, 0]
    assert [front.strike(slot) for slot in range(3)] == [0, 1, 0]  # once for each death
    engine.begin(1)
    assert front.strike(1) == 2
    assert engine.asked(1) == (1.5, 2.5, 1, 0, 2, 11)
    front.ask(1, image(5), 1, 1.5, 2.5, 0)
    assert front.strike(1) == 0


def test_one_that_is_left_is_known_until_it_is_used_again(sides: tuple[Slots, Slots]) -> None:
    front, engine = sides
    front.ask(0, image(1), 1, 1.5, 2.5, 0)
    front.cancel(0)
    assert (engine.cancelled(0), engine.cancelled(1)) == (True, False)
    front.ask(0, image(1), 1, 1.5, 2.5, 0)
    assert not engine.cancelled(0)


def test_memory_that_is_too_small_is_refused() -> None:
    _, handle = Slots.make(3, MANIFEST)
    with pytest.raises(ValueError, match="4 slots take"):
        Slots(handle, Layout.of(4, MANIFEST))
    os.close(handle)


def test_memory_that_is_given_back_is_no_longer_held() -> None:
    large = make_manifest(
        input=type(SPEC)(height=256, width=256, resize=256), outputs=MANIFEST.outputs | {"feature_map": [4, 64, 64]}
    )
    slots, handle = Slots.make(20, large)
    before = os.fstat(handle).st_blocks
    slots.pixels[:] = 1
    held = os.fstat(handle).st_blocks
    assert held - before > 7000  # of 512 bytes
    slots.give_back(10)
    assert 0.5 * held <= os.fstat(handle).st_blocks < 0.6 * held
    assert slots.pixels[:10].all()
    assert not slots.pixels[11:19].any()  # the last page holds answers too
    slots.give_back(0)
    assert os.fstat(handle).st_blocks < held / 10
    os.close(handle)
