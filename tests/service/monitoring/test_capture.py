"""service/monitoring/capture.py and models/captures/captured.py: what the folder holds, what stays, and what is deleted."""

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

from models.captures import captured as store
from models.captures import catalogue
from models.captures.captured import CapturedAnswer
from models.captures.catalogue import Catalogue
from service.errors import KeptUnavailable
from service.monitoring import capture as capturing
from service.monitoring.capture import Bounds, Capture, clear
from tests.factories import make_image

ALL = Bounds(images=1000, seconds=1000, bytes=10**9, share=1.0, wait=0)
NOTHING_USUAL = replace(ALL, share=0.0)


def answer(answer_id: str, index: int = 0, unsure: bool = False, age: float = 0, client: str = "") -> CapturedAnswer:
    at = datetime.now(UTC) - timedelta(seconds=age)
    return CapturedAnswer(answer_id, index, client, "", "tiny", 1, "red", 0.9, unsure, at)


def put(folder: Path, name: str, image: bytes, right: bool | None = None, unsure: bool = False, age: float = 0) -> str:
    """An image with its answer; the name of the image's file."""
    store.prepare(folder)
    file = store.image_name(image)
    store.write_image(folder, file, image)
    store.write_answer(folder, msgspec.structs.replace(answer(name, unsure=unsure, age=age), image=file, right=right))
    return file


def names(folder: Path) -> set[str]:
    return {kept.answer_id for kept in store.read_all(folder)}


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
    capture = Capture(tmp_path, ALL, lambda outcome: counted.update([outcome]))
    red, blue = make_image("PNG", color="red"), make_image("JPEG", color="blue")
    for answer_id, image in (("a", red), ("b", blue), ("c", red)):
        capture.offer(image, answer(answer_id))
    capture.close()
    assert images(tmp_path) == {f"{sha256(red).hexdigest()}.png", f"{sha256(blue).hexdigest()}.jpg"}
    found = {kept.answer_id: kept for kept in store.read_all(tmp_path)}
    assert set(found) == {"a", "b", "c"}
    assert (tmp_path / store.IMAGES / found["a"].image).read_bytes() == red
    assert found["a"].image == found["c"].image
    assert counted == {"kept": 2, "known": 1}
    assert {path.stat().st_mode & 0o077 for path in tmp_path.rglob("*")} == {0}


def test_feedback_finds_its_answer_and_the_last_one_stays(tmp_path: Path) -> None:
    store.prepare(tmp_path)
    capture = Capture(tmp_path, ALL)
    capture.tell("", "a", 0, False, "blue")  # another worker may be faster than the one that writes the answer
    capture.offer(make_image(), answer("a"))
    path = store.answer_path(tmp_path, "", "a", 0)
    wait_for(lambda: (found := store.read_answer(path)) and found.given == "blue")
    capture.tell("", "a", 0, True, None)
    wait_for(lambda: (found := store.read_answer(path)) and found.right is True and found.given is None)
    capture.close()


def test_what_comes_faster_than_it_can_be_written_is_dropped_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store.prepare(tmp_path)
    counted: Counter[str] = Counter()
    begin = threading.Event()
    write_image = store.write_image

    def slowly(*args: object) -> bool:
        begin.wait(30)
        return write_image(*args)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(store, "write_image", slowly)
    capture = Capture(tmp_path, ALL, lambda outcome: counted.update([outcome]))
    for i in range(capturing.QUEUE_IMAGES + 50):
        capture.offer(b"%d" % i, answer(f"r{i}"))
    assert images(tmp_path) == set()  # whoever offers does not wait for the one that writes
    assert 48 <= counted["dropped"] <= 50
    begin.set()
    capture.close()
    assert counted["dropped"] + counted["kept"] == capturing.QUEUE_IMAGES + 50


def test_a_few_huge_images_fill_the_queue_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store.prepare(tmp_path)
    monkeypatch.setattr(capturing, "QUEUE_BYTES", 10)
    counted: Counter[str] = Counter()
    capture = Capture(tmp_path, ALL, lambda outcome: counted.update([outcome]))
    with capture.changed:  # so that nothing is taken meanwhile
        capture.offer(b"123456789012", answer("a"))  # one that is larger by itself is taken all the same
        capture.offer(b"1", answer("b"))
    capture.close()
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
    capture = Capture(tmp_path, ALL, lambda outcome: counted.update([outcome]))
    for i in range(3):
        capture.offer(b"x", answer(f"r{i}"))
    wait_for(lambda: counted["failed"] == 3)
    monkeypatch.setattr(store, "write_image", write_image)
    capture.offer(b"x", answer("later"))
    capture.close()
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
    capture = Capture(tmp_path, ALL)
    assert capture.delete("", "a", time.monotonic()) == 2
    assert {(kept.answer_id, kept.client) for kept in store.read_all(tmp_path)} == {("a", "web"), ("b", "")}
    assert images(tmp_path) == {shared}
    assert alone != shared
    assert catalogue.forget(tmp_path, "a") == 1  # of whichever client
    assert capture.delete("", "b", time.monotonic()) == 1
    capture.close()
    assert images(tmp_path) == set()


@pytest.mark.parametrize("answer_id", ["*", "..", "a/../b", "[ab]", "", "~a"])
def test_no_answer_id_deletes_what_is_another_s(tmp_path: Path, answer_id: str) -> None:
    put(tmp_path, "a", b"1")
    assert catalogue.forget(tmp_path, answer_id) == 0
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
    one, other = Capture(tmp_path, ALL), Capture(tmp_path, ALL)
    one.offer(b"first", answer("first"))
    for capture in (one, other):
        capture.offer(b"secret", answer("a"))
    time.sleep(0.05)
    assert one.delete("", "a", time.monotonic()) == 1  # the other has its image in hand already
    go_on.set()
    one.close()
    other.close()
    assert names(tmp_path) == {"first"}
    one = Capture(tmp_path, ALL)
    one.offer(b"another", answer("a"))  # the same id once more, later
    one.close()
    assert names(tmp_path) == {"first", "a"}


def test_workers_share_the_folder_and_one_at_a_time_clears_up(tmp_path: Path) -> None:
    store.prepare(tmp_path)
    bounds = replace(ALL, images=20)
    captures = [Capture(tmp_path, bounds) for _ in range(3)]
    for i in range(90):
        captures[i % 3].offer(b"image %d" % i, answer(f"r{i}"))
    for capture in captures:
        capture.close()
    clear(Catalogue(tmp_path), bounds)
    assert 15 <= len(images(tmp_path)) <= 20
    assert len(names(tmp_path)) == len(images(tmp_path))


def test_of_a_picture_that_comes_often_the_newest_answers_stay_and_those_with_feedback(tmp_path: Path) -> None:
    n = capturing.ANSWERS_OF_AN_IMAGE
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

    def reading(path: Path) -> CapturedAnswer | None:
        read.append(path.name)
        return read_answer(path)

    monkeypatch.setattr(store, "read_answer", reading)
    found = clear(known, ALL)
    assert read == ["~r3.0.json"]
    assert found.answers == found.images == 5


def stops(capture: Capture) -> None:
    """Have the keeper write nothing more, and not clear up, so that it can be asked from here alone."""
    capture.close()


def test_a_deletion_of_what_nobody_knows_reads_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(30):
        put(tmp_path, f"r{i}", b"%d" % i)
    stops(capture := Capture(tmp_path, ALL))
    before = set(tmp_path.rglob("*"))
    for name in ("read_answer", "withdraw"):
        monkeypatch.setattr(store, name, None)  # to call it fails
    monkeypatch.setattr(os, "scandir", None)
    for i in range(50):
        assert capture.delete("", f"unknown-{i}", time.monotonic(), images=8) == 0
    monkeypatch.undo()
    assert set(tmp_path.rglob("*")) == before


def test_an_answer_that_is_on_its_way_is_withdrawn_though_nothing_is_there_yet(tmp_path: Path) -> None:
    store.prepare(tmp_path)
    stops(capture := Capture(tmp_path, ALL))
    given = answer("a")
    assert capture.delete("", "a", time.monotonic(), given=True) == 0
    assert not store.write_answer(tmp_path, given)
    assert names(tmp_path) == set()


def test_an_answer_with_a_higher_index_than_this_service_gives_is_deleted_too(tmp_path: Path) -> None:
    put(tmp_path, "a", b"1")
    store.write_answer(tmp_path, msgspec.structs.replace(answer("a", 70), image=put(tmp_path, "b", b"2")))
    stops(capture := Capture(tmp_path, ALL))
    assert capture.delete("", "a", time.monotonic(), images=4) == 2
    assert names(tmp_path) == {"b"}


def test_what_was_written_of_a_request_that_was_deleted_meanwhile_leaves_no_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.prepare(tmp_path)
    write_image, begin, went_on = store.write_image, threading.Event(), threading.Event()

    def slowly(*args: object) -> bool:
        new = write_image(*args)  # pyright: ignore[reportArgumentType]
        begin.set()
        went_on.wait(10)
        return new

    monkeypatch.setattr(store, "write_image", slowly)
    capture = Capture(tmp_path, ALL)
    capture.offer(b"secret", answer("a"))
    assert begin.wait(5)
    assert capture.delete("", "a", time.monotonic(), given=True) == 0
    went_on.set()
    capture.close()
    assert images(tmp_path) == set()
    assert names(tmp_path) == set()


def test_an_image_that_is_written_again_after_its_answer_was_deleted_does_not_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.prepare(tmp_path)
    capture, write_answer = Capture(tmp_path, ALL), store.write_answer

    def deleted_after(folder: Path, kept: CapturedAnswer) -> bool:
        written = write_answer(folder, kept)
        assert capture.delete("", "a", time.monotonic()) == 1
        return written

    monkeypatch.setattr(store, "write_answer", deleted_after)
    capture.offer(b"secret", answer("a"))
    capture.close()
    assert names(tmp_path) == images(tmp_path) == set()


def test_an_image_that_is_deleted_between_its_answer_and_the_one_before_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = put(tmp_path, "before", b"same")
    write_answer = store.write_answer

    def after_a_deletion(folder: Path, kept: CapturedAnswer) -> bool:
        (folder / store.IMAGES / image).unlink()
        return write_answer(folder, kept)

    monkeypatch.setattr(store, "write_answer", after_a_deletion)
    capture = Capture(tmp_path, ALL)
    capture.offer(b"same", answer("after"))
    capture.close()
    assert images(tmp_path) == {image}


def test_while_the_folder_is_cleared_up_a_deletion_waits_no_longer_than_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capturing, "DELETE_SECONDS", 0.05)
    put(tmp_path, "a", b"1")
    stops(capture := Capture(tmp_path, ALL))
    with capture.lock, pytest.raises(KeptUnavailable, match="try again in 5 s") as caught:
        capture.delete("", "a", time.monotonic())
    assert caught.value.headers() == {"retry-after": "5"}
    assert names(tmp_path) == {"a"}
    assert capture.delete("", "a", time.monotonic()) == 1


def test_a_full_disk_that_takes_no_mark_lets_go_of_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "a", b"1")
    stops(capture := Capture(tmp_path, ALL))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(store, "withdraw", full)
    assert capture.delete("", "a", time.monotonic()) == 1
    assert images(tmp_path) == set()


def test_a_folder_that_goes_away_costs_what_comes_meanwhile_and_is_used_when_it_is_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "kept"
    store.prepare(folder)
    counted: Counter[str] = Counter()
    capture = Capture(folder, ALL, lambda outcome: counted.update([outcome]))
    capture.clear()
    folder.rename(tmp_path / "away")
    for i in range(4):
        capture.offer(b"%d" % i, answer(f"r{i}"))
    capture.tell("", "r0", 0, False, None)
    wait_for(lambda: counted["failed"] == 4)
    with pytest.raises(KeptUnavailable, match="cannot be changed now"):
        capture.delete("", "r0", time.monotonic())
    assert not folder.exists()  # nothing is written in its place
    folder.mkdir()  # it comes back empty
    capture.offer(b"later", answer("later"))
    capture.close()
    assert counted == {"failed": 4, "kept": 1}
    assert names(folder) == {"later"}
    assert [record.message for record in caplog.records] == [
        f"images cannot be kept in {folder}: No such file or directory; requests are answered all the same"
    ]


def test_all_answers_together_have_a_bound_which_costs_no_image(tmp_path: Path) -> None:
    bounds = replace(ALL, images=10)
    for i in range(10):
        for k in range(2 + i):  # 65 in all, where 50 may be
            put(tmp_path, f"r{i}x{k}", b"image %d" % i, right=False if k == 0 else None, age=100 - k)
    found = clear(Catalogue(tmp_path), bounds)
    assert found.answers == len(names(tmp_path)) <= 50
    assert found.images == 10
    assert {f"r{i}x0" for i in range(10)} | {f"r{i}x{1 + i}" for i in range(10)} <= names(tmp_path)
    assert found.answers > 35


def test_a_keeper_clears_up_when_there_are_too_many_answers_of_few_images(tmp_path: Path) -> None:
    store.prepare(tmp_path)
    told: list[tuple[int, int, int]] = []
    capture = Capture(tmp_path, replace(ALL, images=4), told=lambda images, size, answers: told.append((images, size, answers)))
    for i in range(120):
        capture.offer(b"%d" % (i % 3), answer(f"r{i}"))
        wait_for(lambda: not capture.images)
    capture.close()
    assert len(told) >= 3
    assert max(answers for _, _, answers in told) <= 20
    assert told[-1][:2] == (3, 3)
    assert len(names(tmp_path)) <= 40


def test_feedback_on_what_is_not_kept_is_looked_for_now_and_then_not_with_every_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.prepare(tmp_path)
    read: list[str] = []
    read_answer = store.read_answer
    monkeypatch.setattr(store, "read_answer", lambda path: read.append(path.name) or read_answer(path))
    monkeypatch.setattr(capturing, "RETRY_SECONDS", 60.0)
    capture = Capture(tmp_path, ALL)
    for i in range(200):
        capture.tell("", f"gone{i}", 0, True, None)
    for i in range(50):
        capture.offer(b"%d" % i, answer(f"r{i}"))
    wait_for(lambda: len(names(tmp_path)) == 50)
    assert sum(name.startswith("~gone") for name in read) <= 400
    capture.close()


def test_deletions_feedback_and_clearing_up_at_the_same_time_leave_a_whole_folder(tmp_path: Path) -> None:
    store.prepare(tmp_path)
    bounds = replace(ALL, images=12)
    captures = [Capture(tmp_path, bounds) for _ in range(2)]
    failed: list[Exception] = []

    def run(k: int) -> None:
        try:
            for i in range(80):
                captures[k].offer(b"%d" % (i % 9), answer(f"r{k}x{i}"))
                captures[1 - k].tell("", f"r{k}x{i}", 0, bool(i % 2), None)
                captures[1 - k].delete("", f"r{k}x{i - 2}", time.monotonic(), given=True)
                if i % 10 == 0:
                    captures[k].clear()
        except Exception as err:
            failed.append(err)

    threads = [threading.Thread(target=run, args=(k,)) for k in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for capture in captures:
        capture.close()
    assert not failed
    left = {path.name.removesuffix(".json") for path in (tmp_path / store.ANSWERS).glob("*.json")}
    assert left <= {f"~r{k}x{i}.0" for k in range(2) for i in (78, 79)}
    assert {kept.image for kept in store.read_all(tmp_path)} == images(tmp_path)
    assert len(names(tmp_path)) == len(left)
