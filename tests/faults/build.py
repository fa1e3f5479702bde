"""Copies of the source with a fault built in, to be started in the place of the real one."""

import shutil
from pathlib import Path

from tests.server import ROOT


def build_with(folder: Path, module: str, addition: str) -> Path:
    """The source in a folder of its own, with lines after those of a module, "service/http/body.py"; where it is started."""
    root = folder / "build"
    for package in ("service", "models"):
        shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("store", "__pycache__"))
    with (root / module).open("a") as file:
        file.write(addition)
    return root
