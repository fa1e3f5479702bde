"""From the live version, its data and feedback to the next version: train, evaluate, export, report, publish, promote.

What the version before was held out from stays held out, also where the data grew: their new images are placed as in every
training. Images of feedback are trained on alone, and those that are among the old ones already are left out.
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
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from models.captures import captured
from models.package import manifest as manifests
from models.registry import registry
from models.terminal import program
from training.data import dataset, decoded
from training.data.dataset import Sets
from training.data.lineage import Past, unpack
from training.data.near_duplicates import copies_of
from training.data.sources.catalogue import join, open_source
from training.data.sources.source import Item, Part, make_part, read_image
from training.errors import CheckpointError, DataError, RecipeError, TrainingError
from training.loop import checkpoint as checkpoints
from training.loop import initial_weights, legacy_split
from training.loop.checkpoint import Checkpoint
from training.recipe import NO_WEIGHTS, UNTAUGHT, Recipe
from training.review.collect import collect
from training.workflows import pipeline
from training.workflows.pipeline import Beginning, Made

NEW, LIST = "new", "feedback.csv"  # of a run: copies of the images that it adds, and their labels
FIXED = ("size", "architecture", "weights", "seed", "validation_share")  # as before, or held-out images would change
ENOUGH = 0.5  # of the images that were held out must be there still
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
    anyway: bool = False,
) -> dict[str, Any]:
    """Train ``name`` again from the live version, on ``source``, which that was trained on, and on ``feedback``: a
    folder of kept images, or the one that ``hubel feedback`` made of it and a person looked at.

    ``overrides`` are keys of the recipe. Returns what was published; promotes it with ``promotion`` alone. ``anyway`` as in
    train.

    Raises:
        CheckpointError: the version has no weights, or ``source`` does not hold the images that it was validated on.
        DataError: there is no new image.
        RecipeError: an override that would change what is held out.
        TrainingError, PackageError: a stage failed, or the version was not promoted; it stays published.
    """
    before = registry.resolve(store, name)
    registry.verify(before)
    initial_weights.check_weights(before)
    checkpoint = checkpoints.load(before)[0]
    recipe = recipe_after(checkpoint.recipe, overrides or {})
    with decoded.beside(folder or Path("runs") / name):
        old = old_images(source, checkpoint, f"{name}:{before.name}")
        new = new_images(source, labelled(feedback), checkpoint, old)
    folder = put(new.items, [folder] if folder else runs_after(name, before.name))
    joined = join(source, folder / NEW / LIST)
    beginning = Beginning(recipe, before, anyway=anyway)
    result = pipeline.run(joined, folder, name, store, beginning, made or Made(with_weights=True))
    result.pop("promote", None)
    manifest, labels = manifests.read(before), manifests.read(Path(result["folder"])).labels
    counts = {"new_images": len(new.items), "known_images": new.known, "near_copies": new.near, "held_out_gone": old.gone}
    facts = counts | {"before": manifest.id, "top1_before": manifest.evaluation.top1}
    command = promote_command(result["published"], store, [name for name in labels if name not in manifest.labels])
    if promotion is not None:
        reason = f"retrained with {len(new.items)} images of feedback"
        return facts | result | {"promoted": promote(result["published"], store, promotion, reason, command)}
    return facts | result | {"promote": command}


def promote_command(package: str, store: Path, added: list[str]) -> str:
    why = ("--classes-change", f"added {', '.join(added)}") if added else ()  # the gate wants a reason
    return program.command("models", "promote", package, "--store", store, *why)


def recipe_after(recipe: Recipe, overrides: dict[str, Any]) -> Recipe:
    """The recipe of a version for training from it: fewer epochs at a lower rate, unless ``overrides`` say otherwise.

    Raises:
        RecipeError: an override that would change what is held out, or that no recipe can have.
    """
    if fixed := [key for key in FIXED if key in overrides]:
        raise RecipeError(f"{', '.join(fixed)} must stay as before, so that what was held out stays held out; leave it out")
    changes: dict[str, Any] = {"weights": NO_WEIGHTS, "sizes": (), **UNTAUGHT, "learning_rate": RATE_SHARE * recipe.learning_rate}
    if recipe.fit == "both":  # the head is fitted already
        changes["fit"] = "gradient"
    changes["epochs"] = max(1, math.ceil(EPOCHS_SHARE * recipe.epochs))
    try:
        return msgspec.convert(msgspec.to_builtins(recipe) | changes | overrides, Recipe)
    except msgspec.ValidationError as err:
        raise RecipeError(f"the recipe of the version before does not go with the options: {err}") from err


def labelled(folder: Path) -> Part:
    """The images of feedback that have a label; raises DataError where there is none."""
    if captured.is_folder(folder):
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


class Old(NamedTuple):
    """What the version before knows, as far as it is there still. classes: of the version and of the data. pictures: digests of
    what the network sees. measured: small copies of the images held out and of the test images. gone: how many were held out
    and are there no more."""

    classes: tuple[str, ...]
    pictures: set[bytes]
    measured: NDArray[np.uint8]
    gone: int


class New(NamedTuple):
    """Images of feedback to train on. known: how many more are among the old ones; near: how many are near copies of images
    that are measured on, and left out too."""

    items: list[Item]
    known: int
    near: int


def old_images(source: str | Path, checkpoint: Checkpoint, version: str) -> Old:
    """Read the data that ``version``, of this checkpoint, was trained on, which may have grown.

    Raises:
        CheckpointError: what it was validated on is not there, or a class is gone.
    """
    spec = checkpoint.recipe.input
    past = checkpoint.past if checkpoint.held_out else legacy_split.past(source, checkpoint)
    if past is None:
        raise CheckpointError(
            f"{source} does not hold the images that {version} was validated on, or has changed since an earlier version of "
            "Hubel trained it, which noted no more of them: what was held out must stay held out; give the data as they were, or "
            f"train again with '{_anew(source, version)}'"
        )
    sets = dataset.load_sets(source, spec)
    measured = sets.pool if sets.validation is None else sets.validation
    gone = _check_held_out(source, sets, past, version)
    _check_classes(source, sets, checkpoint, past, version)
    test = dataset.load_test(source, spec, sets.pool.classes)
    held_out = measured.subset(np.flatnonzero(past.has_held_out(measured.identities)))
    everything = [images for images in (sets.pool, sets.validation, sets.more, test) if images is not None]
    return Old(
        tuple(dict.fromkeys((*checkpoint.classes, *sets.pool.classes))),
        {_digest(pixels) for images in everything for pixels in images.pixels},
        held_out.small if test is None else np.concatenate([held_out.small, test.small]),
        gone,
    )


def _check_held_out(source: str | Path, sets: Sets, past: Past, version: str) -> int:
    """How many of the images that were held out are gone; raises CheckpointError where they are too many."""
    measured = sets.pool if sets.validation is None else sets.validation
    before = unpack(past.held_out)
    gone, n = np.setdiff1d(before, measured.identities), len(before)
    if len(gone) <= (1 - ENOUGH) * n:
        if len(gone):
            tqdm.write(f"{len(gone)} of the {n} images that {version} was validated on are gone; the others stay", sys.stderr)
        return len(gone)
    trained = int(np.isin(gone, sets.pool.identities).sum())
    where = f", {trained} of them lie among its training images now" if trained else ""
    what = "none" if len(gone) == n else f"only {n - len(gone)}"
    raise CheckpointError(
        f"{source} holds {what} of the {n} images that {version} was validated on{where}: what was held out must stay held "
        "out; give the data that it was trained on, or what they have grown to"
    )


def _check_classes(source: str | Path, sets: Sets, checkpoint: Checkpoint, past: Past, version: str) -> None:
    """Raises CheckpointError for a class that the version knows and the data do not, with the name that it may have now."""
    gone = [name for name in checkpoint.classes if name not in sets.pool.classes]
    if not gone:
        return
    known = past.has_trained(sets.pool.identities) | past.has_held_out(sets.pool.identities)
    added = {c: name for c, name in enumerate(sets.pool.classes) if name not in checkpoint.classes}
    renamed = [name for c, name in added.items() if known[sets.pool.targets == c].mean() > 0.5]  # pyright: ignore
    now = f", and {', '.join(renamed)} holds images that it knows by another name" if renamed else ""
    rename = program.command("models", "rename", version, gone[0], renamed[0] if renamed else "NEW")
    raise CheckpointError(
        f"{source} has no class {', '.join(gone)} any more, which {version} knows{now}: give the folder its old name, rename the "
        f"class of the model ('{rename}') and promote that, or train again with '{_anew(source, version)}'"
    )


def _anew(source: str | Path, version: str) -> str:
    return program.command("run", source, "--name", version.partition(":")[0])


def new_images(source: str | Path, feedback: Part, checkpoint: Checkpoint, old: Old) -> New:
    """Those images of ``feedback`` that are not among the ones of ``source``, each once. Two images are the same where the
    network sees the same pixels; near copies are left out where the old image is one to measure on.

    Raises:
        DataError: there is none.
    """
    classes = tuple(dict.fromkeys((*old.classes, *feedback.classes)))
    found = dataset.decode(feedback, checkpoint.recipe.input, classes)
    near = copies_of(old.measured, found.small)
    seen = set(old.pictures)
    items = {item.path: item for item in feedback.items}
    new: list[Item] = []
    known = alike = 0
    for i, (path, pixels) in enumerate(zip(found.paths, found.pixels, strict=True)):
        if (digest := _digest(pixels)) in seen:
            known += 1
        elif i in near:
            alike += 1
        else:
            seen.add(digest)
            new.append(items[path])
    if not new:
        more = f", or near copies of images that it is measured on ({alike})" if alike else ""
        raise DataError(
            f"all {len(found)} images of {feedback.place} with a label are among those of {source}{more}: nothing is new"
        )
    return New(new, known, alike)


def _digest(pixels: NDArray[np.uint8]) -> bytes:
    return hashlib.sha256(pixels.tobytes()).digest()


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
    name, _, ending = captured.image_name(image).partition(".")
    return f"{name[:32]}.{ending}"


def promote(package: str, store: Path, promotion: Promotion, reason: str, by_hand: str = "") -> str:
    """Have ``hubel models promote`` make the package live, behind its gate; raises TrainingError where it refuses."""
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
        way_out = f"; by hand: {by_hand}" if by_hand else ""
        raise TrainingError(f"{package} is published and was not promoted; the lines above say why{way_out}")
    return done.stdout.strip()
