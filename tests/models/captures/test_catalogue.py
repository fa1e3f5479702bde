"""models/captures/catalogue.py: what it knows of a folder that others write to, and what a deletion takes."""

import os
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from models.captures import captured, catalogue
from models.captures.captured import CapturedAnswer
from models.captures.catalogue import Catalogue


def put(folder: Path, answer_id: str, image: bytes = b"picture", index: int = 0, client: str = "") -> str:
    """An image with an answer; the name of the image's file."""
    if not captured.is_folder(folder):
        captured.prepare(folder)
    name = captured.image_name(image)
    captured.write_image(folder, name, image)
    captured.write_answer(folder, CapturedAnswer(answer_id, index, client, name, "tiny", 1, "red", 0.9, False, datetime.now(UTC)))
    return name


def answers(folder: Path) -> set[str]:
    return {path.name for path in (folder / captured.ANSWERS).glob("*.json")}


def images(folder: Path) -> set[str]:
    return {path.name for path in (folder / captured.IMAGES).iterdir()}


def delete(known: Catalogue, client: str, answer_id: str) -> int:
    known.refresh()
    return known.remove(known.names(client, answer_id))


def count_reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    read: list[str] = []
    read_answer = captured.read_answer
    monkeypatch.setattr(captured, "read_answer", lambda path: read.append(path.name) or read_answer(path))
    return read


def test_it_follows_what_others_write_and_remove_and_reads_that_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = Catalogue(tmp_path)
    first, second = (put(tmp_path, name, name.encode()) for name in ("a", "b"))
    known.refresh()
    assert known.of_image == {first: {"~a.0.json"}, second: {"~b.0.json"}}
    put(tmp_path, "c", b"a")
    put(tmp_path, "b", b"a")  # the same id once more, with another image
    (tmp_path / captured.ANSWERS / "~a.0.json").unlink()
    read = count_reads(monkeypatch)
    known.refresh()
    assert known.of_image == {first: {"~b.0.json", "~c.0.json"}}
    assert sorted(read) == ["~a.0.json", "~b.0.json", "~c.0.json"] or sorted(read) == ["~b.0.json", "~c.0.json"]
    read.clear()
    known.refresh()
    assert not read


def test_a_look_that_began_after_it_was_asked_for_serves_all_who_asked_before(tmp_path: Path) -> None:
    put(tmp_path, "a")
    known = Catalogue(tmp_path)
    asked = time.monotonic()
    known.refresh(asked)
    put(tmp_path, "b")
    known.refresh(asked)
    assert set(known.answers) == {"~a.0.json"}
    known.refresh(time.monotonic())
    assert set(known.answers) == {"~a.0.json", "~b.0.json"}


ALIKE = ["a", "a.0", "a.0.json", "a.b", "aa", "A", "a-", "a.0.0", "0", "a._"]


@pytest.mark.parametrize("answer_id", ALIKE)
def test_an_id_that_looks_like_another_one_takes_nothing_of_it(tmp_path: Path, answer_id: str) -> None:
    expected = set[str]()
    for i, name in enumerate(ALIKE):
        for client in ("", "web", "web.a"):
            for index in (0, 3):
                put(tmp_path, name, b"%d" % i, index, client)
                if (client, name) != ("web", answer_id):
                    expected.add(captured.answer_name(client, name, index))
    (tmp_path / captured.ANSWERS / captured.answer_name("web", answer_id + ".x", 0)).write_bytes(b"damaged")
    expected.add(captured.answer_name("web", answer_id + ".x", 0))
    assert delete(Catalogue(tmp_path), "web", answer_id) == 2
    assert answers(tmp_path) == expected
    assert len(images(tmp_path)) == len(ALIKE)


@pytest.mark.parametrize(
    "name", ["~a.json", "a.0.json", "~a.0", "~a.x.json", "~a..json", "~a.-1.json", "~a.\u0663.json", ".json"]
)
def test_what_is_no_name_of_an_answer_is_known_as_none(name: str) -> None:
    assert captured.read_name(name) is None


def test_a_name_says_whose_answer_it_is() -> None:
    for parts in (("", "a", 0), ("web.1", "a.0.json", 12), ("", ".", 0), ("web", "..", 3)):
        assert captured.read_name(captured.answer_name(*parts)) == parts


def test_a_deletion_reads_the_answers_of_its_images_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(60):
        put(tmp_path, f"r{i}", b"%d" % (i // 3))
    known = Catalogue(tmp_path)
    known.refresh()
    read = count_reads(monkeypatch)
    for i in range(3):
        assert len(images(tmp_path)) == 20
        assert delete(known, "", f"r{30 + i}") == 1
    assert len(images(tmp_path)) == 19
    assert len(read) < 12


def test_an_image_that_another_process_writes_an_answer_about_meanwhile_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = put(tmp_path, "a")
    known = Catalogue(tmp_path)
    known.refresh()
    put_aside = Catalogue._put_aside  # pyright: ignore[reportPrivateUsage]

    def late(self: Catalogue, image: str, beside: dict[str, Path]) -> None:
        put(tmp_path, "theirs", client="web")
        put_aside(self, image, beside)

    monkeypatch.setattr(Catalogue, "_put_aside", late)
    assert known.remove(["~a.0.json"]) == 1
    assert images(tmp_path) == {image}
    assert answers(tmp_path) == {"web~theirs.0.json"}


def test_where_the_answers_cannot_be_looked_at_an_image_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = put(tmp_path, "a")
    known = Catalogue(tmp_path)
    known.refresh()

    def failing(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(known, "refresh", failing)
    with pytest.raises(OSError, match="Input/output"):
        known.remove(["~a.0.json"])
    assert images(tmp_path) == {image}


def test_writers_and_deleters_of_one_image_at_the_same_time_lose_none_that_is_needed(tmp_path: Path) -> None:
    """Each writer and deleter has a catalogue of its own, as workers have."""
    captured.prepare(tmp_path)
    name, failed = captured.image_name(b"same"), list[str]()

    def writer(k: int) -> None:
        for i in range(60):
            captured.write_image(tmp_path, name, b"same")
            put(tmp_path, f"stays{k}x{i}", b"same")
            captured.write_image(tmp_path, name, b"same")  # as capture.py does
            delete(known[k], "", f"stays{k}x{i}")
            put(tmp_path, f"last{k}", b"same")
            captured.write_image(tmp_path, name, b"same")
            if not (tmp_path / captured.IMAGES / name).exists():
                time.sleep(0.05)  # it is put aside for a moment
                if not (tmp_path / captured.IMAGES / name).exists():
                    failed.append(f"{k} {i}")

    known = [Catalogue(tmp_path) for _ in range(3)]
    threads = [threading.Thread(target=writer, args=(k,)) for k in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert answers(tmp_path) == {f"~last{k}.0.json" for k in range(3)}
    assert images(tmp_path) == {name}


def test_marks_have_a_greatest_number_and_the_newest_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "MARKS", 20)
    captured.prepare(tmp_path)
    known, left = Catalogue(tmp_path), list[Path]()
    for i in range(75):
        known.withdraw("", f"r{i}")
        os.utime(tmp_path / captured.ANSWERS / f"~r{i}{captured.WITHDRAWN}", (1000 + i, 1000 + i))
        left = sorted((tmp_path / captured.ANSWERS).iterdir(), key=lambda path: path.stat().st_mtime)
        assert len(left) <= 20
        assert left[-1].name == f"~r{i}{captured.WITHDRAWN}"
    assert len(left) >= 18
    known.refresh()
    assert known.marks == len(left)
    known.refresh(thorough=True)  # they are old
    assert known.marks == len(answers(tmp_path)) == len(list((tmp_path / captured.ANSWERS).iterdir())) == 0


def test_what_was_answered_a_moment_before_the_deletion_does_not_come_after_it(tmp_path: Path) -> None:
    captured.prepare(tmp_path)
    answer = CapturedAnswer("r", 0, "", "0.png", "tiny", 1, "red", 0.9, False, datetime.now(UTC))
    for _ in range(100):
        answer = msgspec.structs.replace(answer, time=datetime.now(UTC))
        captured.withdraw(tmp_path, "", "r")
        assert not captured.write_answer(tmp_path, answer)
    later = msgspec.structs.replace(answer, time=datetime.now(UTC))
    assert captured.write_answer(tmp_path, later)  # the same id, used once more


def test_a_whole_folder_is_forgotten_one_id_of_all_clients(tmp_path: Path) -> None:
    for client in ("", "web", "app"):
        put(tmp_path, "a", client.encode(), client=client)
        put(tmp_path, "a.b", b"other", client=client)
    assert catalogue.forget(tmp_path, "a") == 3
    assert len(answers(tmp_path)) == 3
    assert len(images(tmp_path)) == 1
    assert catalogue.forget(tmp_path, "a") == 0


@pytest.mark.parametrize("make", [lambda folder: folder.rmdir(), lambda folder: folder.rename(folder.with_name("away"))])
def test_a_folder_that_is_not_there_is_an_error_and_nothing_is_forgotten(tmp_path: Path, make: Callable[[Path], object]) -> None:
    put(tmp_path, "a")
    known = Catalogue(tmp_path)
    known.refresh()
    (folder := tmp_path / captured.ANSWERS).rename(tmp_path / "whole")
    folder.mkdir()
    make(folder)
    with pytest.raises(FileNotFoundError):
        known.refresh()
    assert set(known.answers) == {"~a.0.json"}
