"""What a network that knows eight classes is worth for learning two others from few images.

``python -m benchmarks.transfer --data FOLDER --out runs/transfer`` trains on all classes but two, then learns those two from
50, 100 and 1000 images a class in four ways, three times each with other images and another order, and prints top-1 on
their test images. FOLDER holds train/ and test/ with a folder for each class, as CIFAR-10 does. What was measured is kept
in the folder --out after each cell, so that a run that was stopped goes on.

The two are cat and dog unless --classes says otherwise: the pair that is most often confused in CIFAR-10, so that no way
is at the ceiling, and animals, of which four others remain to learn from.
"""

import argparse
import json
import shlex
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np

from training import provenance
from training import recipe as recipes
from training.errors import TrainingError
from training.evaluation import evaluate
from training.loop import checkpoint as checkpoints
from training.loop import train
from training.recipe import Recipe

WAYS: dict[str, dict[str, Any]] = {  # of learning: keys of the recipe; rates are for batches of 32
    "frozen trunk": {"freeze": "features", "learning_rate": 0.05},
    "fine-tuning": {"learning_rate": 0.02},
    "from scratch": {"learning_rate": 0.05},
    "linear probe": {"fit": "linear"},
}
SCRATCH = "from scratch"
BATCH = 32
VALIDATION = 10  # images a class, which nothing is chosen by
IMAGES, TRIALS = (50, 100, 1000), 3
RESULTS, BASE = "transfer.json", "base"

Results = dict[str, Any]


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.transfer", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with train/ and test/, each with a folder a class")
    parser.add_argument("--out", type=Path, default=Path("runs/transfer"), help="what was measured (default: %(default)s)")
    parser.add_argument("--classes", nargs=2, default=["cat", "dog"], help="the two that are learnt last (default: cat dog)")
    parser.add_argument("--recipe", default="cifar10", help="of the network that learns the others first (default: %(default)s)")
    parser.add_argument("--architecture", help="another than the recipe's")
    parser.add_argument("--epochs", type=int, help="of the first network, others than the recipe's")
    parser.add_argument("--limit", type=int, help="images a class that the first network learns from (default: all)")
    parser.add_argument("--steps", type=int, default=1500, help=f"with the two, of {BATCH} images each (default: %(default)s)")
    parser.add_argument("--images", type=int, nargs="+", default=list(IMAGES), help="a class (default: 50 100 1000)")
    parser.add_argument("--trials", type=int, default=TRIALS, help="of each cell (default: %(default)s)")
    return parser


def files_of(folder: Path) -> list[Path]:
    return sorted(path.absolute() for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))


def link(files: list[Path], folder: Path) -> None:
    """Show ``files`` in ``folder`` without copying them."""
    folder.mkdir(parents=True)
    for path in files:
        (folder / path.name).symlink_to(path)


def learn_others(options: argparse.Namespace) -> Recipe:
    """Train, or go on to train, the network that knows all classes but the two; its recipe."""
    place = options.out / BASE
    chosen = {"architecture": options.architecture, "epochs": options.epochs}
    recipe = recipes.load(options.recipe, **chosen)
    with tempfile.TemporaryDirectory() as beside:
        source = Path(beside) / "others"
        for folder in sorted(path for path in (options.data / "train").iterdir() if path.name not in options.classes):
            link(files_of(folder)[: options.limit], source / "train" / folder.name)
            link(files_of(options.data / "test" / folder.name), source / "test" / folder.name)
        resumes = (place / checkpoints.SIDECAR).is_file()
        train.train(source, place, None if resumes else recipe)
        if not (place / evaluate.FILE).is_file():
            evaluate.evaluate(place, source)
    return recipe


def choose(data: Path, classes: list[str], images: int, trial: int, source: Path) -> None:
    """Link the images of a cell: those to train on and a few to validate on, at random, and all to test on."""
    random = np.random.default_rng(trial)
    for name in classes:
        files = files_of(data / "train" / name)
        if len(files) < images + VALIDATION:
            raise SystemExit(f"{data / 'train' / name} holds {len(files)} images; {images + VALIDATION} are needed")
        shuffled = [files[i] for i in random.permutation(len(files))]
        link(shuffled[VALIDATION : VALIDATION + images], source / "train" / name)
        link(shuffled[:VALIDATION], source / "val" / name)
        link(files_of(data / "test" / name), source / "test" / name)


def recipe_of(base: Recipe, way: str, images: int, trial: int, steps: int) -> dict[str, Any]:
    """Keys of a cell: so many epochs that there are about ``steps`` steps."""
    batch = min(BATCH, 2 * images)
    epochs = max(1, round(steps / (2 * images // batch)))
    return {"architecture": base.architecture, "batch_size": batch, "epochs": epochs, "seed": trial, **WAYS[way]}


def measure(options: argparse.Namespace, base: Recipe, way: str, images: int, trial: int) -> dict[str, float]:
    """Learn the two classes in one way; top-1 on their test images, and how long it took to learn."""
    with tempfile.TemporaryDirectory() as beside:
        source, run = Path(beside) / "two", Path(beside) / "run"
        choose(options.data, options.classes, images, trial, source)
        recipe = recipes.load(options.recipe, **recipe_of(base, way, images, trial, options.steps))
        first = None if way == SCRATCH else options.out / BASE
        seconds = train.train(source, run, recipe, say=False, start_from=first).seconds
        return {"top1": evaluate.evaluate(run, source)["top1"], "seconds": round(seconds, 1)}


def load(options: argparse.Namespace) -> Results:
    """What was measured before. Another setting begins another table, not the same one."""
    settings = {key: str(value) for key, value in sorted(vars(options).items()) if key not in ("out", "images", "trials")}
    path = options.out / RESULTS
    if not path.is_file():
        return {"settings": settings, "made": provenance.describe(), "cells": {}}
    results: Results = json.loads(path.read_text())
    if results["settings"] != settings:
        raise SystemExit(f"{path} was measured with other settings: {results['settings']}; choose another --out")
    return results


def keep(results: Results, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    beside = folder / f".{RESULTS}.new"
    beside.write_text(json.dumps(results, indent=1))
    beside.replace(folder / RESULTS)


def key(way: str, images: int, trial: int) -> str:
    return f"{way}, {images} images, trial {trial}"


def table(results: Results, images: list[int], trials: int) -> str:
    """Markdown: a row for each number of images, a column for each way; percent, mean and deviation of the trials."""
    lines = ["| images a class | " + " | ".join(WAYS) + " |", "| --- |" + " --- |" * len(WAYS)]
    for n in images:
        cells = [[100 * results["cells"][key(way, n, t)]["top1"] for t in range(trials)] for way in WAYS]
        lines.append(f"| {n} | " + " | ".join(_shown(cell) for cell in cells) + " |")
    return "\n".join(lines)


def _shown(cell: list[float]) -> str:
    return f"{mean(cell):.1f} ± {stdev(cell):.1f}" if len(cell) > 1 else f"{cell[0]:.1f}"


def report(options: argparse.Namespace, results: Results) -> str:
    base = json.loads((options.out / BASE / evaluate.FILE).read_text())
    spent = sum(cell["seconds"] for cell in results["cells"].values()) + checkpoints.load(options.out / BASE)[0].seconds
    return (
        f"Top-1 in percent on the test images of {' and '.join(options.classes)}, mean and deviation of n = {options.trials}.\n"
        f"The first network has {100 * base['top1']:.1f} % on the {base['samples']} test images of the other classes.\n\n"
        f"{table(results, options.images, options.trials)}\n\n"
        f"`{results['command']}`, {spent / 60:.0f} min of training on {results['made']['hardware']}, "
        f"commit {results['made']['git_commit'][:12]}"
    )


def main(arguments: list[str] | None = None) -> int:
    options = make_parser().parse_args(arguments)
    results = load(options)
    given = sys.argv[1:] if arguments is None else arguments
    results["command"] = shlex.join([".venv/bin/python", "-m", "benchmarks.transfer", *given])
    keep(results, options.out)
    try:
        base = learn_others(options)
        for trial in range(options.trials):  # so that a table of one trial is there first
            for images in options.images:
                for way in WAYS:
                    name = key(way, images, trial)
                    if name not in results["cells"]:
                        began = time.monotonic()
                        results["cells"][name] = measure(options, base, way, images, trial)
                        keep(results, options.out)
                        print(f"{name}: {results['cells'][name]['top1']:.4f} in {time.monotonic() - began:.0f} s", flush=True)
    except TrainingError as err:
        print(f"error: {err}", file=sys.stderr)
        return 1
    print("\n" + report(options, results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
