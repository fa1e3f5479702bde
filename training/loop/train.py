"""The training loop: learn, evaluate, keep, save, log; one epoch after the other.

What is random in an epoch depends on (seed, epoch) alone, so a resumed run goes the way of an undisturbed one.
"""

import math
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from tqdm import tqdm

from models.registry import registry
from training import provenance
from training.data import cache, contents, crop, dataset, decoded, unlabelled
from training.data.contents import Contents
from training.data.dataset import ImageSet
from training.data.lineage import Past, pack, unpack
from training.data.sources.catalogue import open_source, title
from training.data.sources.source import first_of_each
from training.errors import CheckpointError, DataError, DivergenceError, RecipeError
from training.inspection import before
from training.inspection.findings import HELD_OUT
from training.loop import checkpoint as checkpoints
from training.loop import distributed, early_stopping, epoch, fit_head, initial_weights, legacy_split, lock, teacher, tracking
from training.loop.checkpoint import Checkpoint, Weights
from training.loop.device import Device, choose_device
from training.loop.distributed import Processes
from training.loop.epoch import Lessons
from training.loop.eta import Pace
from training.loop.state import State, begin, copied
from training.loop.teacher import Teacher
from training.networks import pretrained
from training.networks.classifier import Classifier
from training.recipe import NO_WEIGHTS, NONE, Recipe


def start(
    folder: Path,
    source: str | Path,
    recipe: Recipe,
    train_images: ImageSet,
    validation: ImageSet,
    start_from: Path | None = None,
    past: Past | None = None,
) -> tuple[Checkpoint, Classifier]:
    """Checkpoint and network of a run that has not begun: random weights, or those of the checkpoint ``start_from``, or
    those that the recipe names, which have seen what ``past`` says.

    Raises:
        CheckpointError: ``folder`` holds a checkpoint already, or ``start_from`` holds none of this architecture.
    """
    if (folder / checkpoints.SIDECAR).exists():
        raise CheckpointError(f"{folder} holds a checkpoint already: add --resume to go on with it, or choose another --out")
    mean, std = dataset.channel_statistics(train_images)
    facts = {
        "folder": title(source),
        "training_images": len(train_images),
        "validation_images": len(validation),
        "training_sha256": dataset.fingerprint(train_images),
        "validation_sha256": dataset.fingerprint(validation),
        "skipped": [*train_images.skipped, *(s for s in validation.skipped if s not in train_images.skipped)],
    }
    checkpoint = Checkpoint(recipe, train_images.classes, mean, std, data=facts, provenance=provenance.describe())
    checkpoint.held_out = pack(validation.identities)
    checkpoint.trained = pack(train_images.identities)
    model = checkpoint.build()
    if start_from is not None:
        checkpoint.trained = pack(np.concatenate([train_images.identities, unpack((past or Past()).trained)]))
        initial_weights.take_over(checkpoint, model, start_from)
    elif recipe.weights != NO_WEIGHTS:
        initial_weights.take_published(checkpoint, model)
    return checkpoint, model


def check_images(checkpoint: Checkpoint, folder: Path, train_images: ImageSet) -> None:
    """Raises CheckpointError when the checkpoint in ``folder`` was trained on other images."""
    if checkpoint.data["training_sha256"] != dataset.fingerprint(train_images):
        raise CheckpointError(
            f"{folder} was trained on other images or classes than {checkpoint.data['folder']} holds now, or by other names; "
            "bring the data back, or start again with another --out"
        )


@dataclass
class Run:
    """A run between two epochs. kept: the weights that answer, of the epoch that the checkpoint names. found: lines about the
    images. contents: what it is trained on, until that is noted. lessons: of a teacher, where there is one."""

    checkpoint: Checkpoint
    state: State
    kept: Weights
    device: Device
    images: ImageSet
    validation: ImageSet
    processes: Processes
    found: Sequence[str] = ()
    contents: Contents | None = None
    lessons: Lessons | None = None


def train(
    source: str | Path,
    folder: Path,
    recipe: Recipe | None,
    say: bool = True,
    start_from: Path | None = None,
    mlflow: str | None = None,
    after: Path | None = None,
    anyway: bool = False,
    store: Path = registry.STORE,
) -> Checkpoint:
    """Train on the images of ``source`` by ``recipe``, or go on with the checkpoint in ``folder`` when it is None.

    A new run begins with random weights, or with those of the checkpoint ``start_from`` or of the recipe. What that checkpoint
    has held out, or the one in ``after`` whose weights are not taken, stays held out. Data that make figures false are refused,
    but ``anyway``. Saves a checkpoint after every epoch; returns the last one. ``mlflow`` is the address of a server that gets
    the figures too, ``store`` has the teacher that the recipe names.
    Processes that torchrun started share the work; the first of them alone writes and speaks.

    Raises:
        DataError, RecipeError, CheckpointError, DivergenceError, TrackingError: see those.
    """

    with (
        decoded.beside(folder),
        distributed.joined() as all_of_them,
        lock.held(folder) if all_of_them.first else nullcontext(),
    ):
        all_of_them.wait()  # until the folder is locked
        with all_of_them.speech():
            run = prepare(source, folder, recipe, start_from, all_of_them, after, anyway, store)
        return follow(run, folder, say and all_of_them.first, mlflow)


def follow(run: Run, folder: Path, say: bool, mlflow: str | None) -> Checkpoint:
    """Go from epoch to epoch to the end of the run."""

    def log(line: str) -> None:
        if say:
            tqdm.write(line, file=sys.stderr)

    checkpoint, first = run.checkpoint, run.processes.first
    for line in opening(run):
        log(line)
    pace = Pace(checkpoint.epoch, checkpoint.recipe.passes)
    with tracking.opened(folder, checkpoint, mlflow, log) if first else nullcontext(lambda _: None) as record:
        while checkpoint.epoch < checkpoint.recipe.passes and not early_stopping.is_over(checkpoint):
            advance(run, pace, say)
            if first:
                note(run, folder)
                checkpoints.save(folder, checkpoint, run.kept, run.state.content())
            record(checkpoint)
            figures = "  ".join(f"{key} {value:g}" for key, value in checkpoint.history[-1].items())
            log(f"{figures}  {pace.left(checkpoint.epoch)}")
    for line in early_stopping.outcome(checkpoint, folder):
        log(line)
    return checkpoint


def note(run: Run, folder: Path) -> None:
    """Leave beside the first checkpoint what it was trained on."""
    if run.contents is not None:
        contents.write(folder, run.contents)
        run.contents = None


def prepare(
    source: str | Path,
    folder: Path,
    recipe: Recipe | None,
    start_from: Path | None,
    processes: Processes,
    after: Path | None = None,
    anyway: bool = False,
    store: Path = registry.STORE,
) -> Run:
    """The run as it begins, or as it was when its checkpoint was saved."""
    saved = None if recipe else checkpoints.load(folder)
    recipe = saved[0].recipe if saved else cast(Recipe, recipe)
    device = choose_device(recipe.precision)
    if not saved and not start_from and recipe.weights != NO_WEIGHTS:
        pretrained.find(recipe.architecture, recipe.weights)  # before the images are decoded, which can take long
    taught_by = teacher.find(recipe, store)
    finer = taught_by.finer(recipe.input) if taught_by else 1.0
    past, found = (saved[0].past, list[str]()) if saved else past_of(start_from or after, source)
    listed = contents.look(source) if processes.first and not saved else None  # before anything of it is read
    images, validation = legacy_split.load(source, saved[0], finer) if saved else crop.load(source, recipe, past, finer)
    torch.manual_seed(recipe.seed)
    if saved:
        checkpoint, model, content = saved
        check_images(checkpoint, folder, images)
    else:
        seen = past if start_from else Past()
        errors, warnings = look(source, recipe, images, validation, seen)
        if not anyway:
            before.stop(errors, source)
        found += [*(f"error, gone past: {line}" for line in errors), *(f"warning: {line}" for line in warnings)]
        (checkpoint, model), content = start(folder, source, recipe, images, validation, start_from, seen), None
        if errors:
            checkpoint.data["trained_despite"] = errors
    lessons = None
    if taught_by:
        lessons, lines = learn_from(taught_by, checkpoint, source, images, validation, folder, bool(saved))
        found += lines
    check_processes(checkpoint, device, processes)
    checkpoint.provenance["processes"] = processes.size
    kept = copied(model.state_dict())
    state = begin(model, recipe, device, processes, taught_by.dimensions if taught_by and recipe.teacher_hint else 0)
    if content:
        restore(state, content, folder)
    share(source, checkpoint, images, validation)
    noted = None if listed is None else contents.note(listed, images, validation)
    return Run(checkpoint, state, kept, device, images, validation, processes, found, noted, lessons)


def learn_from(
    taught_by: Teacher,
    checkpoint: Checkpoint,
    source: str | Path,
    images: ImageSet,
    validation: ImageSet,
    folder: Path,
    goes_on: bool,
) -> tuple[Lessons, list[str]]:
    """What a teacher has to teach, which the checkpoint notes, and lines about it; or that of a run in ``folder`` that goes on.

    Raises:
        CheckpointError: it has other classes, or is not the one before.
        DataError: there are no unlabelled images where some were promised, or they are not those before.
    """
    recipe = checkpoint.recipe
    teacher.check_classes(taught_by, checkpoint.classes, recipe)
    before = checkpoint.provenance.get("teacher", {})
    if goes_on:
        teacher.check_same(taught_by, before, folder)
    if recipe.teacher_hint:
        taught_by = taught_by.used_to(images.pixels)
    noted, lines, more = taught_by.noted(recipe), list[str](), None
    if recipe.unlabelled != NONE:
        test = dataset.load_test(source, recipe.input, checkpoint.classes)
        spec = crop.held(recipe, taught_by.finer(recipe.input))
        more, known, measured = unlabelled.load(recipe.unlabelled, spec, images, [validation, *([test] if test else [])])
        noted |= {"unlabelled_images": len(more), "unlabelled_sha256": dataset.fingerprint(more)}
        lines += [f"left out: {line}" for line in first_of_each(more.skipped)]
        lines += [f"left out: {known} unlabelled images that are trained on anyway"] * bool(known)
        lines += [f"left out: {measured} unlabelled images that are measured on, or near copies of such"] * bool(measured)
    if goes_on and noted.get("unlabelled_sha256") != before.get("unlabelled_sha256"):
        raise DataError(
            f"{recipe.unlabelled} holds other images than the run in {folder} began with: bring them back, or train anew"
        )
    if more is not None and not goes_on:
        checkpoint.trained = pack(np.concatenate([unpack(checkpoint.trained), more.identities]))
    checkpoint.provenance["teacher"] = noted
    lessons = Lessons(taught_by, images) if more is None else Lessons(taught_by, dataset.joined(images, more), len(more))
    return lessons, [*lines, f"taught by {teacher.told(noted)}".replace("`", "")]


def share(source: str | Path, checkpoint: Checkpoint, images: ImageSet, validation: ImageSet) -> None:
    """What the stages after this one ask for is there already, unless the training images are larger than they want them."""
    recipe = checkpoint.recipe
    if checkpoint.past and images.pixels.shape[1:3] == (recipe.input.height, recipe.input.width):
        cache.give(dataset.load_run, (images, validation), source, recipe.input, checkpoint.classes, checkpoint.past)


def past_of(folder: Path | None, source: str | Path) -> tuple[Past, list[str]]:
    """What the run or package in ``folder`` has trained on and held out, and a line where that is not known."""
    if folder is None:
        return Past(), []
    checkpoint = checkpoints.load(folder)[0]
    if past := checkpoint.past or legacy_split.past(source, checkpoint):
        return past, []
    return Past(), [
        f"warning: {folder} is of an earlier version and does not say what it held out: it may have been trained on images that "
        "this run is measured on"
    ]


def look(source: str | Path, recipe: Recipe, images: ImageSet, validation: ImageSet, past: Past) -> tuple[list[str], list[str]]:
    """What makes figures false, and what is only worth knowing, of all images that are trained and measured on."""
    is_given = open_source(source).validation is not None
    sets = {"train": images, "val" if is_given else HELD_OUT: validation}
    test = dataset.load_test(source, recipe.input, images.classes)
    return before.find(sets | ({"test": test} if test else {}), past)


def check_processes(checkpoint: Checkpoint, device: Device, processes: Processes) -> None:
    """Raises RecipeError when there are too few images for each process, or when they do not set out from the same things."""
    recipe, facts = checkpoint.recipe, checkpoint.data
    least = 1 if device.is_gpu or processes.size == 1 else 2  # on CPUs the batch norm of each process knows its own images alone
    if (n := min(recipe.batch_size, facts["training_images"])) < least * processes.size:
        raise RecipeError(
            f"a batch has {n} images for {processes.size} processes, each of which needs {least}: raise batch_size or start fewer"
        )
    if not processes.agree(f"{recipe} {facts['training_sha256']} {facts['validation_sha256']} {checkpoint.epoch}"):
        raise RecipeError(
            "the processes do not see the same images, recipe and checkpoint: put them where all machines read the same"
        )


def advance(run: Run, pace: Pace, say: bool) -> None:
    """Train for an epoch, validate, and note what came of it; raises DivergenceError."""
    checkpoint, recipe = run.checkpoint, run.checkpoint.recipe
    began = time.monotonic()
    if checkpoint.epoch < recipe.fits:
        learnt = fit_head.fit(run.state, checkpoint, run.images, run.device, say)
    else:
        learnt = epoch.learn(run.state, checkpoint, run.images, run.device, pace, say, run.processes, run.lessons)
    learning = time.monotonic() - began
    validation_loss, validation_accuracy = epoch.evaluate(
        run.state.answering(), checkpoint, run.validation, run.device, run.processes
    )
    seconds = time.monotonic() - began
    checkpoint.epoch += 1
    checkpoint.seconds += seconds
    if not math.isfinite(learnt.loss + validation_loss):
        raise DivergenceError(
            f"the loss is {learnt.loss} in epoch {checkpoint.epoch} and {validation_loss} on the validation images: "
            f"train again with a lower learning rate than {recipe.learning_rate:g}"
        )
    checkpoint.history.append(
        {
            "epoch": checkpoint.epoch,
            "loss": round(learnt.loss, 4),
            "accuracy": round(learnt.accuracy, 4),
            "validation_loss": round(validation_loss, 4),
            "validation_accuracy": round(validation_accuracy, 4),
            "learning_rate": float(f"{learnt.rate:.4g}"),
            "images_per_second": round(learnt.images / learning, 1),
            "seconds": round(seconds, 1),
        }
    )
    if early_stopping.improved(checkpoint):
        checkpoint.kept_epoch = checkpoint.epoch
        weights = run.state.answering().state_dict()
        run.kept = copied(weights) if recipe.keeps_best else weights


def restore(state: State, content: dict[str, Any], folder: Path) -> None:
    """Bring back the state that the checkpoint in ``folder`` was saved in; raises CheckpointError."""
    try:
        state.restore(content)
    except (KeyError, RuntimeError, ValueError) as err:
        raise CheckpointError(
            f"the checkpoint in {folder} does not hold what a run needs to go on ({' '.join(str(err).split())}): "
            f"begin another run from its weights, with --start-from {folder}"
        ) from err


def opening(run: Run) -> Iterator[str]:
    """What is said before the first epoch."""
    facts, model = run.checkpoint.data, run.state.model
    yield from (f"left out: {line}" for line in first_of_each(facts["skipped"]))
    yield from run.found
    yield (
        f"{run.checkpoint.recipe.architecture}: {sum(p.numel() for p in model.parameters())} parameters, "
        f"{facts['training_images']} training and {facts['validation_images']} validation images "
        f"of {len(run.checkpoint.classes)} classes"
    )
    yield from initial_weights.hints(run.checkpoint, model)
