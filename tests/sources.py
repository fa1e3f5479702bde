"""The program's source files, and what they import."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("models", "service", "training", "hubel")
ORDER = {  # of the rooms of a folder, from the top: each imports only from itself and from those after it
    "models": "__main__ cli lifecycle imagenet registry package captures image files errors terminal",
    "service": "__main__ processes bento app api status rollout engine monitoring similar dry_run bulk http inference telemetry "
    "settings stopwatch errors",
    "training": "__main__ workflows report publishing review evaluation loop inspection recipe_flags data recipe networks html "
    "provenance files errors",
}


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imported(source: str) -> Iterator[str]:
    """Full names of everything imported anywhere in a source, also inside functions: "a.b" for "from a import b"."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
