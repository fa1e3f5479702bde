"""training/data/sources/huggingface.py: the bytes and classes of saved data sets. Skipped where ``datasets`` is missing."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.image.preprocess import preprocess
from tests.factories import make_image
from tests.training.factories import SPEC
from training.data import dataset
from training.data.sources.catalogue import open_source
from training.errors import DataError


def library() -> Any:
    return pytest.importorskip("datasets", reason="the extra 'datasets' is not installed")


def make_table(n: int = 6, labels: list[int] | None = None, **columns: Any) -> Any:
    """Pictures with classes dog and ant in turn."""
    datasets = library()
    rows = {
        "picture": [{"bytes": make_image("JPEG", seed=i), "path": None} for i in range(n)],
        "kind": labels or [i % 2 for i in range(n)],
        "id": list(range(n)),
    }
    features = datasets.Features(
        {"picture": datasets.Image(), "kind": datasets.ClassLabel(names=["dog", "ant"]), "id": datasets.Value("int64")}
    )
    table = datasets.Dataset.from_dict(rows, features=features)
    for name, values in columns.items():
        table = table.add_column(name, values)
    return table


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)

    with pytest.raises(DataError, match=r"needs the library datasets.*: 'make setup EXTRAS=datasets'"):
        dataset.load_training("hf:somebody/something", SPEC, 0.5, 0)


def test_a_saved_table_is_to_be_trained_on(tmp_path: Path) -> None:
    make_table(8).save_to_disk(str(tmp_path / "saved"))

    training, validation = dataset.load_training(f"hf:{tmp_path / 'saved'}", SPEC, 0.25, 0)

    assert training.classes == ("dog", "ant")
    assert (len(training), len(validation)) == (6, 2)
    for part in (training, validation):
        expected = [preprocess(make_image("JPEG", seed=int(path)), SPEC) for path in part.paths]
        np.testing.assert_array_equal(part.pixels, np.stack(expected))
        assert part.targets.tolist() == [int(path) % 2 for path in part.paths]


def test_splits_become_parts_and_others_are_named(tmp_path: Path) -> None:
    tables = {"train": make_table(6), "validation": make_table(4), "test": make_table(2), "extra": make_table(2)}
    library().DatasetDict(tables).save_to_disk(str(tmp_path / "saved"))

    training, validation = dataset.load_training(f"hf:{tmp_path / 'saved'}", SPEC, 0.5, 0)
    test = dataset.load_test(f"hf:{tmp_path / 'saved'}", SPEC, training.classes)

    assert test is not None
    assert (len(training), len(validation), len(test)) == (6, 4, 2)
    assert training.skipped == (
        f"hf:{tmp_path / 'saved'}, extra: it is not used, being none of train, val and test or without classes",
    )


def test_rows_without_a_class_are_left_out_and_a_split_without_any_is_no_part(tmp_path: Path) -> None:
    tables = {"train": make_table(6, labels=[0, 1, 0, 1, -1, 1]), "test": make_table(2, labels=[-1, -1])}
    library().DatasetDict(tables).save_to_disk(str(tmp_path / "saved"))

    training, validation = dataset.load_training(f"hf:{tmp_path / 'saved'}", SPEC, 0.3, 0)

    assert len(training) + len(validation) == 5
    assert f"hf:{tmp_path / 'saved'}, train 000004: it has no class" in training.skipped
    assert dataset.load_test(f"hf:{tmp_path / 'saved'}", SPEC, training.classes) is None


def test_parquet_files_are_read_by_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library().config, "HF_DATASETS_CACHE", tmp_path / "cache")  # not the user's
    (tmp_path / "files").mkdir()
    make_table(6).to_parquet(str(tmp_path / "files" / "train.parquet"))
    make_table(2).to_parquet(str(tmp_path / "files" / "test.parquet"))

    training, _ = dataset.load_training(f"hf:{tmp_path / 'files'}", SPEC, 0.3, 0)

    assert len(training) == 4
    assert len(dataset.load_test(f"hf:{tmp_path / 'files'}", SPEC, training.classes) or ()) == 2


def test_a_column_can_name_groups(tmp_path: Path) -> None:
    make_table(6, person=["a", None, "b"] * 2).save_to_disk(str(tmp_path / "saved"))

    part = open_source(f"hf:{tmp_path / 'saved'}?group=person").train

    assert [item.group for item in part.items] == ["a", "", "b"] * 2


def test_columns_can_be_chosen(tmp_path: Path) -> None:
    make_table(6, size=["big", "small", "big"] * 2).save_to_disk(str(tmp_path / "saved"))

    training, _ = dataset.load_training(f"hf:{tmp_path / 'saved'}?label=size&image=picture", SPEC, 0.3, 0)

    assert training.classes == ("big", "small")


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("?label=colour", "has no column 'colour'; it has picture, kind, id"),
        ("?image=id", "the column 'id' does not hold images"),
        ("?label=picture", "the column 'picture' does not hold classes"),
        ("?colour=red", "unknown option colour; known are config, image, label, revision"),
    ],
)
def test_columns_that_do_not_fit_are_refused(query: str, message: str, tmp_path: Path) -> None:
    make_table().save_to_disk(str(tmp_path / "saved"))

    with pytest.raises(DataError, match=message):
        dataset.load_training(f"hf:{tmp_path / 'saved'}{query}", SPEC, 0.3, 0)


def test_what_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    library()

    with pytest.raises(DataError, match=f"hf:{tmp_path} cannot be loaded"):
        dataset.load_training(f"hf:{tmp_path}", SPEC, 0.3, 0)
