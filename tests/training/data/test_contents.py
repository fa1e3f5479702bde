"""training/data/contents.py: whether data are the same as before, and what is said of what changed."""

import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.factories import make_image
from tests.training.factories import SPEC, make_folder
from training.data import contents, dataset
from training.data.contents import Changes, Contents


def noted(source: Path) -> Contents:
    return contents.note(contents.look(source), *dataset.load_training(source, SPEC, 0.25, 0))


def changes(before: Contents, source: Path) -> Changes:
    return contents.compare(before, contents.look(source))[0]


def add(folder: Path) -> None:
    (folder / "red" / "new.png").write_bytes(make_image("PNG", seed=5))


def replace_by_as_many_bytes_of_the_same_age(folder: Path) -> None:
    path = folder / "red" / "000.png"
    before = path.stat()
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def relabel(folder: Path) -> None:
    (folder / "red" / "000.png").rename(folder / "blue" / "red.png")


def add_a_class(folder: Path) -> None:
    make_folder(folder, ("black", "gold"), each=1, seed=70)


def remove_a_class(folder: Path) -> None:
    shutil.rmtree(folder / "red")


def break_one(folder: Path) -> None:
    (folder / "red" / "000.png").write_bytes(b"no picture")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (add, "1 image added"),
        (lambda folder: (folder / "red" / "000.png").unlink(), "1 image removed"),
        (replace_by_as_many_bytes_of_the_same_age, "1 image changed"),
        (break_one, "1 image changed"),
        (relabel, "1 image with another label"),
        (lambda folder: (folder / "red" / "000.png").rename(folder / "red" / "z.png"), "1 image renamed"),
        (add_a_class, "2 images added; classes black, gold added"),
        (remove_a_class, "4 images removed; class red gone"),
    ],
)
def test_what_changed_is_counted_and_named(change: Callable[[Path], object], said: str, tmp_path: Path) -> None:
    source = make_folder(tmp_path / "colours", each=4)
    (source / "blue" / "damaged.png").write_bytes(b"no picture")
    before = noted(source)
    assert not changes(before, source).need_training

    change(source)

    found = changes(before, source)
    assert found.need_training
    assert str(found) == said


@pytest.mark.parametrize("move", [partial(shutil.copytree, symlinks=True), shutil.move], ids=["copied", "moved"])
def test_the_same_images_in_another_place_are_the_same_data(move: Callable[[Path, Path], object], tmp_path: Path) -> None:
    source = make_folder(tmp_path / "colours", each=4)
    (source / "blue" / "damaged.png").write_bytes(b"no picture")
    (source / "blue" / "nowhere.png").symlink_to("/proc/self/mem")  # cannot be read
    before = noted(source)
    move(source, tmp_path / "moved")

    found, now = contents.compare(before, contents.look(tmp_path / "moved"))

    assert not found.need_training
    assert now.address == str(tmp_path / "moved")
    assert not changes(now, tmp_path / "moved").need_training


def test_lists_are_compared_image_by_image_and_in_their_order(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "colours", each=4)
    rows = [f"{path.relative_to(tmp_path)},{path.parent.name}" for path in sorted(folder.rglob("*.png"))]
    (tmp_path / "all.csv").write_text("\n".join(["path,label", *rows]))
    before = noted(tmp_path / "all.csv")
    assert not changes(before, tmp_path / "all.csv").need_training

    (tmp_path / "all.csv").write_text("\n".join(["path,label", *rows[:-1], rows[-1].replace(",red", ",blue")]))
    assert str(changes(before, tmp_path / "all.csv")) == "1 image with another label"
    (tmp_path / "all.csv").write_text("\n".join(["path,label", *reversed(rows)]))
    assert str(changes(before, tmp_path / "all.csv")) == "12 images in another order"
    (folder / "red" / "000.png").write_bytes(make_image("PNG", seed=9))
    (tmp_path / "all.csv").write_text("\n".join(["path,label", *rows]))
    assert str(changes(before, tmp_path / "all.csv")) == "1 image changed"


def test_what_is_noted_can_be_read_and_damage_is_nothing_noted(tmp_path: Path) -> None:
    before = noted(make_folder(tmp_path / "colours", each=4))
    contents.write(tmp_path / "run", before)
    assert contents.read(tmp_path / "run") == before

    (tmp_path / "run" / contents.FILE).write_text("{")
    assert contents.read(tmp_path / "run") is None
    assert contents.read(tmp_path / "none") is None
