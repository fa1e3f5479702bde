"""service/dry_run.py: which images are answered, and how a package that cannot be tried is refused."""

import json
from pathlib import Path

import pytest

from models.package import held_out_answers
from models.package.held_out_answers import Answers
from models.package.manifest import PackageError
from service import dry_run
from service.errors import OutOfMemory
from service.settings import Settings
from tests.factories import make_image

COLOURS = ("red", "green", "blue", "violet")
CONFIG = Settings(threads=1, device="cpu", max_batch=2)


def make_photos(folder: Path, *labels: str) -> Path:
    for label in labels:
        (folder / label).mkdir(parents=True)
        for i in range(3):
            (folder / label / f"{i}.png").write_bytes(make_image("PNG", seed=i, color=label if label in COLOURS else None))
    return folder


def answer(store: Path, folder: Path, target: Path) -> Answers:
    found = dry_run.try_out(store / "tiny/1", CONFIG, folder, target)
    made = held_out_answers.read(target.read_bytes(), 3, target)
    assert found.images == len(made.image)
    return made


def test_images_are_answered_as_the_service_would(tiny_store: Path, tmp_path: Path) -> None:
    found = answer(tiny_store, make_photos(tmp_path / "photos", "red", "blue"), tmp_path / "a.npz")
    assert found.target.tolist() == [2, 2, 2, 0, 0, 0]  # red, green, blue
    assert found.top1() == 1


@pytest.mark.parametrize("parts", [("train", "test"), ("train", "val", "test"), ("train", "val")], ids=" ".join)
def test_of_a_folder_of_parts_what_was_not_trained_on_is_answered(
    tiny_store: Path, tmp_path: Path, parts: tuple[str, ...]
) -> None:
    for part, label in zip(parts, ("red", "green", "blue"), strict=False):
        make_photos(tmp_path / "photos" / part, label)
    found = answer(tiny_store, tmp_path / "photos", tmp_path / "a.npz")
    assert set(found.target.tolist()) == {len(parts) - 1}


def test_what_systems_leave_behind_is_not_answered(tiny_store: Path, tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", "red", "blue")
    make_photos(photos, "__MACOSX", "red/@eaDir", "red/.thumbnails")
    assert len(answer(tiny_store, photos, tmp_path / "a.npz").image) == 6


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ((), "has no folder that is called as a class of tiny:1: red, green, blue"),
        (("violet",), "has no folder that is called as a class of tiny:1"),
    ],
)
def test_a_folder_without_a_known_class_is_refused(
    tiny_store: Path, tmp_path: Path, labels: tuple[str, ...], message: str
) -> None:
    folder = make_photos(tmp_path / "photos", *labels)
    folder.mkdir(exist_ok=True)
    with pytest.raises(PackageError, match=message):
        answer(tiny_store, folder, tmp_path / "a.npz")


def test_a_folder_without_a_picture_or_none_at_all_is_refused(tiny_store: Path, tmp_path: Path) -> None:
    (tmp_path / "photos/red").mkdir(parents=True)
    (tmp_path / "photos/red/a.png").write_bytes(b"no picture")
    with pytest.raises(PackageError, match="holds no image of a class of tiny:1 that can be decoded"):
        answer(tiny_store, tmp_path / "photos", tmp_path / "a.npz")
    with pytest.raises(PackageError, match="is not a folder"):
        answer(tiny_store, tmp_path / "nowhere", tmp_path / "a.npz")


@pytest.mark.parametrize("error", [MemoryError(), OutOfMemory("there is no memory left for this batch")], ids=repr)
def test_one_that_needs_more_memory_than_there_is_is_one_line_of_json(
    tiny_store: Path, error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("signal.setitimer", lambda *_: None)  # it would end the tests
    monkeypatch.setattr(dry_run, "try_out", fail)
    assert dry_run.main([str(tiny_store / "tiny/1")]) == 1
    assert json.loads(capsys.readouterr().out)["refused"].endswith("needs more memory than is free")


@pytest.mark.parametrize(
    ("settings", "reason"),
    [({"HUBEL_DEVICE": "abacus"}, "HUBEL_DEVICE is 'abacus'"), ({"HUBEL_PRECISION": "int8"}, "HUBEL_PRECISION is int8 but")],
)
def test_what_cannot_be_tried_is_one_line_of_json(
    tiny_store: Path, settings: dict[str, str], reason: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("signal.setitimer", lambda *_: None)  # it would end the tests
    assert dry_run.main([str(tiny_store / "tiny/1")]) == 1
    assert json.loads(capsys.readouterr().out)["refused"].startswith(reason)
