"""training/recipe_flags.py: every key of a recipe is a flag, and a flag says what its key means."""

import argparse

import pytest

from tests.training.factories import make_recipe
from training import recipe_flags
from training.recipe import Recipe


@pytest.fixture
def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    recipe_flags.add(parser)
    return parser


def text(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, tuple) else [str(value)]


@pytest.mark.parametrize("key", [key for key in Recipe.__struct_fields__ if key != "input"])
def test_every_key_is_a_flag_that_gives_a_value_of_its_type(key: str, parser: argparse.ArgumentParser) -> None:
    value = getattr(make_recipe(), key)
    flag = "--" + key.replace("_", "-")
    words = ([flag] if value else ["--no" + flag[1:]]) if isinstance(value, bool) else [flag, *text(value)]

    given = recipe_flags.given(parser.parse_args(words))

    assert given.keys() == {key}
    assert type(given[key]) is (list if isinstance(value, tuple) else type(value))
    assert make_recipe(**given) == make_recipe()


def test_yes_and_no_are_two_flags(parser: argparse.ArgumentParser) -> None:
    assert recipe_flags.given(parser.parse_args(["--flip", "--no-mirror"])) == {"flip": True, "mirror": False}


@pytest.mark.parametrize(("word", "value"), [("2", 2), ("features", "features"), ("-1", -1)])
def test_a_key_that_is_a_number_or_a_word_takes_both(word: str, value: int | str, parser: argparse.ArgumentParser) -> None:
    assert recipe_flags.given(parser.parse_args(["--freeze", word])) == {"freeze": value}
    assert "N|features" in parser.format_help()


def test_without_flags_nothing_is_given(parser: argparse.ArgumentParser) -> None:
    assert recipe_flags.given(parser.parse_args([])) == {}


@pytest.mark.parametrize(
    "words", [["--epochs", "many"], ["--precision", "fp8"], ["--flip", "1"], ["--learning-rate", "1e-3.5"]], ids=" ".join
)
def test_a_value_of_another_type_is_refused_by_the_command_line(words: list[str], parser: argparse.ArgumentParser) -> None:
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args(words)


def test_the_help_says_what_each_key_means_and_its_default(parser: argparse.ArgumentParser) -> None:
    said = " ".join(parser.format_help().split())

    for key, meaning in recipe_flags.meanings().items():
        assert meaning
        if key != "input":
            assert meaning in said
    assert "highest learning rate (0.1)" in said
    assert "random mirror image (yes)" in said


def test_of_the_input_the_sides_are_a_flag(parser: argparse.ArgumentParser) -> None:
    assert recipe_flags.given(parser.parse_args(["--size", "24"])) == {"size": 24}
