"""The keys of a recipe as flags of the command line: a flag for each, made of its type, its meaning and its default."""

import argparse
from typing import Any, get_type_hints

from msgspec import inspect

from training.recipe import Recipe

WORDS: dict[type[inspect.Type], type] = {inspect.IntType: int, inspect.FloatType: float, inspect.StrType: str}
Argument = dict[str, Any]


def meanings() -> dict[str, str]:
    """What each key means, in a line."""
    hints = get_type_hints(Recipe, include_extras=True)
    return {key: next(text for text in hints[key].__metadata__ if isinstance(text, str)) for key in Recipe.__struct_fields__}


def add(command: argparse.ArgumentParser) -> None:
    """Give ``command`` a flag for every key but ``input``, a table, of which ``--size`` sets the sides."""
    group = command.add_argument_group("recipe", "keys of the recipe; what is not given is as its file says, else as in brackets")
    group.add_argument("--size", type=int, metavar="N", help="height and width of the images, in pixels")
    meaning = meanings()
    for field in _fields():
        default = "" if field.required else f" ({_shown(field.default)})"
        text = (meaning[field.name] + default).replace("%", "%%")
        group.add_argument("--" + field.name.replace("_", "-"), dest=field.name, help=text, **_argument(field.type))


def given(args: argparse.Namespace) -> dict[str, Any]:
    """The size and the keys that the command line set."""
    names = ("size", *(field.name for field in _fields()))
    return {name: value for name in names if (value := getattr(args, name)) is not None}


def _fields() -> list[inspect.Field]:
    kind = inspect.type_info(Recipe)
    assert isinstance(kind, inspect.StructType)
    return [field for field in kind.fields if not isinstance(field.type, inspect.StructType)]


def _argument(kind: inspect.Type) -> Argument:
    """How argparse reads a value of ``kind``; limits are left to the recipe."""
    if isinstance(kind, inspect.BoolType):
        return {"action": argparse.BooleanOptionalAction}
    if isinstance(kind, inspect.LiteralType):
        return {"choices": kind.values}
    if isinstance(kind, inspect.VarTupleType):
        return _argument(kind.item_type) | {"nargs": "*"}
    if isinstance(kind, inspect.UnionType):  # a number or one of some words
        words = [word for choice in kind.types if isinstance(choice, inspect.LiteralType) for word in choice.values]
        return {"type": _number_or_word, "metavar": "|".join(["N", *map(str, words)])}
    return {"type": WORDS[type(kind)], "metavar": "N" if isinstance(kind, inspect.IntType) else "X"}


def _number_or_word(text: str) -> int | str:
    return int(text) if text.removeprefix("-").isdecimal() else text


def _shown(default: object) -> str:
    """A default as the flag takes it."""
    if isinstance(default, bool):
        return "yes" if default else "no"
    return " ".join(map(str, default)) if isinstance(default, tuple) else str(default)
