"""training/inspection/before.py: training says what it knows of its images, and stops on what makes figures false."""

import shutil
from pathlib import Path

import pytest

from tests.factories import encode
from tests.training.data.factories import photo, saved_anew
from tests.training.factories import make_folder, make_recipe, make_run, write_recipe
from training.__main__ import main
from training.data import crop
from training.data.lineage import Past
from training.loop import checkpoint as checkpoints
from training.loop import train


def found(source: Path, past: Past | None = None) -> tuple[list[str], list[str]]:
    """Errors and warnings."""
    recipe = make_recipe()
    return train.look(source, recipe, *crop.load(source, recipe, past), past or Past())


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Enough of two classes, in three splits."""
    for split, n, seed in (("train", 22, 0), ("val", 3, 40), ("test", 3, 50)):
        for c, name in enumerate(("ants", "bees")):
            folder = tmp_path / "data" / split / name
            folder.mkdir(parents=True)
            for i in range(n):
                (folder / f"{i:02d}.png").write_bytes(encode(photo(100 * c + seed + i, 48)))
    return tmp_path / "data"


def test_of_good_data_nothing_is_said(source: Path) -> None:
    assert found(source) == ([], [])


@pytest.mark.parametrize("split", ["val", "test"])
def test_the_same_picture_in_two_splits_is_an_error(split: str, source: Path) -> None:
    shutil.copy(source / "train/ants/03.png", source / split / "ants/leak.png")
    (source / split / "ants" / "other.webp").write_bytes(encode(photo(4, 48), "WEBP", lossless=True))

    errors, warnings = found(source)

    assert errors == [f"2 pictures are in two splits (such as ants/03.png (train), ants/leak.png ({split}))"]
    assert warnings == []


def test_what_is_only_worth_knowing_is_a_warning(source: Path) -> None:
    (source / "val" / "ants" / "near.jpg").write_bytes(saved_anew(photo(3, 48)))
    shutil.copy(source / "train/ants/05.png", source / "train/bees/same.png")
    shutil.rmtree(source / "test" / "bees")
    for i in range(4, 12):
        (source / "train" / "bees" / f"{i:02d}.png").unlink()

    errors, warnings = found(source)

    assert errors == []
    assert [line.partition(" (")[0] for line in warnings] == [
        "1 picture has two labels",
        "1 pair of nearly the same picture in two splits",
        "1 class to train on cannot be measured",
        "1 class has fewer than 20 training images",
    ]


def test_images_that_the_weights_have_seen_are_an_error(source: Path, tmp_path: Path) -> None:
    before = make_run(tmp_path / "run", source)[0]
    shutil.move(source / "train/ants/03.png", source / "val/ants/moved.png")

    errors, _ = found(source, before.past)

    assert errors == [
        "1 image to measure on, trained on by the run that this one starts from (ants/moved.png (val))",
    ]


def test_training_stops_before_it_begins_and_names_the_way_out(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(source / "train/ants/03.png", source / "val/ants/leak.png")
    (source / "train" / "Ants").mkdir()
    shutil.move(source / "train/ants/04.png", source / "train/Ants")
    recipe = write_recipe(tmp_path / "tiny.toml", epochs=1)
    command = ["train", str(source), "--recipe", str(recipe), "--out", str(tmp_path / "run")]

    assert main(command) == 1

    (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert "1 name stands for more than one class (Ants, ants)" in error
    assert "1 picture is in two splits (such as ants/03.png (train), ants/leak.png (val))" in error
    assert error.endswith("or add --anyway to train all the same")
    assert not (tmp_path / "run" / checkpoints.SIDECAR).exists()

    assert main([*command, "--anyway"]) == 0

    assert "error, gone past: 1 picture is in two splits" in capsys.readouterr().err
    assert len(checkpoints.load(tmp_path / "run")[0].data["trained_despite"]) == 2


def test_what_was_held_out_counts_as_images_to_train_on(tmp_path: Path) -> None:
    """A class is called small by the images that there are, as inspect counts them."""
    assert found(make_folder(tmp_path / "colours", each=20, side=24)) == ([], [])
    assert found(make_folder(tmp_path / "fewer", each=19, side=24))[1][0].startswith("3 classes have fewer than 20")
