"""service/keep.py and models/kept.py: what is in the folder of kept images, what stays there, and what is deleted."""

import errno
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest

from models import catalogue
from models import kept as store
from models.catalogue import Catalogue
from models.kept import Kept
from service import keep
from service.keep import Bounds, Keeper, clear
from tests.factories import make_image

ALL = Bounds(images=1000, seconds=1000, bytes=10**9, share=1.0, wait=0)
NOTHING_USUAL = replace(ALL, share=0.0)


def answer(request_id: str, index: int = 0, unsure: bool = False, age: float = 0, client: str = "") -> Kept:
    at = datetime.now(UTC) - timedelta(seconds=age)
    return Kept(request_id, index, client, "", "tiny", 1, "red", 0.9, unsure, at)


def put(folder: Path, name: str, image: bytes, right: bool | None = None, unsure: bool = False, age: float = 0) -> str:
    """An image with its answer; the name of the image's file."""
    store.prepare(folder)
    file = store.image_name(image)
    store.write_image(folder, file, image)
    store.write_answer(folder, msgspec.structs.replace(answer(name, unsure=unsure, age=age), image=file, right=right))
    return file


def names(folder: Path) -> set[str]:
    return {kept.request_id for kept in store.read_all(folder)}


def images(folder: Path) -> set[str]:
    return {path.name for path in (folder / store.IMAGES).iterdir()}


def wait_for(what: Callable[[], object]) -> None:
    until = time.monotonic() + 5
    while not what() and time.monotonic() < until:
        time.sleep(0.005)
    assert what()


def test_images_are_written_once_with_an_answer_for_each_request(tmp_path: Path) -> None:
    store.prepare(tmp_path)
    counted: Counter[str] = Counter()
    keeper = Keeper(tmp_path, ALL, lambda outcome: counted.update([outcome]))
    red, blue = make_image("PNG", color="red"), make_image("JPEG", color="blue")
    for request_id, image in (("a", red), ("b", blue), ("c", red)):
        keeper.offer(image, answer(request_id))
    keeper.close()
    assert images(tmp_path) == {f"{sha256(red).hexdigest()}.png", f"{sha256(blue).hexdigest()}.jpg"}
    found = {kept.request_id: kept for kept in store.read_all(tmp_path)}
    assert set(found) == {"a", "b", "c"}
    assert (tmp_path / store.IMAGES / found["a"].image).read_bytes() == red
    assert found["a"].image == found["c"].image
    assert counted == {"kept": 2, "known": 1}
    assert {path.stat().st_mode & 0o077 for path in tmp_path.rglob("*")} == {0}


def test_feedback_finds_its_answer_and_the_last_one_stays(tmp_path: Path) -> None:
    store.prepare(tmp_path)
    keeper = Keeper(tmp_path, ALL)
    keeper.tell("", "a", 0, False, "blue")  # another worker may be faster than the one that writes the answer
    keeper.offer(make_image(), answer("a"))
    path = store.answer_path(tmp_path, "", "a", 0)
    wait_for(lambda: (found := store.read_answer(path)) and found.given == "blue")
    keeper.tell("", "a", 0, True, None)
    wait_for(lambda: (found := store.read_answer(path)) and found.right is True and found.given is None)
    keeper.close()


def test_what_comes_faster_than_it_can_be_written_is_dropped_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store.prepare(tmp_path)
    counted: Counter[str] = Counter()
    begin = threading.Event()
    write_image = store.write_image

    def slowly(*args: object) -> bool:
        begin.wait(10)
        return write_image(*args)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(store, "write_image", slowly)
    keeper = Keeper(tmp_path, ALL, lambda outcome: counted.update([outcome]))
    began = time.monotonic()
    for i in range(keep.QUEUE_IMAGES + 50):
        keeper.offer(b"%d" % i, answer(f"r{i}"))
    assert time.monotonic() - began < 1
    assert 48 <= counted["dropped"] <= 50
    begin.set()
    keeper.close()
    assert counted["dropped"] + counted["kept"] == keep.QUEUE_IMAGES + 50


def test_a_few_huge_images_fill_the_queue_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store.prepare(tmp_path)
    monkeypatch.setattr(keep, "QUEUE_BYTES", 10)
    counted: Counter[str] = Counter()
    keeper = Keeper(tmp_path, ALL, lambda outcome: counted.update([outcome]))
    with keeper.changed:  # so that nothing is taken meanwhile
        keeper.offer(b"123456789012", answer("a"))  # one that is larger by itself is taken all the same
        keeper.offer(b"1", answer("b"))
    keeper.close()
    assert counted == {"kept": 1, "dropped": 1}


def test_a_full_disk_costs_the_image_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store.prepare(tmp_path)
    counted: Counter[str] = Counter()
    write_image = store.write_image

    def full(*_: object) -> bool:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(store, "write_image", full)
    keeper = Keeper(tmp_path, ALL, lambda outcome: counted.update([outcome]))
    for i in range(3):
        keeper.offer(b"x", answer(f"r{i}"))
    wait_for(lambda: counted["failed"] == 3)
    monkeypatch.setattr(store, "write_image", write_image)
    keeper.offer(b"x", answer("later"))
    keeper.close()
    assert counted == {"failed": 3, "kept": 1}
    assert [record.message for record in caplog.records] == [
        f"images cannot be kept in {tmp_path}: No space left on device; requests are answered all the same"
    ]


def test_usual_images_wait_for_feedback_and_then_go_unless_they_are_in_the_share(tmp_path: Path) -> None:
    put(tmp_path, "usual", b"1", age=20)
    put(tmp_path, "confirmed", b"2", right=True, age=20)
    put(tmp_path, "unsure", b"3", unsure=True, age=20)
    put(tmp_path, "corrected", b"4", right=False, age=20)
    clear(Catalogue(tmp_path), replace(NOTHING_USUAL, wait=30))
    assert names(tmp_path) == {"usual", "confirmed", "unsure", "corrected"}
    clear(Catalogue(tmp_path), replace(NOTHING_USUAL, wait=10))
    assert names(tmp_path) == {"unsure", "corrected"}
    clear(Catalogue(tmp_path), replace(NOTHING_USUAL, seconds=10))
    assert names(tmp_path) == set()


def test_the_share_of_usual_images_is_about_so_large_and_the_same_for_every_worker(tmp_path: Path) -> None:
    for i in range(300):
        put(tmp_path, f"r{i}", b"image %d" % i, age=20)
    bounds = replace(ALL, share=0.25)
    clear(Catalogue(tmp_path), bounds)
    left = names(tmp_path)
    assert 50 <= len(left) <= 100
    clear(Catalogue(tmp_path), bounds)
    assert names(tmp_path) == left


def test_past_the_bounds_usual_images_go_first_then_unsure_ones_each_the_oldest_first(tmp_path: Path) -> None:
    for kind, facts in (("usual", {}), ("unsure", {"unsure": True}), ("corrected", {"right": False})):
        for age in (3, 2, 1):
            put(tmp_path, f"{kind}-{age}", f"{kind} {age}".encode(), age=age, **facts)
    found = clear(Catalogue(tmp_path), replace(ALL, images=8))
    assert found.images == len(images(tmp_path)) == 7  # with some room for the next
    assert names(tmp_path) == {"usual-1", *(f"{kind}-{age}" for kind in ("unsure", "corrected") for age in (1, 2, 3))}
    clear(Catalogue(tmp_path), replace(ALL, images=4))
    assert names(tmp_path) == {"corrected-1", "corrected-2", "corrected-3"}
    found = clear(Catalogue(tmp_path), replace(ALL, bytes=20))
    assert names(tmp_path) == {"corrected-1"}
    assert (found.images, found.bytes) == (1, len("corrected 1"))


def test_an_image_that_one_answer_still_needs_stays(tmp_path: Path) -> None:
    put(tmp_path, "old", b"same", age=20)
    put(tmp_path, "young", b"same", age=1)
    clear(Catalogue(tmp_path), replace(NOTHING_USUAL, wait=10))
    assert names(tmp_path) == {"young"}


def test_what_a_writer_left_half_is_cleared_up_when_it_is_no_longer_fresh(tmp_path: Path) -> None:
    lost = put(tmp_path, "whole", b"1")
    store.write_image(tmp_path, "orphan.png", b"2")
    (tmp_path / store.IMAGES / ".new-1-2").write_bytes(b"3")
    (tmp_path / store.ANSWERS / "~broken.0.json").write_bytes(b"{")
    clear(Catalogue(tmp_path), ALL)
    assert len(images(tmp_path)) == 3
    for path in tmp_path.rglob("*"):
        if path.is_file():
            os.utime(path, (0, 0))
    clear(Catalogue(tmp_path), ALL)
    assert images(tmp_path) == {lost}
    assert [path.name for path in (tmp_path / store.ANSWERS).iterdir()] == ["~whole.0.json"]


def test_a_request_is_deleted_with_the_images_that_no_other_has(tmp_path: Path) -> None:
    alone = put(tmp_path, "a", b"1")
    shared = put(tmp_path, "b", b"2")
    store.write_answer(tmp_path, msgspec.structs.replace(answer("a", 1), image=shared))
    store.write_answer(tmp_path, msgspec.structs.replace(answer("a", 0, client="web"), image=shared))
    keeper = Keeper(tmp_path, ALL)
    assert keeper.delete("", "a", time.monotonic()) == 2
    assert {(kept.request_id, kept.client) for kept in store.read_all(tmp_path)} == {("a", "web"), ("b", "")}
    assert images(tmp_path) == {shared}
    assert alone != shared
    assert catalogue.forget(tmp_path, "a") == 1  # of whichever client
    assert keeper.delete("", "b", time.monotonic()) == 1
    keeper.close()
    assert images(tmp_path) == set()


@pytest.mark.parametrize("request_id", ["*", "..", "a/../b", "[ab]", "", "~a"])
def test_no_request_id_deletes_what_is_another_s(tmp_path: Path, request_id: str) -> None:
    put(tmp_path, "a", b"1")
    assert catalogue.forget(tmp_path, request_id) == 0
    assert names(tmp_path) == {"a"}


def test_a_request_whose_image_still_waits_is_deleted_too_and_so_is_one_that_another_worker_writes_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.prepare(tmp_path)
    go_on = threading.Event()
    write_image = store.write_image

    def slowly(*args: object) -> bool:
        go_on.wait(10)
        return write_image(*args)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(store, "write_image", slowly)
    one, other = Keeper(tmp_path, ALL), Keeper(tmp_path, ALL)
    one.offer(b"first", answer("first"))
    for keeper in (one, other):
        keeper.offer(b"secret", answer("a"))
    time.sleep(0.05)
    assert one.delete("", "a", time.monotonic()) == 1  # the other has its image in hand already
    go_on.set()
    one.close()
    other.close()
    assert names(tmp_path) == {"first"}
    one = Keeper(tmp_path, ALL)
    one.offer(b"another", answer("a"))  # the same id once more, later
    one.close()
    assert names(tmp_path) == {"first", "a"}


def test_workers_share_the_folder_and_one_at_a_time_clears_up(tmp_path: Path) -> None:
    store.prepare(tmp_path)
    bounds = replace(ALL, images=20)
    keepers = [Keeper(tmp_path, bounds) for _ in range(3)]
    for i in range(90):
        keepers[i % 3].offer(b"image %d" % i, answer(f"r{i}"))
    for keeper in keepers:
        keeper.close()
    clear(Catalogue(tmp_path), bounds)
    assert 15 <= len(images(tmp_path)) <= 20
    assert len(names(tmp_path)) == len(images(tmp_path))


def test_of_a_picture_that_comes_often_the_newest_answers_stay_and_those_with_feedback(tmp_path: Path) -> None:
    n = keep.ANSWERS_OF_AN_IMAGE
    put(tmp_path, "told", b"same", right=True, age=500)
    for i in range(n + 5):
        put(tmp_path, f"r{i:02d}", b"same", age=100 - i)
    clear(Catalogue(tmp_path), ALL)
    assert names(tmp_path) == {"told", *(f"r{i:02d}" for i in range(6, n + 5))}


def test_what_was_read_before_is_not_read_again_unless_it_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(5):
        put(tmp_path, f"r{i}", b"image %d" % i)
    known = Catalogue(tmp_path)
    clear(known, ALL)
    put(tmp_path, "r3", b"image 3", right=False)
    read: list[str] = []
    read_answer = store.read_answer

    def reading(path: Path) -> Kept | None:
        read.append(path.name)
        return read_answer(path)

    monkeypatch.setattr(store, "read_answer", reading)
    found = clear(known, ALL)
    assert read == ["~r3.0.json"]
    assert found.answers == found.images == 5
