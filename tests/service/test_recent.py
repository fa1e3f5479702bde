"""The ring of recent answers: what any worker finds of what any other wrote, and what it makes of half an entry."""

from pathlib import Path

import pytest

from service.recent import NO_VERDICT, RIGHT, WRONG, RecentAnswers, Ring, key_of


def test_another_worker_finds_what_one_wrote_and_its_mark(tmp_path: Path) -> None:
    one, other = RecentAnswers(tmp_path, "worker-0", 16), RecentAnswers(tmp_path, "worker-1", 16)
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


def test_the_newest_answer_of_a_request_id_that_came_twice_counts(tmp_path: Path) -> None:
    one, other = RecentAnswers(tmp_path, "worker-0", 16), RecentAnswers(tmp_path, "worker-1", 16)
    one.write("", "abc", 0, 1, 0.5, 1, False)
    other.write("", "abc", 0, 2, 0.5, 2, False)
    for reader in (one, other):
        found = reader.find("", "abc", 0)
        assert found is not None
        assert (found[1].version, found[1].label) == (2, 2)


def test_the_ring_holds_so_many_answers_and_forgets_the_oldest_with_their_marks(tmp_path: Path) -> None:
    answers = RecentAnswers(tmp_path, "worker-0", 4)
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
    reader = RecentAnswers(tmp_path, "worker-1", 4)
    RecentAnswers(tmp_path, "worker-0", 4).write("", "before", 0, 1, 0.5, 1, False)
    again = RecentAnswers(tmp_path, "worker-0", 4)
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
    answers = RecentAnswers(tmp_path / "none", "worker-0", 4)
    answers.write("", "abc", 0, 1, 0.5, 1, False)
    assert answers.find("", "abc", 0) is not None


def test_a_ring_that_is_just_being_made_is_passed_over(tmp_path: Path) -> None:
    answers = RecentAnswers(tmp_path, "worker-0", 4)
    answers.write("", "abc", 0, 1, 0.5, 1, False)
    (tmp_path / "recent_worker-1.ring").write_bytes(b"")
    assert answers.find("", "abc", 0) is not None
    RecentAnswers(tmp_path, "worker-1", 4).write("", "def", 0, 1, 0.5, 2, False)
    assert answers.find("", "def", 0) is not None
