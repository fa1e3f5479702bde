"""training/data/sources/folder.py: which files of a folder are images of which class, and what is said of the others."""

import os
import re
from pathlib import Path

import pytest

from tests.factories import make_image
from tests.training.factories import COLOURS, SPEC, make_folder
from training.data import dataset
from training.data.sources.folder import list_folder, open_folder
from training.data.sources.source import VALIDATION_NAMES
from training.errors import DataError


def reasons(left_out: tuple[str, ...]) -> dict[str, str]:
    """Reason by the last part of the name."""
    return {line.split(": ")[0].rpartition("/")[2]: line.split(": ")[1] for line in left_out}


def test_a_plain_folder_is_all_to_train_on(tmp_path: Path) -> None:
    source = open_folder(make_folder(tmp_path, each=2))

    assert list(source.parts) == ["train"]
    assert source.train.classes == COLOURS
    assert [(item.path, item.label) for item in source.train.items][:3] == [
        ("blue/000.png", "blue"),
        ("blue/001.png", "blue"),
        ("green/000.png", "green"),
    ]


@pytest.mark.parametrize("validation", VALIDATION_NAMES)
def test_train_val_and_test_are_parts(validation: str, tmp_path: Path) -> None:
    for name, each in (("train", 3), (validation, 2), ("test", 1)):
        make_folder(tmp_path / name, each=each)

    parts = open_folder(tmp_path).parts

    assert {split: len(part.items) for split, part in parts.items()} == {"train": 9, "val": 6, "test": 3}
    assert parts["val"].items[0].path == "blue/000.png"
    assert parts["val"].items[0].name == f"{tmp_path}/{validation}/blue/000.png"


def test_train_is_a_class_among_vehicles(tmp_path: Path) -> None:
    for c, name in enumerate(("bus", "train", "tram")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_bytes(make_image("PNG", seed=c))

    assert open_folder(tmp_path).train.classes == ("bus", "train", "tram")


@pytest.mark.parametrize(
    "folders",
    [
        pytest.param(["Train/red", "Train/blue", "Test/red", "Test/blue"], id="capital letters"),
        pytest.param(["training/red", "training/blue", "validation/red", "validation/blue"], id="training"),
        pytest.param(["red", "blue", "test/red", "test/blue"], id="test beside the classes"),
        pytest.param(["val/red", "val/blue"], id="val alone"),
    ],
)
def test_parts_are_not_taken_for_classes(folders: list[str], tmp_path: Path) -> None:
    for name in folders:
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "a.png").write_bytes(make_image("PNG"))

    with pytest.raises(DataError, match=f"{tmp_path} holds .* look like parts .* no 'train'"):
        open_folder(tmp_path)


def test_train_without_class_folders_is_refused(tmp_path: Path) -> None:
    make_folder(tmp_path / "val", each=2)
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "a.png").write_bytes(make_image("PNG"))

    with pytest.raises(DataError, match=f"{tmp_path / 'train'} holds 0 classes"):
        dataset.load_training(tmp_path, SPEC, 0.5, 0)


def test_what_lies_beside_the_parts_and_the_classes_is_named(tmp_path: Path) -> None:
    make_folder(tmp_path / "train", each=2)
    make_folder(tmp_path / "val", each=2)
    make_folder(tmp_path / "valid", each=2)
    (tmp_path / "more").mkdir()
    for path in (tmp_path / "lost.JPG", tmp_path / "train" / "stray.png"):
        path.write_bytes(make_image("PNG"))
    (tmp_path / "README.md").write_text("no image")

    found = reasons(open_folder(tmp_path).train.left_out)

    assert set(found) == {"valid", "more", "lost.JPG", "stray.png"}
    assert "none of train, val and test; val is validated on" in found["valid"]
    assert found["stray.png"] == "it lies in no class folder"


CLUTTER = ("__MACOSX", "@eaDir", "lost+found", "$RECYCLE.BIN", "System Volume Information", ".ipynb_checkpoints")


@pytest.mark.parametrize("place", [".", "train", "test", "train/red", "train/red/dark"])
def test_what_systems_leave_behind_is_neither_class_nor_picture_and_said_once(place: str, tmp_path: Path) -> None:
    make_folder(tmp_path / "train", each=2)
    make_folder(tmp_path / "test", each=1)
    (tmp_path / place).mkdir(exist_ok=True)
    for folder in CLUTTER:
        make_folder(tmp_path / place / folder, ("red", "black"), each=1)
    for file in ("Thumbs.db", "desktop.ini", ".DS_Store", "._000.png"):
        (tmp_path / place / file).write_bytes(b"of a system")

    parts = open_folder(tmp_path).parts

    assert {split: part.classes for split, part in parts.items()} == {"train": COLOURS, "test": COLOURS}
    assert {split: len(part.items) for split, part in parts.items()} == {"train": 6, "test": 3}
    (line,) = (*parts["train"].left_out, *parts["test"].left_out)
    names = r"\$RECYCLE.BIN, @eaDir, System Volume Information, Thumbs.db, __MACOSX, desktop.ini, lost\+found"
    assert re.fullmatch(rf"{tmp_path}(/train|/test)?: skipped what systems leave behind in folders \({names}\)", line)


def test_a_folder_of_classes_beside_one_that_a_zip_file_of_macos_holds_trains(tmp_path: Path) -> None:
    make_folder(tmp_path, each=2)
    make_folder(tmp_path / "__MACOSX", each=1)

    images = dataset.load_folder(tmp_path, SPEC)

    assert images.classes == COLOURS
    assert images.skipped == (f"{tmp_path}: skipped what systems leave behind in folders (__MACOSX)",)


def test_links_to_files_and_folders_are_followed(tmp_path: Path) -> None:
    make_folder(tmp_path / "data", ("red", "blue"), each=1)
    make_folder(tmp_path / "else", ("green",), each=2)
    (tmp_path / "data" / "green").symlink_to(tmp_path / "else" / "green")
    (tmp_path / "data" / "red" / "more").symlink_to(tmp_path / "else" / "green")
    (tmp_path / "data" / "red" / "one.png").symlink_to(tmp_path / "else" / "green" / "000.png")

    images = dataset.load_folder(tmp_path / "data", SPEC)

    assert images.paths == (
        "blue/000.png",
        "green/000.png",
        "green/001.png",
        "red/000.png",
        "red/more/000.png",
        "red/more/001.png",
        "red/one.png",
    )
    assert images.skipped == ()


@pytest.mark.parametrize("target", [".", "..", "../.."], ids=["itself", "the folder of classes", "the folder above"])
def test_a_link_back_up_is_named_and_not_followed(target: str, tmp_path: Path) -> None:
    make_folder(tmp_path / "data", each=1)
    (tmp_path / "data" / "red" / "loop").symlink_to(target)

    images = dataset.load_folder(tmp_path / "data", SPEC)

    assert len(images) == 3
    assert reasons(images.skipped) == {"loop": "a link to a folder that it lies in, not followed"}


def test_what_cannot_be_read_is_left_out_and_named(tmp_path: Path) -> None:
    make_folder(tmp_path, each=1)
    (tmp_path / "red" / "nowhere.png").symlink_to("missing")
    (tmp_path / "red" / "self.png").symlink_to("self.png")
    (tmp_path / "red" / "memory.png").symlink_to("/proc/self/mem")  # a file that even root cannot read from its start
    os.mkfifo(tmp_path / "red" / "pipe.png")

    images = dataset.load_folder(tmp_path, SPEC)

    assert len(images) == 3
    assert reasons(images.skipped) == {
        "nowhere.png": "a link that leads nowhere",
        "self.png": "a link that leads nowhere",
        "pipe.png": "it is neither a file nor a folder",
        "memory.png": "Input/output error",
    }


def test_of_a_large_file_that_is_no_image_only_the_beginning_is_read(tmp_path: Path) -> None:
    make_folder(tmp_path, each=1)
    with (tmp_path / "red" / "film.mp4").open("wb") as file:
        file.truncate(1 << 40)

    images = dataset.load_folder(tmp_path, SPEC)

    assert "nothing but zeros" in reasons(images.skipped)["film.mp4"]


def test_file_names_that_are_no_text_can_be_printed_stored_and_fingerprinted(tmp_path: Path) -> None:
    make_folder(tmp_path, each=1)
    red = os.fsencode(tmp_path / "red")
    for name in (b"caf\xe9.png", b"bell\x07\x1b[31m.png"):
        with open(red + b"/" + name, "wb") as file:
            file.write(make_image("PNG"))
    with open(red + b"/bad\xff.png", "wb") as file:
        file.write(b"no image")

    images = dataset.load_folder(tmp_path, SPEC)

    assert images.paths[2:] == ("red/000.png", r"red/bell\x07\x1b[31m.png", r"red/caf\xe9.png")
    assert images.skipped[0].startswith(rf"{tmp_path}/red/bad\xff.png: ")
    assert len(dataset.fingerprint(images)) == 64


@pytest.mark.parametrize(("name", "shown"), [(b"caf\xe9", r"caf\\\\xe9"), (b"a\nb", r"a\\\\x0ab"), (b"  ", "  ")])
def test_a_class_whose_name_cannot_be_printed_is_refused(name: bytes, shown: str, tmp_path: Path) -> None:
    make_folder(tmp_path, each=1)
    os.mkdir(os.fsencode(tmp_path) + b"/" + name)

    with pytest.raises(DataError, match=f"has a class called '{shown}'.*rename it"):
        list_folder(tmp_path)
