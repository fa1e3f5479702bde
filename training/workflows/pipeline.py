"""From data to a published package with a report: train, evaluate, export, report, publish.

Every stage leaves a file in the folder of the run. One that is of the checkpoint's epoch, and no older than the file of the
stage before, is not made again, and what the store holds is not published again: so the same call goes on wherever it was
stopped. That is of the same data: where these changed, another run trains on them. run_folder.py tells, and has the folders.
"""

import hashlib
import json
import shlex
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec
from tqdm import tqdm

from models.package import manifest as manifests
from models.package.manifest import MODEL, REPORT, Manifest, PackageError
from models.package.precision import GRAPHS
from models.package.report import named
from models.registry import registry
from models.terminal import program
from training.data import cache, contents, decoded
from training.errors import CheckpointError, RecipeError, TrainingError, in_a_line
from training.evaluation import evaluate
from training.loop import checkpoint as checkpoints
from training.loop import early_stopping
from training.loop.checkpoint import SIDECAR, Checkpoint
from training.loop.train import train
from training.publishing import export, package
from training.recipe import Recipe
from training.report import facts
from training.report.document import report
from training.workflows import run_folder
from training.workflows.run_folder import Place

T = TypeVar("T")
STAGES = ("train", "evaluate", "export", "report", "publish")


class Beginning(NamedTuple):
    """How a run is to be trained: by which recipe, None for that of a run that was begun, from which weights, and which
    MLflow server gets the figures. after: a run or package before it, whose held-out images stay held out though its weights
    are not taken. anyway: also on data that make figures false."""

    recipe: Recipe | None
    start_from: Path | None = None
    mlflow: str | None = None
    after: Path | None = None
    anyway: bool = False


class Made(NamedTuple):
    """What is to be made of it: a graph in fp16 (None: as export.py has it), images in the report, a package with weights to
    train on from."""

    fp16: bool | None = None
    with_images: bool = True
    with_weights: bool = False


def run(
    source: str | Path,
    folder: Path,
    name: str,
    store: Path,
    beginning: Beginning,
    made: Made | None = None,
    named: bool = True,
) -> dict[str, Any]:
    """Train on ``source`` in ``folder`` and publish as the next version of ``name``; stages that are finished stay. Where the
    data changed since, train again on them in a folder below it. ``named``: the name was chosen, not made of the data's.

    Returns what was published, where the report is and the command that serves the model.

    Raises:
        RecipeError: the name is not allowed, or ``folder`` holds a run of another recipe; nothing was done.
        DataError: the data are not there; nothing was done.
        TrainingError, PackageError: a stage failed; what was finished before it stays.
    """
    if not registry.NAME.fullmatch(name):
        raise RecipeError(f"the name is {name!r}: it takes 1 to 64 lower-case letters, digits, '.', '_' and '-'")
    listed = contents.look(source)
    with cache.images(), decoded.beside(folder):
        place = run_folder.find(source, folder, listed)
        if not named:
            check_whose(name, store, place, listed.address)
        check_recipe(place.folder, beginning.recipe)
        return _stages(source, place, name, store, _beginning(place, beginning), made or Made())


def _stages(source: str | Path, place: Place, name: str, store: Path, beginning: Beginning, made: Made) -> dict[str, Any]:
    folder = place.folder
    _stage(0, _is_trained(folder), lambda: _train(source, folder, beginning, store))
    checkpoint = checkpoints.load(folder)[0]
    if place.changes.tested:
        _say(f"other test images than were measured on before ({place.changes.of_test}): measuring again")
    _stage(1, _is_evaluated(folder, checkpoint) and not place.changes.tested, lambda: evaluate.evaluate(folder, source))
    if place.now is not None and place.now != contents.read(folder):
        contents.write(folder, place.now)
    _stage(2, _is_exported(folder, checkpoint, made.fp16), lambda: export.export(folder, source, made.fp16))
    is_reported = _is_reported(folder, checkpoint, made.with_images)
    failed = _stage(3, is_reported, lambda: _report(source, folder, name, made.with_images))
    before = _published(folder, store, name, made.with_weights)
    _stage(4, before is not None, lambda: package.publish(folder, store, name, made.with_weights))
    published = before or _published(folder, store, name, made.with_weights)
    assert published is not None
    if not failed and REPORT not in published.files:
        again = program.command("publish", folder, "--name", name, *program.store(store))
        _say(f"{published.id} was published without its report and stays so; the next version with it: {again}")
    return {
        "top1": published.evaluation.top1,
        **({"report": None, "report_error": failed} if failed else {"report": str(folder / REPORT)}),
        "published": published.id,
        "folder": str(store / name / str(published.version)),
        "serve": serve_command(store, published.id),
        **_promotion(store, published),
    }


def check_whose(name: str, store: Path, place: Place, address: str) -> None:
    """Raises RecipeError where a name that nobody chose is already that of something made of other data."""
    way_out = f"NAME={name} (--name {name}) publishes what these become as its next version, another name keeps them apart"
    if place.latest is not None:
        before = contents.read(place.latest)
        if before is None or before.address != address:
            where = "other images" if before is None else before.address
            raise RecipeError(f"{place.latest} was trained on {where}, and {address} is not that ({place.how}): {way_out}")
    elif not (place.folder / SIDECAR).is_file() and registry.versions(store, name):
        raise RecipeError(f"{store} has a model called {name} already, of which there is no run in {place.folder}: {way_out}")


def _beginning(place: Place, asked: Beginning) -> Beginning:
    """How a run begins: as asked for, and where the data changed since the run before by the recipe of that."""
    if place.latest is None:
        return asked
    before = checkpoints.load(place.latest)[0]
    if asked.recipe is None and asked.start_from is None and "command" in before.provenance.get("started_from", {}):
        raise RecipeError(
            f"the data changed ({place.how}) since {place.latest}, which began with the weights of another run: say again with "
            "--start-from which weights to begin with, or name the --recipe to begin without"
        )
    state = "was trained" if _is_trained(place.latest) else "was begun, and stopped,"
    by = "" if asked.recipe else " by the same recipe"
    _say(f"{place.latest} {state} on other data ({place.how}): training again{by} in {place.folder}")
    return asked._replace(recipe=asked.recipe or before.recipe, after=place.latest)


def _promotion(store: Path, published: Manifest) -> dict[str, str]:
    """The command that makes a version live which is not yet there."""
    with suppress(PackageError):  # a pointer that is damaged names none
        now = registry.pointer(store, published.name)
        if now is not None and now.version == published.version:
            return {}
    where = () if store.resolve() == registry.STORE.resolve() else (f"STORE={store.resolve()}",)
    return {"promote": program.make("promote", f"MODEL={published.id}", *where)}


def check_recipe(folder: Path, recipe: Recipe | None) -> None:
    """Raises RecipeError when ``folder`` holds a run of another recipe."""
    if recipe is None or not (folder / SIDECAR).is_file():
        return
    before, asked = (msgspec.to_builtins(r) for r in (checkpoints.load(folder)[0].recipe, recipe))
    if other := [f"{key} {before[key]} instead of {asked[key]}" for key in asked if before[key] != asked[key]]:
        raise RecipeError(
            f"{folder} holds a run of another recipe ({', '.join(other)}): leave the recipe and its options out to go on with "
            "it, or choose another name or --out"
        )


def serve_command(store: Path, package_id: str) -> str:
    """What serves a package, to type where this process was started."""
    where = "" if store.resolve() == registry.STORE.resolve() else f"HUBEL_STORE={shlex.quote(str(store.resolve()))} "
    return f"{where}HUBEL_MODEL={package_id} {program.make('serve')}"


def _stage(number: int, is_done: bool, work: Callable[[], T]) -> T | None:
    title = f"[{number + 1}/{len(STAGES)}] {STAGES[number]}"
    _say(f"{title}: finished before" if is_done else title)
    if is_done:
        return None
    try:
        return work()
    except (TrainingError, PackageError, KeyboardInterrupt):
        _say(f"stopped at {title}; what was finished before stays, and the same command goes on from there")
        raise


def _train(source: str | Path, folder: Path, beginning: Beginning, store: Path) -> None:
    if (folder / SIDECAR).is_file():
        train(source, folder, None, mlflow=beginning.mlflow, store=store)
    else:
        recipe, start_from, mlflow, after, anyway = beginning
        train(source, folder, recipe, start_from=start_from, mlflow=mlflow, after=after, anyway=anyway, store=store)


def _report(source: str | Path, folder: Path, name: str, with_images: bool) -> str | None:
    """Make the report. Where that fails, whatever the cause, there is none, and the cause in a line is returned: a model is
    good without its report."""
    try:
        report(folder, source, with_images, name)
    except Exception as err:
        for name in (REPORT, facts.FILE):
            with suppress(OSError):
                (folder / name).unlink(missing_ok=True)
        cause = str(err) if isinstance(err, TrainingError | PackageError) else in_a_line(err)
        again = program.command("report", folder, source, *([] if with_images else ["--without-images"]))
        _say(f"warning: there is no report: {cause}. The model is published without it; make it again with: {again}")
        return cause
    return None


def _is_trained(folder: Path) -> bool:
    if not (folder / SIDECAR).is_file():
        return False
    checkpoint = checkpoints.load(folder)[0]
    return checkpoint.epoch >= checkpoint.recipe.passes or early_stopping.is_over(checkpoint)


def _is_evaluated(folder: Path, checkpoint: Checkpoint) -> bool:
    found = _result(folder, evaluate.FILE, checkpoint, after=SIDECAR)
    return found is not None and "classes" in found  # an earlier version counted none


def _is_exported(folder: Path, checkpoint: Checkpoint, fp16: bool | None) -> bool:
    found = _result(folder, export.FILE, checkpoint, after=evaluate.FILE)
    if found is None or not (folder / MODEL).is_file():
        return False
    return not fp16 or "fp16" in {figure["precision"] for figure in found["providers"]}


def _is_reported(folder: Path, checkpoint: Checkpoint, with_images: bool) -> bool:
    found = _result(folder, facts.FILE, checkpoint, after=export.FILE)
    return found is not None and found.get("with_images") == with_images and (folder / REPORT).is_file()


def _published(folder: Path, store: Path, name: str, with_weights: bool) -> Manifest | None:
    """The newest package of ``name`` that was made of this run as it is, or without its report; None where there is none."""
    graphs = {file: registry.sha256(folder / file) for file in GRAPHS.values() if (folder / file).is_file()}
    evaluation = json.loads((folder / evaluate.FILE).read_bytes())
    page = (folder / REPORT).read_bytes() if (folder / REPORT).is_file() else None
    for version in reversed(registry.versions(store, name)):
        try:
            manifest = manifests.read(store / name / str(version))
        except PackageError:  # damaged: it is none that could be served
            continue
        is_same = graphs.items() <= manifest.files.items() and (SIDECAR in manifest.files or not with_weights)
        if is_same and _has_report(manifest, page) and _has_figures(manifest, evaluation):
            return manifest
    return None


def _has_report(manifest: Manifest, page: bytes | None) -> bool:
    """Whether the package has this report, under its own name, or none."""
    kept = manifest.files.get(REPORT)
    return kept is None or (page is not None and kept == hashlib.sha256(named(page, manifest.id)).hexdigest())


def _has_figures(manifest: Manifest, evaluation: dict[str, Any]) -> bool:
    """Whether it was measured as the run is."""
    measured = manifest.threshold, manifest.evaluation.top1, manifest.evaluation.dataset_sha256
    return measured == (evaluation["threshold"], evaluation["top1"], evaluation["dataset_sha256"])


def _result(folder: Path, name: str, checkpoint: Checkpoint, after: str) -> dict[str, Any] | None:
    """What a stage wrote into ``name``, if it is of this checkpoint and no older than the file ``after``."""
    try:
        result = checkpoints.read_result(folder / name, "run", checkpoint)
        is_newer = (folder / name).stat().st_mtime_ns >= (folder / after).stat().st_mtime_ns
    except (CheckpointError, OSError):
        return None
    return result if is_newer else None


def _say(line: str) -> None:
    tqdm.write(line, file=sys.stderr)
