"""Real images for the long tests of the whole loop, and the project's commands as a person types them.

HUBEL_TEST_IMAGES is a folder of class folders, among them cat, dog and ship, each with MANY images or more (such as train/ of
CIFAR-10). Each class's files are dealt out in their order, so that nothing is trained on and measured with.
"""

import os
import shutil
from collections.abc import Sequence
from contextlib import redirect_stdout
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import httpx
import numpy as np
import pytest

from models.__main__ import main as models_main
from training.__main__ import main as training_main

IMAGES = os.environ.get("HUBEL_TEST_IMAGES", "")
CLASSES = ("cat", "dog", "ship")
SHARES = {"sieve": 250, "train": 500, "sent": 250, "traffic": 250, "test": 250}
MANY = sum(SHARES.values())
RECIPE = """
architecture = "vgg8-small"
epochs = 8
batch_size = 64
learning_rate = 0.1

[input]
height = 16
width = 16
resize = 16
"""
TOGETHER = 30  # images in a request

ALIKE = {"x-request-id": "of-the-mesh"}  # as some proxies send it, the same with each request
Files = dict[str, list[Path]]  # by class


class Answer(NamedTuple):
    """What the service said to an image; feedback on it goes by ``answer``."""

    label: str
    version: int
    answer: str


def deal() -> dict[str, Files]:
    """For each of SHARES that many files of each class; skips where there are none."""
    folders = {name: Path(IMAGES) / name for name in CLASSES}
    if not IMAGES or not all(folder.is_dir() for folder in folders.values()):
        pytest.skip(f"HUBEL_TEST_IMAGES names no folder with the class folders {', '.join(CLASSES)}")
    files = {name: sorted(path for path in folder.iterdir() if path.is_file()) for name, folder in folders.items()}
    if few := [name for name in CLASSES if len(files[name]) < MANY]:
        pytest.skip(f"HUBEL_TEST_IMAGES holds {len(files[few[0]])} images of {few[0]}, {MANY} are needed")
    ends = [0, *(sum(list(SHARES.values())[: i + 1]) for i in range(len(SHARES)))]
    return {share: {c: files[c][a:b] for c in CLASSES} for share, (a, b) in zip(SHARES, pairwise(ends), strict=True)}


def lay_out(folder: Path, **parts: Files) -> Path:
    """Copies below ``folder``/PART/CLASS; returns the folder."""
    for part, files in parts.items():
        for label, paths in files.items():
            (folder / part / label).mkdir(parents=True)
            for path in paths:
                shutil.copyfile(path, folder / part / label / path.name)
    return folder


def command(*arguments: object, codes: Sequence[int] = (0,)) -> str:
    """``python -m`` with arguments, in this process, as each of its own would spend seconds on importing torch; its standard
    output. Raises AssertionError with that where it ends otherwise than with one of ``codes``."""
    module, *rest = map(str, arguments)
    with redirect_stdout(StringIO()) as out:
        code = {"training": training_main, "models": models_main}[module](rest)
    assert code in codes, f"{arguments}: {code}\n{out.getvalue()}"
    return out.getvalue()


def write_recipe(folder: Path) -> Path:
    path = folder / "recipe.toml"
    path.write_text(RECIPE)
    return path


def train(data: Path, run: Path, *options: object) -> None:
    """By RECIPE and ``options``, evaluated and exported."""
    command("training", "train", data, "--recipe", write_recipe(run.parent), "--out", run, *options)
    command("training", "evaluate", run, data)
    command("training", "export", run, data)


def publish(run: Path, store: Path) -> None:
    command("training", "publish", run, "--name", "pets", "--store", store, "--with-weights")


def mixed(files: Files) -> list[bytes]:
    """Their images, in an order that mixes the classes and is always the same."""
    paths = [path for c in CLASSES for path in files[c]]
    return [paths[i].read_bytes() for i in np.random.default_rng(0).permutation(len(paths))]


def ask(client: httpx.Client, paths: Sequence[Path]) -> list[Answer]:
    """The images classified in order, several in a request."""
    answers: list[Answer] = []
    for begin in range(0, len(paths), TOGETHER):
        files = [("images", (path.name, path.read_bytes(), "image/jpeg")) for path in paths[begin : begin + TOGETHER]]
        response = client.post("/v1/classify", files=files, headers=ALIKE)
        assert response.status_code == 200, response.text
        body = response.json()
        answers += [Answer(r["label"], body["version"], r["answer"]) for r in body["results"]]
    return answers
