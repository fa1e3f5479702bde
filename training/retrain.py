"""From the version in service, its data and feedback to the next version: train, evaluate, export, report, publish, promote.

What the version before was held out from stays held out: new images are added to the training images alone, and those that
are among the old ones already are left out. Neighbours: pipeline.py does the stages, review/ judges kept images.
"""

import csv
import hashlib
import math
import shutil
import subprocess
import sys
from collections.abc import Iterable
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from tqdm import tqdm

from models import kept, program, registry
from models import manifest as manifests
from training import checkpoint as checkpoints
from training import data, evaluate, origin, pipeline
from training.checkpoint import Checkpoint
from training.errors import CheckpointError, DataError, RecipeError, TrainingError
from training.pipeline import Beginning, Made
from training.recipe import NO_WEIGHTS, Recipe
from training.review.collect import collect
from training.sources.catalogue import join, open_source
from training.sources.source import Item, Part, make_part, read_image

NEW, LIST = "new", "feedback.csv"  # of a run: copies of the images that it adds, and their labels
FIXED = ("size", "architecture", "weights", "seed", "validation_share")  # as before, or held-out images would change
EPOCHS_SHARE, RATE_SHARE = 1 / 3, 0.1  # of the recipe before: it begins with weights that are good already


class Promotion(NamedTuple):
    """canary: per cent of traffic that the new version answers first; requests: how many until that is decided;
    disagreement: share of images that may get another answer than before."""

    canary: int | None = None
    requests: int | None = None
    disagreement: float | None = None


def retrain(
    name: str,
    source: str | Path,
    feedback: Path,
    store: Path,
    overrides: dict[str, Any] | None = None,
    folder: Path | None = None,
    made: Made | None = None,
    promotion: Promotion | None = None,
) -> dict[str, Any]:
    """Train ``name`` anew from the version in service, on ``source``, which that was trained on, and on ``feedback``: a
    folder of kept images, or the one that ``hubel feedback`` made of it and a person looked at.

    ``overrides`` are keys of the recipe. Returns what was published; promotes it with ``promotion`` alone.

    Raises:
        CheckpointError: the version has no weights, or ``source`` does not hold the images that it was validated on.
        DataError: there is no new image.
        RecipeError: an override that would change what is held out.
        TrainingError, PackageError: a stage failed, or the version was not promoted; it stays published.
    """
    before = registry.resolve(store, name)
    registry.verify(before)
    origin.check_weights(before)
    checkpoint = checkpoints.load(before)[0]
    recipe = recipe_after(checkpoint.recipe, overrides or {})
    new, known = new_images(source, labelled(feedback), checkpoint)
    folder = put(new, [folder] if folder else runs_after(name, before.name))
    joined = join(source, folder / NEW / LIST)
    result = pipeline.run(joined, folder, name, store, Beginning(recipe, before), made or Made(with_weights=True))
    result.pop("promote", None)
    manifest = manifests.read(before)
    facts = {"new_images": len(new), "known_images": known, "before": manifest.id, "top1_before": manifest.evaluation.top1}
    if promotion is not None:
        reason = f"retrained with {len(new)} images of feedback"
        return facts | result | {"promoted": promote(result["published"], store, promotion, reason)}
    return facts | result | {"promote": program.command("models", "promote", result["published"], "--store", store)}


def recipe_after(recipe: Recipe, overrides: dict[str, Any]) -> Recipe:
    """The recipe of a version for training from it: fewer epochs at a lower rate, unless ``overrides`` say otherwise.

    Raises:
        RecipeError: an override that would change what is held out, or that no recipe can have.
    """
    if fixed := [key for key in FIXED if key in overrides]:
        raise RecipeError(f"{', '.join(fixed)} must stay as before, so that what was held out stays held out; leave it out")
    changes: dict[str, Any] = {"weights": NO_WEIGHTS, "sizes": (), "learning_rate": RATE_SHARE * recipe.learning_rate}
    changes["epochs"] = max(1, math.ceil(EPOCHS_SHARE * recipe.epochs))
    try:
        return msgspec.convert(msgspec.to_builtins(recipe) | changes | overrides, Recipe)
    except msgspec.ValidationError as err:
        raise RecipeError(f"the recipe of the version before does not go with the options: {err}") from err


def labelled(folder: Path) -> Part:
    """The images of feedback that have a label; raises DataError where there is none."""
    if kept.is_folder(folder):
        cases = [case for case in collect(folder) if case.label]
        items = [Item(str(c.path), c.path.name, c.label or "", partial(read_image, c.path)) for c in cases]
    else:
        items = open_source(folder).train.items
    if not items:
        review = program.command("feedback", folder, "corrections")
        raise DataError(
            f"{folder} holds no image with a label yet: send labels as feedback, or make a folder to review with '{review}' and "
            "move its images into class folders"
        )
    return make_part(str(folder), items)


def new_images(source: str | Path, feedback: Part, checkpoint: Checkpoint) -> tuple[list[Item], int]:
    """Those images of ``feedback`` that are not among the ones of ``source``, each once, and how many are. Two images are the
    same where the network sees the same pixels.

    Raises:
        CheckpointError: ``source`` does not hold the images that the checkpoint was validated on.
        DataError: there is none, or one of a class that the network does not know.
    """
    spec = checkpoint.recipe.input
    found = data.decode(feedback, spec, checkpoint.classes)
    seen = seen_before(source, checkpoint)
    items = {item.path: item for item in feedback.items}
    new: list[Item] = []
    for path, pixels in zip(found.paths, found.pixels, strict=True):
        if (digest := hashlib.sha256(pixels.tobytes()).digest()) not in seen:
            seen.add(digest)
            new.append(items[path])
    known = len(found) - len(new)
    if not new:
        raise DataError(f"all {known} images of {feedback.place} with a label are among those of {source}: nothing is new")
    return new, known


def seen_before(source: str | Path, checkpoint: Checkpoint) -> set[bytes]:
    """Digests of the images that were trained, validated and tested on."""
    try:
        trained, held_out = evaluate.training_images(source, checkpoint)
    except CheckpointError as err:
        raise CheckpointError(
            f"{source} does not hold the images that the version in service was validated on: what was held out must stay held "
            "out; give the data that it was trained on"
        ) from err
    test = data.load_test(source, checkpoint.recipe.input, checkpoint.classes)
    sets = [trained, held_out, *([] if test is None else [test])]
    return {hashlib.sha256(pixels.tobytes()).digest() for images in sets for pixels in images.pixels}


def runs_after(name: str, version: str) -> Iterable[Path]:
    """Folders for the runs of a retraining: the first that is free, or that was begun with the same images, is taken."""
    first = Path("runs") / f"{name}-after-{version}"
    return (first if i == 1 else first.with_name(f"{first.name}-{i}") for i in count(1))


def put(new: list[Item], folders: Iterable[Path]) -> Path:
    """Copy the new images into a folder of ``folders``, with the list of their labels, unless it has them; returns it."""
    files = {_file_name(item.read()): item for item in new}
    rows = sorted((file, item.label) for file, item in files.items())
    for folder in folders:
        place = folder / NEW
        if not place.exists():
            beside = folder / f".{NEW}"
            shutil.rmtree(beside, ignore_errors=True)
            beside.mkdir(parents=True)
            for file, item in files.items():
                (beside / file).write_bytes(item.read())
            with open(beside / LIST, "w", encoding="utf-8", newline="") as stream:
                csv.writer(stream).writerows([("path", "label"), *rows])
            beside.rename(place)
            return folder
        with open(place / LIST, encoding="utf-8", newline="") as stream:
            if [tuple(row) for row in csv.reader(stream)][1:] == rows:
                return folder
    raise DataError("--out holds a retraining on other images; name another folder, or none")


def _file_name(image: bytes) -> str:
    name, _, ending = kept.image_name(image).partition(".")
    return f"{name[:32]}.{ending}"


def promote(package: str, store: Path, promotion: Promotion, reason: str) -> str:
    """Have ``hubel models promote`` put the package into service, behind its gate; raises TrainingError where it refuses."""
    command = [*program.module("models"), "promote", package, "--store", str(store), "--reason", reason]
    if promotion.canary is not None:
        command += ["--canary", str(promotion.canary)]
    if promotion.requests is not None:
        command += ["--requests", str(promotion.requests)]
    if promotion.disagreement is not None:
        command += ["--max-disagreement", str(promotion.disagreement)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)  # what it refuses stands on standard error
    if done.returncode != 0:
        tqdm.write(done.stdout, file=sys.stderr, end="")
        raise TrainingError(f"{package} is published and was not promoted; the lines above say why")
    return done.stdout.strip()
