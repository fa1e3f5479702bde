"""training/data/sources/shards.py: samples of tar files, read without unpacking or running anything."""

import json
from pathlib import Path

import numpy as np
import pytest
from webdataset.tariterators import group_by_keys, tar_file_expander
from webdataset.writer import TarWriter

from tests.factories import make_image
from tests.training.data.sources.factories import samples, write_shard
from tests.training.factories import SPEC, make_folder
from training.data import dataset
from training.data.sources.shards import expand, open_shards
from training.errors import DataError


def test_a_group_is_read_beside_the_class(tmp_path: Path) -> None:
    told = {0: {"group": "a"}, 1: {"group": 7}, 2: {"group": None}, 3: {}, 4: {"group": ["a"]}}
    files: dict[str, bytes] = {}
    for i, more in told.items():
        files |= {f"{i}.jpg": make_image("JPEG", seed=i), f"{i}.json": json.dumps({"label": f"c{i % 2}"} | more).encode()}

    part = open_shards(str(write_shard(tmp_path / "all.tar", files))).train

    assert [item.group for item in part.items] == ["a", "7", "", "", ""]


def test_samples_are_images_with_the_classes_beside_them(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "data", each=2)
    files: dict[str, bytes] = {}
    for i, file in enumerate(sorted(folder.rglob("*.png"))):
        files |= {f"{i:04d}.cls": file.parent.name.encode(), f"{i:04d}.png": file.read_bytes()}

    images = dataset.decode(open_shards(str(write_shard(tmp_path / "all.tar", files))).train, SPEC)

    expected = dataset.load_folder(folder, SPEC)
    assert images.classes == expected.classes
    assert images.paths[0] == "all.tar/0000.png"
    np.testing.assert_array_equal(images.pixels, expected.pixels)
    np.testing.assert_array_equal(images.targets, expected.targets)


def test_the_name_or_the_folder_of_a_shard_says_its_split(tmp_path: Path) -> None:
    for i in range(3):
        write_shard(tmp_path / "a" / f"train-{i}.tar", samples("0101"))
    write_shard(tmp_path / "a" / "val_0.tar", samples("01"))
    for split, labels in (("train", "0011"), ("test", "01")):
        write_shard(tmp_path / "b" / split / "00.tar", samples(labels))

    by_name = open_shards(str(tmp_path / "a")).parts
    by_folder = open_shards(f"{tmp_path}/b/{{train,test}}/*.tar").parts

    assert {split: len(part.items) for split, part in by_name.items()} == {"train": 12, "val": 2}
    assert {split: len(part.items) for split, part in by_folder.items()} == {"train": 4, "test": 2}


def test_numbers_are_named_by_the_list_beside_the_shards(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar", samples("1022"))
    (tmp_path / "classes.txt").write_text("zebra\nant\ncat\n")

    train = open_shards(str(tmp_path / "a.tar")).train

    assert train.classes == ("zebra", "ant", "cat")
    assert [item.label for item in train.items] == ["ant", "zebra", "cat", "cat"]


def test_a_number_beyond_the_list_is_refused(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar", samples("0152"))
    (tmp_path / "classes.txt").write_text("zebra\nant\ncat\n")

    with pytest.raises(DataError, match=r"some/0002.cls is of class 5, classes.txt .* names 3"):
        open_shards(str(tmp_path / "a.tar"))


def test_the_class_may_stand_in_json_and_further_files_do_no_harm(tmp_path: Path) -> None:
    files = {
        "a.json": json.dumps({"label": "cat", "by": "me"}).encode(),
        "a.txt": b"a caption",
        "a.image.PNG": make_image("PNG"),
        "b.json": b'{"label": 7}',
        "b.jpeg": make_image("JPEG"),
        "b.pyd": b"not opened",
    }

    train = open_shards(str(write_shard(tmp_path / "a.tar", files))).train

    assert [(item.path, item.label) for item in train.items] == [("a.tar/a.image.png", "cat"), ("a.tar/b.jpeg", "7")]
    assert train.left_out == ()


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"x.cls": b"0"}, "the sample has no image"),
        ({"x.jpg": b"..."}, "the sample has no class"),
        ({"x.jpg": b"...", "x.cls": b" "}, "the sample has no class"),
        ({"x.jpg": b"...", "x.json": b"{}"}, "the sample has no class"),
        ({"x.jpg": b"...", "x.json": b"[1"}, "the sample has no class"),
        ({"x.jpg": b"...", "x.json": b'{"label": [1]}'}, "the sample has no class"),
        ({"x.jpg": b"...", "x.cls": b"\xff"}, "the sample has no class"),
        ({"x.jpg": make_image("JPEG")[:300], "x.cls": b"0"}, "is cut off"),
    ],
)
def test_a_sample_that_cannot_be_used_is_left_out_and_named(files: dict[str, bytes], reason: str, tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "a.tar", samples("01") | files)

    images = dataset.decode(open_shards(str(shard)).train, SPEC)

    (line,) = images.skipped
    assert line.startswith(f"{shard}/x")
    assert reason in line
    assert len(images) == 2


@pytest.mark.parametrize("mode", ["w:gz", None], ids=["compressed", "no tar"])
def test_what_is_no_plain_tar_file_is_refused(mode: str | None, tmp_path: Path) -> None:
    shard = tmp_path / "a.tar"
    if mode:
        write_shard(shard, samples("01"), mode)
    else:
        shard.write_bytes(b"hello" * 500)

    with pytest.raises(DataError, match=f"{shard} is no whole, uncompressed tar file"):
        open_shards(str(shard))


def test_a_shard_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "a.tar", samples("0101"))
    content = shard.read_bytes()
    shard.write_bytes(content[: 512 * 3 + 100])

    with pytest.raises(DataError, match=f"{shard} is no whole"):
        open_shards(str(shard))


@pytest.mark.parametrize(
    ("pattern", "paths"),
    [
        ("a.tar", ["a.tar"]),
        ("a-{08..11}.tar", ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]),
        ("{a,b}-{0..1}.tar", ["a-0.tar", "b-0.tar", "a-1.tar", "b-1.tar"]),
    ],
)
def test_braces_are_read_as_a_shell_reads_them(pattern: str, paths: list[str]) -> None:
    assert sorted(expand(pattern)) == sorted(paths)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("{tmp}/train-{{0..2}}.tar", "train-2.tar does not exist"),
        ("{tmp}/none-*.tar", "no file matches .*none-"),
        ("{tmp}/empty", "no file matches"),
        ("pipe:cat {tmp}/train-0.tar", "does not exist"),
        ("{tmp}/*.tar", "rest.tar does not say its split, other shards do"),
        ("{tmp}/val-0.tar", "holds no training images, only val"),
    ],
)
def test_a_pattern_that_makes_no_sense_is_refused(pattern: str, message: str, tmp_path: Path) -> None:
    for name in ("train-0", "train-1", "val-0", "rest"):
        write_shard(tmp_path / f"{name}.tar", samples("01"))
    (tmp_path / "empty").mkdir()

    with pytest.raises(DataError, match=message):
        dataset.load_training("wds:" + pattern.format(tmp=tmp_path), SPEC, 0.5, 0)


def test_shards_of_the_library_are_read_as_it_reads_them(tmp_path: Path) -> None:
    with TarWriter(str(tmp_path / "a.tar")) as writer:
        for i in range(6):
            writer.write({"__key__": f"x/{i:03d}", "jpg": make_image("JPEG", seed=i), "cls": i % 2, "json": {"id": i}})

    found = [(item.read(), item.label) for item in open_shards(str(tmp_path / "a.tar")).train.items]

    with (tmp_path / "a.tar").open("rb") as stream:
        files = tar_file_expander([{"url": "a.tar", "stream": stream}])
        assert found == [(sample["jpg"], sample["cls"].decode()) for sample in group_by_keys(files)]
