"""training/data/sources/listing.py: lists of files in CSV and JSONL, and errors that name the line."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.training.data.sources.factories import Row, write_csv, write_jsonl
from tests.training.factories import COLOURS, SPEC, make_folder
from training.data import dataset
from training.data.sources.listing import open_listing
from training.errors import DataError

Write = Callable[[Path, list[Row]], Path]
both = pytest.mark.parametrize("write", [write_csv, write_jsonl])


def rows_of(folder: Path) -> list[Row]:
    return [
        {"path": file.relative_to(folder.parent).as_posix(), "label": file.parent.name} for file in sorted(folder.rglob("*.png"))
    ]


@both
def test_a_list_gives_the_images_that_the_folder_gives(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_folder(tmp_path / "data", each=3)
    path = write(tmp_path / "list", rows_of(folder))
    monkeypatch.chdir("/")  # paths are relative to the list, not to where the program runs

    listed, found = (dataset.load_training(source, SPEC, 0.4, 0) for source in (path, folder))

    for images, expected in zip(listed, found, strict=True):
        assert images.classes == COLOURS
        assert images.paths == tuple(f"data/{name}" for name in expected.paths)
        np.testing.assert_array_equal(images.pixels, expected.pixels)
        np.testing.assert_array_equal(images.targets, expected.targets)


@both
def test_lines_may_name_their_split(write: Write, tmp_path: Path) -> None:
    rows = rows_of(make_folder(tmp_path / "data", each=4))
    splits = ("train", "train", "validation", "test")
    path = write(tmp_path / "list", [row | {"split": splits[i % 4]} for i, row in enumerate(rows)])

    parts = open_listing(path).parts

    assert {split: len(part.items) for split, part in parts.items()} == {"train": 6, "val": 3, "test": 3}
    test = dataset.load_test(path, SPEC, COLOURS)
    assert test is not None
    assert test.paths == ("data/blue/003.png", "data/green/003.png", "data/red/003.png")


def test_a_list_from_a_spreadsheet_is_read(tmp_path: Path) -> None:
    make_folder(tmp_path, each=1)
    text = '\ufeffid, label ,path\r\n1, red ,red/000.png\r\n\r\n2,"deep, ""sky"" blue",blue/000.png\r\n'
    (tmp_path / "List.CSV").write_text(text, encoding="utf-8", newline="")

    train = open_listing(tmp_path / "List.CSV").train

    assert [(item.path, item.label) for item in train.items] == [("red/000.png", "red"), ("blue/000.png", 'deep, "sky" blue')]


def test_labels_in_json_may_be_numbers(tmp_path: Path) -> None:
    make_folder(tmp_path, each=1)
    (tmp_path / "a.jsonl").write_text(
        '{"path": "red/000.png", "label": 7}\n\n{"path": "blue/000.png", "label": "x", "by": "me"}\n'
    )

    assert open_listing(tmp_path / "a.jsonl").train.classes == ("7", "x")


@both
def test_images_of_a_group_are_on_one_side_of_the_split(write: Write, tmp_path: Path) -> None:
    make_folder(tmp_path, each=24)
    rows = [{"path": f"{c}/{i:03d}.png", "label": c, "group": f"p{i % 8}"} for c in COLOURS for i in range(24)]
    path = write(tmp_path / "list", rows)

    sides = dataset.load_training(path, SPEC, 0.3, 0)

    training, validation = (set(images.groups) for images in sides)
    assert training | validation == {f"p{i}" for i in range(8)}
    assert not training & validation


@both
def test_paths_may_lead_out_of_the_folder_of_the_list(write: Write, tmp_path: Path) -> None:
    make_folder(tmp_path / "data", each=2)
    (tmp_path / "lists").mkdir()
    rows = [
        {"path": "../data/red/000.png", "label": "red"},
        {"path": str(tmp_path / "data/blue/000.png"), "label": "blue"},
    ]

    images = dataset.decode(open_listing(write(tmp_path / "lists" / "list", rows)).train, SPEC)

    assert images.paths == ("../data/red/000.png", f"{tmp_path}/data/blue/000.png")
    expected = dataset.load_folder(tmp_path / "data", SPEC)
    np.testing.assert_array_equal(images.pixels, expected.pixels[[expected.paths.index(f"{c}/000.png") for c in ("red", "blue")]])


@both
@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"path": "red/none.png"}, "{line}: {tmp}/red/none.png does not exist", id="missing"),
        pytest.param({"path": "red"}, "{line}: {tmp}/red is a folder", id="a folder"),
        pytest.param({"path": ""}, "{line}: the path is empty", id="no path"),
        pytest.param({"label": " "}, "{line}: the label of red/000.png is empty", id="no label"),
        pytest.param({"split": "dev"}, "{line}: unknown split 'dev'; there are train, val and test", id="unknown split"),
        pytest.param({"split": ""}, "{line}: red/000.png has no split, other lines have", id="no split"),
        pytest.param(
            {"path": "blue/../blue/000.png"}, "{line}: blue/../blue/000.png stands on line {first} already as 'blue'", id="label"
        ),
        pytest.param(
            {"path": "blue/000.png", "label": "blue", "split": "test"},
            "{line}: blue/000.png stands on line {first} already in train",
            id="two splits",
        ),
        pytest.param(
            {"path": "blue/000.png", "label": "blue"}, "{line}: blue/000.png stands on line {first} already", id="twice"
        ),
    ],
)
def test_what_is_wrong_with_a_line_is_said_with_its_number(write: Write, change: Row, message: str, tmp_path: Path) -> None:
    make_folder(tmp_path, each=1)
    rows = [{"path": f"{name}/000.png", "label": name, "split": "train"} for name in COLOURS]
    path = write(tmp_path / "list", [*rows[:2], rows[2] | change])
    first = 2 if path.suffix == ".csv" else 1

    with pytest.raises(DataError) as caught:
        open_listing(path)

    assert str(caught.value).startswith(f"{path}: " + message.format(line=f"line {first + 2}", first=first, tmp=tmp_path))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "line 1 is ''"),
        ("a.csv", b"path;label\nred/000.png;red\n", "line 1 is 'path;label', it must name the columns path,label"),
        ("a.csv", b"path,label\n", "it lists no image"),
        ("a.csv", b"path,label\nred/000.png\n", "line 2 has 1 cells, the header has 2"),
        ("a.csv", b'path,label\nred/000.png,"red\n', "line 2: unexpected end of data"),
        ("a.csv", b"path,label\nred/caf\xe9.png,red\n", "is not UTF-8: .* at byte 18"),
        ("a.csv", b"path,label,split\nred/000.png,red,test\n", "holds no training images, only test"),
        ("a.jsonl", b"", "it lists no image"),
        ("a.jsonl", b'{"path": "red/000.png", "label": "red"}\n{"path"\n', "line 2: .*a line is such as"),
        ("a.jsonl", b'{"path": "red/000.png"}\n', "line 1: .*missing required field `label`"),
        ("a.jsonl", b'{"path": "red/000.png", "label": null}\n', "line 1: .*got `null`"),
        ("a.jsonl", b'{"path": "\xff", "label": "red"}\n', "is not UTF-8"),
    ],
)
def test_a_file_that_is_no_list_is_refused(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    make_folder(tmp_path, each=1)
    (tmp_path / name).write_bytes(content)

    with pytest.raises(DataError, match=f"^{tmp_path / name}:? {message}"):
        open_listing(tmp_path / name)


def test_of_many_faults_the_first_are_named_and_the_others_counted(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "list", [{"path": f"{i}.png", "label": "red"} for i in range(12)])

    with pytest.raises(DataError, match=r"line 2: .*/0\.png does not exist; .*line 6: .*/4\.png does not exist; and 7 more$"):
        open_listing(path)


def test_a_list_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"{tmp_path}/none.csv cannot be read: No such file"):
        dataset.load_training(tmp_path / "none.csv", SPEC, 0.5, 0)


def test_a_listed_file_that_is_no_image_is_left_out_and_named(tmp_path: Path) -> None:
    make_folder(tmp_path, each=2)
    (tmp_path / "red" / "bad.png").write_text("hello")
    path = write_csv(
        tmp_path / "list", [{"path": f.relative_to(tmp_path).as_posix(), "label": f.parent.name} for f in tmp_path.rglob("*.png")]
    )

    images = dataset.decode(open_listing(path).train, SPEC)

    assert len(images) == 6
    assert images.skipped[0].startswith(f"{tmp_path}/red/bad.png: the file looks like text")
