"""hubel: the programs of service/, training/ and models/ under one name. Each is imported when it is asked for."""

import difflib
import importlib
import importlib.metadata
import os
import sys
from collections.abc import Mapping, Sequence

from models.terminal import program

WRONG = 2
GROUPS = {
    "serve": program.SERVICE,
    "train": program.TRAINING,
    "look after the store": {f"models {name}": text for name, text in program.STORE.items()},
}


def overview() -> str:
    """Every command with a line, in groups."""
    lines = ["usage: hubel COMMAND ...", "", "An image classifier that you can retrain while it serves."]
    for title, commands in GROUPS.items():
        lines += ["", f"{title}:", *_rows(commands)]
    return "\n".join([*lines, "", "hubel COMMAND --help says what a command takes."])


def _rows(commands: Mapping[str, str]) -> list[str]:
    width = max(len(name) for group in GROUPS.values() for name in group)
    return [f"  {name:{width}}  {text}" for name, text in commands.items()]


def main(arguments: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help", "help"):
        print(overview())
        return 0 if words else WRONG
    if words[0] == "--version":
        print(f"hubel {importlib.metadata.version('hubel')}")
        return 0
    if not (folder := program.folder_of(words[0])):
        print(f"hubel: error: there is no command {words[0]!r}{_meant(words[0])}; 'hubel --help' lists them", file=sys.stderr)
        return WRONG
    try:
        module = importlib.import_module(f"{folder}.__main__")
    except ModuleNotFoundError as err:  # an image of containers holds one folder of the two
        print(program.missing(folder, err), file=sys.stderr)
        return 1
    return module.main(words[1:] if folder == "models" else words)


def _meant(word: str) -> str:
    """The command that is most like ``word``."""
    names = {name.removeprefix("models "): name for group in GROUPS.values() for name in group} | {"models": "models"}
    close = difflib.get_close_matches(word, names, n=1)
    return f"; is it 'hubel {names[close[0]]}'?" if close else ""


def script() -> None:
    """What is installed as ``hubel``."""
    try:
        code = main()
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads has seen enough, as head does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    program.leave(code)


if __name__ == "__main__":
    script()
