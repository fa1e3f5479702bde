"""training/workflows/naming.py: what a package is called where nobody chose a name."""

from pathlib import Path

import pytest

from models.registry import registry
from training.errors import RecipeError
from training.workflows.naming import name_of


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("photos", "photos"),
        ("/home/me/My Photos/", "my-photos"),
        ("/a/train", "a-train"),
        ("/b/train", "b-train"),
        ("/a/data/images", "a-data-images"),
        ("/a/Val", "a-val"),
        ("/a/train.csv", "a-train.csv"),
        ("/a/../b/pets", "pets"),
        ("/Ärzte & Söhne (neu) $1's", "arzte-sohne-neu-1-s"),
        ("-photos", "photos"),
        ("mnist:", "mnist"),
        ("cifar10:/tmp/data", "cifar10"),
        ("hf:uoft-cs/cifar100?label=coarse_label", "uoft-cs-cifar100"),
        ("wds:/a/pets-{000..009}.tar", "pets-000..009-.tar"),
        ("/" + "x" * 300, "x" * 64),
    ],
)
def test_a_name_is_made_of_what_the_data_are_called(source: str, name: str) -> None:
    assert name_of(source) == name
    assert registry.NAME.fullmatch(name)


def test_a_relative_path_that_says_nothing_takes_the_name_of_the_folder_it_is_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pets").mkdir()
    monkeypatch.chdir(tmp_path / "pets")

    assert name_of("train") == "pets-train"
    assert name_of(".") == "pets"


@pytest.mark.parametrize("source", ["/фото", "/.", "/ "])
def test_a_name_that_cannot_be_made_is_asked_for(source: str) -> None:
    with pytest.raises(RecipeError, match=r"no name can be made of .*: give one with NAME="):
        name_of(source)
