"""training/data/sources/catalogue.py: what a source is called decides how it is read."""

from pathlib import Path

import pytest

from tests.training.data.sources.factories import samples, write_shard
from tests.training.factories import make_folder
from training.data.sources.catalogue import open_source, title
from training.errors import DataError


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("some/photos", "photos"),
        ("some/photos/", "photos"),
        (Path("some/photos"), "photos"),
        ("lists/photos.csv", "photos.csv"),
        ("mnist:", "mnist"),
        ("fashion-mnist:some/folder", "fashion-mnist"),
        ("hf:somebody/cats?label=breed", "somebody/cats"),
        ("wds:shards/train-{000..009}.tar", "train-{000..009}.tar"),
    ],
)
def test_the_title_says_what_it_is_without_where_it_lies(source: str | Path, name: str) -> None:
    assert title(source) == name


def test_the_folder_one_stands_in_has_a_title(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path / "photos")

    assert title(".") == "photos"


def test_folders_may_be_called_as_lists_shards_and_sets_are(tmp_path: Path) -> None:
    for name in ("photos.csv", "photos.tar", "photos.jsonl", "mnist:"):
        make_folder(tmp_path / name, each=1)

        assert len(open_source(tmp_path / name).train.items) == 3


def test_a_tar_file_is_a_shard(tmp_path: Path) -> None:
    assert len(open_source(write_shard(tmp_path / "a.tar", samples("010"))).train.items) == 3


def test_what_is_nothing_of_all_this_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"{tmp_path}/none is not a folder; .*docs/training.md"):
        open_source(tmp_path / "none")
