"""The ring of recent answers: what any worker finds of what any other wrote, and what it makes of half an entry."""

import random
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from models import files
from service.monitoring.answer_log import HEAD, NO_VERDICT, PROBES, RIGHT, WRONG, AnswerLog, Held, Ring, key_of


def test_another_worker_finds_what_one_wrote_and_its_mark(tmp_path: Path) -> None:
    one, other = AnswerLog(tmp_path, "worker-0", 16), AnswerLog(tmp_path, "worker-1", 16)
    one.write("web", "abc", 2, 7, 0.75, 3, True)

    found = other.find("web", "abc", 2)

    assert found is not None
    (ring, place, _), recent = found
    assert (recent.version, recent.probability, recent.label, recent.unsure, recent.verdict) == (7, 0.75, 3, True, NO_VERDICT)
    ring.mark(place, WRONG)
    marked = one.find("web", "abc", 2)
    assert marked is not None
    assert marked[1].verdict == WRONG
    for stranger in (("web", "abc", 0), ("app", "abc", 2), ("web", "abd", 2)):
        assert other.find(*stranger) is None


def test_the_newest_answer_of_an_id_that_came_twice_counts(tmp_path: Path) -> None:
    one, other = AnswerLog(tmp_path, "worker-0", 16), AnswerLog(tmp_path, "worker-1", 16)
    one.write("", "abc", 0, 1, 0.5, 1, False)
    other.write("", "abc", 0, 2, 0.5, 2, False)
    for reader in (one, other):
        found = reader.find("", "abc", 0)
        assert found is not None
        assert (found[1].version, found[1].label) == (2, 2)


def test_the_ring_holds_so_many_answers_and_forgets_the_oldest_with_their_marks(tmp_path: Path) -> None:
    answers = AnswerLog(tmp_path, "worker-0", 4)
    for i in range(4):
        answers.write("", f"r{i}", 0, 1, 0.5, i, False)
    oldest = answers.find("", "r0", 0)
    assert oldest is not None
    oldest[0].ring.mark(oldest[0].place, RIGHT)
    answers.write("", "r4", 0, 1, 0.5, 4, False)
    assert answers.find("", "r0", 0) is None
    newest = answers.find("", "r4", 0)
    assert newest is not None
    assert (newest[0].place, newest[1].label, newest[1].verdict) == (oldest[0].place, 4, NO_VERDICT)


def test_a_worker_that_replaces_another_goes_on_in_its_ring(tmp_path: Path) -> None:
    reader = AnswerLog(tmp_path, "worker-1", 4)
    AnswerLog(tmp_path, "worker-0", 4).write("", "before", 0, 1, 0.5, 1, False)
    again = AnswerLog(tmp_path, "worker-0", 4)
    again.write("", "after", 0, 1, 0.5, 2, False)
    for name, label in (("before", 1), ("after", 2)):
        found = reader.find("", name, 0)
        assert found is not None
        assert found[1].label == label
    assert again.own.written == 2


@pytest.mark.parametrize("byte", [0, 5, 20, 30, 36, 40])
def test_half_an_entry_is_none(tmp_path: Path, byte: int) -> None:
    ring = Ring(tmp_path / "recent_worker-0.ring", 4)
    ring.write(key_of("", "abc", 0), 1, 0.5, 1, False)
    ring.memory[ring.bodies + byte] ^= 0xFF
    assert ring.find(key_of("", "abc", 0)) is None


def test_where_the_disk_has_no_room_a_worker_remembers_for_itself(tmp_path: Path) -> None:
    answers = AnswerLog(tmp_path / "none", "worker-0", 4)
    answers.write("", "abc", 0, 1, 0.5, 1, False)
    assert answers.find("", "abc", 0) is not None


def test_a_ring_that_is_just_being_made_is_skipped(tmp_path: Path) -> None:
    answers = AnswerLog(tmp_path, "worker-0", 4)
    answers.write("", "abc", 0, 1, 0.5, 1, False)
    (tmp_path / "recent_worker-1.ring").write_bytes(b"")
    assert answers.find("", "abc", 0) is not None
    AnswerLog(tmp_path, "worker-1", 4).write("", "def", 0, 1, 0.5, 2, False)
    assert answers.find("", "def", 0) is not None


def test_whatever_was_written_is_found_until_it_is_overwritten() -> None:
    rng = random.Random(7)
    ring = Ring(None, 37)
    ring.written = 2**32 - 200  # numbers are kept in 32 bits, and begin again on the way
    HEAD.pack_into(ring.memory, 0, 37, ring.written)
    last: dict[bytes, tuple[int, int]] = {}
    for i in range(400):
        key = key_of("", f"r{rng.randrange(60)}", 0)
        ring.write(key, 1, 0.5, i, False)
        last[key] = (i, ring.written)
        for known, (label, number) in last.items():
            found = ring.find(known)
            if ring.written - number < 37:
                assert found is None or found[1].label == label
                assert found is not None or number & 0xFFFF_FFFF == 0  # one in 2**32 answers has no number
            else:
                assert found is None
    assert ring.find(key_of("", "never", 0)) is None


class Counting(Ring):
    looked = 0

    def _body(self, place: int) -> tuple[bytes, float, int, float, int, int, int] | None:
        self.looked += 1
        return super()._body(place)


def test_to_look_for_an_answer_takes_a_few_steps_in_a_full_ring_also_where_many_keys_share_a_place() -> None:
    ring = Counting(None, 4096)
    for i in range(5000):
        ring.write(key_of("", f"r{i}", 0), 1, 0.5, 1, False)
    for i in range(1000):
        ring.find(key_of("", f"unknown{i}", 0))
    assert ring.looked < 5000
    keys = [b"same one" + i.to_bytes(8) for i in range(900)]
    for key in keys:
        ring.write(key, 1, 0.5, 1, False)
    ring.looked = 0
    assert ring.find(b"same one" + bytes(7) + b"\xff\xff") is None
    assert ring.looked == PROBES
    assert ring.find(keys[-PROBES]) is not None
    assert ring.find(b"another " + bytes(8)) is None


def test_nobody_can_make_answer_ids_that_share_a_place_without_knowing_the_folder(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("hubel-metrics-abcdefgh", "hubel-metrics-ijklmnop")]
    for folder in folders:
        folder.mkdir()
    one, same, other = (AnswerLog(folder, f"worker-{i}", 4) for i, folder in enumerate([folders[0], *folders]))
    assert key_of("", "abc", 0, one.secret) == key_of("", "abc", 0, same.secret) != key_of("", "abc", 0, other.secret)
    assert AnswerLog(None, "alone", 4).secret != AnswerLog(None, "alone", 4).secret


def test_a_lock_that_another_process_keeps_is_waited_for_no_longer_than_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = AnswerLog(tmp_path, "worker-0", 4), AnswerLog(tmp_path, "worker-1", 4)
    now = began = 1000.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(files, "time", SimpleNamespace(monotonic=lambda: now, sleep=sleep))
    with other.alone(now):
        with pytest.raises(Held), one.alone(1000.05):
            pass
        assert began + 0.05 <= now <= began + 0.05 + files.LOOK_SECONDS
        one.write("", "abc", 0, 1, 0.5, 1, False)  # answers go on
        assert one.find("", "abc", 0) is not None
    with one.alone(time.monotonic()):
        pass


def test_what_was_opened_is_used_on_when_the_folder_is_gone(tmp_path: Path) -> None:
    (folder := tmp_path / "metrics").mkdir()
    one, other = AnswerLog(folder, "worker-0", 4), AnswerLog(folder, "worker-1", 4)
    assert len(one.rings()) == 2
    shutil.rmtree(folder)
    other.write("", "abc", 0, 1, 0.5, 1, False)
    with one.alone(time.monotonic()), pytest.raises(Held), other.alone(time.monotonic()):
        pass
    assert one.find("", "abc", 0) is not None


def test_a_mark_does_not_reach_the_answer_that_took_the_place_of_its_own(tmp_path: Path) -> None:
    answers = AnswerLog(tmp_path, "worker-0", 2)
    answers.write("", "abc", 0, 1, 0.5, 1, False)
    found = answers.find("", "abc", 0)
    assert found is not None
    at = found[0]
    assert at.ring.verdict(at.place, at.key) == NO_VERDICT
    for name in ("def", "ghi"):
        answers.write("", name, 0, 1, 0.5, 1, False)
    assert at.ring.verdict(at.place, at.key) is None


def test_a_request_counts_as_answered_of_late_by_any_of_its_images_and_any_worker(tmp_path: Path) -> None:
    one, other = AnswerLog(tmp_path, "worker-0", 4), AnswerLog(tmp_path, "worker-1", 4)
    other.write("web", "abc", 6, 1, 0.5, 1, False)
    assert one.gave("web", "abc", 7, 60)
    assert not one.gave("web", "abc", 6, 60)
    assert not one.gave("web", "abc", 7, -60)
    assert not one.gave("", "abc", 7, 60)
