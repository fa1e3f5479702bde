"""training/data/pixels.py: images on the disk are those of an array, whatever is asked for."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from training.data import pixels
from training.data.pixels import Array, InFile, OnDisk, chunks, joined, picked
from training.errors import StorageError


@pytest.fixture
def array() -> Array:
    return np.random.default_rng(0).integers(0, 256, (20, 3, 5, 3)).astype(np.uint8)


def put(path: Path, array: Array) -> OnDisk:
    path.write_bytes(array.tobytes())
    return OnDisk([InFile(path, (3, 5, 3))], (3, 5, 3))


@pytest.fixture
def on_disk(array: Array, tmp_path: Path) -> OnDisk:
    return put(tmp_path / "pixels", array)


@pytest.mark.parametrize(
    "which",
    [
        *(3, -1, np.int64(7), slice(4, 9), slice(None, None, 3), slice(30, 40), [5, 5, 2, 3, 4], [0]),
        *(np.array([19, 0, 1, 2, 7]), np.arange(20) % 3 == 0, np.empty(0, np.int64)),
    ],
    ids=str,
)
def test_what_is_asked_for_is_what_an_array_gives(which: Any, array: Array, on_disk: OnDisk) -> None:
    found = on_disk[which]
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, array[which])
    found[...] = 0  # a copy: others see nothing of it
    np.testing.assert_array_equal(on_disk[which], array[which])


def test_some_of_some_are_picked_without_reading_them(array: Array, on_disk: OnDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(InFile, "take", lambda *_: pytest.fail("read"))
        some = picked(picked(on_disk, np.arange(19, 0, -2)), slice(1, None))
    assert some.shape == (9, 3, 5, 3)
    np.testing.assert_array_equal(some[:], array[19:0:-2][1:])
    assert [image.tolist() for image in some] == array[19:0:-2][1:].tolist()


def test_those_of_two_places_are_one_after_the_other(array: Array, on_disk: OnDisk, tmp_path: Path) -> None:
    other = put(tmp_path / "other", array[::-1])
    both = joined(picked(on_disk, [4, 9]), joined(array[:3], other))
    expected = np.concatenate([array[[4, 9]], array[:3], array[::-1]])
    np.testing.assert_array_equal(both[:], expected)
    np.testing.assert_array_equal(both[[24, 0, 3, 10, 1]], expected[[24, 0, 3, 10, 1]])
    assert isinstance(joined(array, array), np.ndarray)


def test_all_are_looked_at_a_few_at_a_time(array: Array, on_disk: OnDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixels, "AT_ONCE", 3 * 45 + 1)
    for some in (array, on_disk):
        parts = list(chunks(some))
        assert [len(part) for part in parts] == [3] * 6 + [2]
        np.testing.assert_array_equal(np.concatenate(parts), array)


def test_a_file_that_is_removed_can_be_read_to_the_end(array: Array, on_disk: OnDisk, tmp_path: Path) -> None:
    (tmp_path / "pixels").unlink()
    np.testing.assert_array_equal(on_disk[:], array)


def test_a_file_that_is_cut_off_is_an_error_that_names_it(on_disk: OnDisk, tmp_path: Path) -> None:
    os.truncate(tmp_path / "pixels", 700)
    assert on_disk[2].shape == (3, 5, 3)
    with pytest.raises(StorageError, match=f"^{tmp_path}/pixels was cut off while it was read; remove it, and run the same"):
        on_disk[[2, 18]]
