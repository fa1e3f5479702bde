"""Command line: hubel run | inspect | train | evaluate | export | report | probe | publish | feedback | retrain | reference.

What computes is imported by the command that needs it, so that help needs no torch."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from models.terminal import program

try:
    from hubel.errors import ServiceError
    from models.package.manifest import ALWAYS_TOP5, REPORT, Manifest, PackageError
    from models.registry import registry
    from training import recipe as recipes
    from training import recipe_flags
    from training.data.sources.catalogue import open_source, title
    from training.errors import RecipeError, TrainingError
    from training.loop import torchrun
    from training.recipe import Recipe
    from training.workflows import naming
except ImportError as err:
    raise SystemExit(program.missing("training", err)) from None

FAILED = 1
UNCHOSEN = "photos"  # the recipe below what the command line says of network or weights
OWN_BEGINNING = {"architecture", "weights"}  # keys that say what no recipe chosen by the data would


def run_everything(args: argparse.Namespace) -> object:
    if ":" not in args.data and not Path(args.data).exists():
        open_source(args.data)  # refuses it at once, before torch is imported
    from training.loop import checkpoint
    from training.workflows import pipeline

    if torchrun.world_size() > 1:
        raise RecipeError("run is one process: give torchrun the command train, then let run go on with the same --out")
    name = args.name or naming.name_of(args.data)
    overrides, folder = recipe_flags.given(args), args.out or Path("runs") / name
    goes_on = (folder / checkpoint.SIDECAR).is_file() and not (args.recipe or overrides)
    recipe = None if goes_on else recipe_of(args, overrides)
    begin = pipeline.Beginning(recipe, start_from(args, recipe), args.mlflow, anyway=args.anyway)
    made = pipeline.Made(args.fp16, not args.without_images, args.with_weights)
    return pipeline.run(args.data, folder, name, args.store, begin, made, named=args.name is not None)


def run_train(args: argparse.Namespace) -> object:
    from training.loop import checkpoint as checkpoints
    from training.loop.train import train

    overrides = recipe_flags.given(args)
    if args.resume and (args.recipe or args.start_from or overrides):
        raise RecipeError(f"--resume goes on by the recipe of the checkpoint in {args.out}; leave the other options out")
    recipe = None if args.resume else recipe_of(args, overrides)
    before = start_from(args, recipe)
    if recipe and torchrun.restarts() and checkpoints.is_of(args.out, recipe):
        recipe = None  # go on with what the processes before this one saved
    try:
        checkpoint = train(
            args.data, args.out, recipe, start_from=before, mlflow=args.mlflow, anyway=args.anyway, store=args.store
        )
    except KeyboardInterrupt:
        if torchrun.rank() == 0:
            print(f"\n{after_a_stop(args)}", file=sys.stderr)
        raise
    result = {"checkpoint": str(args.out), "epochs": checkpoint.epoch, "kept_epoch": checkpoint.kept_epoch}
    return result | checkpoint.history[checkpoint.kept_epoch - 1]


def recipe_of(args: argparse.Namespace, overrides: dict[str, Any]) -> Recipe:
    """The recipe that the command line names, or the one that fits the data, which is said; with what overrides it."""
    if args.recipe or args.start_from or OWN_BEGINNING & overrides.keys():
        return recipes.load(args.recipe or UNCHOSEN, **overrides)
    from training.inspection import recipe_choice

    choice = recipe_choice.choose(open_source(args.data))
    if torchrun.rank() == 0:
        print(choice.said, file=sys.stderr)
    return recipes.load(choice.recipe, **choice.overrides | overrides)


def start_from(args: argparse.Namespace, recipe: Recipe | None) -> Path | None:
    """The folder with the weights that --start-from names."""
    from training.loop import initial_weights

    before = initial_weights.find(args.start_from, args.store) if args.start_from else None
    if recipe and before and recipe.weights != recipes.NO_WEIGHTS:
        raise RecipeError(f"--start-from and the weights {recipe.weights} both say what to begin with; add --weights none")
    return before


def after_a_stop(args: argparse.Namespace) -> str:
    """What is left of a training that was stopped, and the command that goes on with it."""
    from training.loop.checkpoint import SIDECAR

    if not (args.out / SIDECAR).is_file():
        return "stopped before the first epoch was whole; nothing was saved"
    more = ["--mlflow", args.mlflow] if args.mlflow else []
    again = program.command("train", args.data, "--out", args.out, "--resume", *more)
    return f"stopped; the checkpoint of the last whole epoch is in {args.out}. Go on with: {again}"


def run_inspect(args: argparse.Namespace) -> dict[str, Any]:
    name, source = title(args.data), open_source(args.data)
    from training.inspection import facts, findings, page, summary

    if args.html:
        page.check_path(args.html)
    look = facts.look(source)
    found = findings.find(look)
    if args.html:
        page.write(args.html, name, look, found)
    return summary.summarise(name, look, found)


def show_inspection(result: dict[str, Any]) -> str:
    from training.inspection.summary import table

    return table(result)


def run_evaluate(args: argparse.Namespace) -> object:
    from training.evaluation.evaluate import FILE, TABLES, evaluate

    result = evaluate(args.run_folder, args.data)
    if args.json:
        return result
    left_out = (*TABLES, *(["top5"] if len(result["classes"]) <= ALWAYS_TOP5 else []))
    return {key: value for key, value in result.items() if key not in left_out} | {"more": str(args.run_folder / FILE)}


def run_export(args: argparse.Namespace) -> object:
    from training.publishing import random_package
    from training.publishing.export import export

    if args.architecture:
        if args.run_folder:
            raise RecipeError("give a run and its data, or --architecture and --weights none, not both")
        if args.opset is not None:
            raise RecipeError("--opset is for a run; leave it out with --architecture")
        return describe(random_package.publish(args.architecture, args.store), args.store)
    if not args.data:
        raise RecipeError("give the folder of a run and the data it was trained on, or --architecture and --weights none")
    return export(args.run_folder, args.data, args.fp16, args.opset)


def run_probe(args: argparse.Namespace) -> object:
    from hubel.client import Client
    from training.loop import initial_weights
    from training.workflows import probe

    settings = probe.settle(c=args.c, validation_share=args.validation_share, seed=args.seed)
    if args.service:
        if args.out:
            raise RecipeError("--out writes a checkpoint, and a service gives no weights; probe the run or package with --run")
        with Client(args.service) as client:
            return probe.probe_service(client, args.data, settings)
    folder = initial_weights.find(args.probed, args.store)
    if initial_weights.is_package(folder) and not initial_weights.has_weights(folder) and not args.out:
        return probe.probe_package(folder, args.data, settings)
    initial_weights.check_weights(folder)
    return probe.probe_run(folder, args.data, settings, args.out)


def run_report(args: argparse.Namespace) -> object:
    from training.report import facts
    from training.report.document import report

    result = report(args.run_folder, args.data, not args.without_images)
    return result if args.json else {"report": str(args.run_folder / REPORT), "data": str(args.run_folder / facts.FILE)}


def run_publish(args: argparse.Namespace) -> object:
    from training.publishing.package import publish

    return describe(publish(args.run_folder, args.store, args.name, args.with_weights), args.store)


def run_feedback(args: argparse.Namespace) -> object:
    from training.review.layout import review

    return review(args.kept, args.out)


def run_retrain(args: argparse.Namespace) -> object:
    from training.workflows import pipeline, retrain

    made = pipeline.Made(args.fp16, not args.without_images, with_weights=True)
    asked = retrain.Promotion(args.canary, args.requests, args.max_disagreement)
    if not args.promote and asked != retrain.Promotion():
        raise RecipeError("--canary, --requests and --max-disagreement say how to promote; add --promote")
    promotion = asked if args.promote else None
    overrides = recipe_flags.given(args)
    return retrain.retrain(args.name, args.data, args.feedback, args.store, overrides, args.out, made, promotion, args.anyway)


def run_reference(args: argparse.Namespace) -> object:
    from training.publishing import drift_reference

    return describe(drift_reference.publish(registry.resolve(args.store, args.package), args.data, args.store), args.store)


def describe(manifest: Manifest, store: Path) -> dict[str, object]:
    """What a publishing command prints."""
    return {"published": manifest.id, "folder": str(store / manifest.name / str(manifest.version))}


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=program.NAME, description="Train a classifier and publish it as a model package.")
    parser.set_defaults(show=lines, strict=False)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("run", help=program.TRAINING["run"])
    _add_training(command)
    text = "of the package: lower-case letters, digits, '.', '_', '-' (default: made of what the data are called)"
    command.add_argument("--name", help=text)
    command.add_argument("--out", type=Path, help="folder of the run (default: runs/NAME)")
    _add_fp16(command)
    _add_without_images(command)
    _add_with_weights(command)
    command.set_defaults(run=run_everything)

    command = commands.add_parser("inspect", help=program.TRAINING["inspect"])
    command.add_argument("data", help="folder of class folders, list of files, or another form: see docs/training.md")
    command.add_argument("--html", type=Path, metavar="FILE", help="write a page with pictures too")
    command.add_argument("--strict", action="store_true", help="exit with 1 after a warning too, not after errors alone")
    command.set_defaults(run=run_inspect, show=show_inspection)

    command = commands.add_parser("train", help=program.TRAINING["train"])
    _add_training(command)
    command.add_argument("--out", type=Path, required=True, help="folder for the checkpoint")
    command.add_argument("--resume", action="store_true", help="go on with the checkpoint in --out, by its own recipe")
    command.set_defaults(run=run_train)

    command = commands.add_parser("evaluate", help=program.TRAINING["evaluate"])
    _add_run(command, run_evaluate)

    command = commands.add_parser("export", help=program.TRAINING["export"])
    _add_run(command, run_export, optional=True)
    _add_fp16(command)
    text = "ONNX opset of the graphs, 18 to 23, for runtimes that read no later one (default: what torch writes)"
    command.add_argument("--opset", type=int, metavar="N", help=text)
    command.add_argument("--architecture", help="without a run: publish this network untrained, for measuring its speed")
    command.add_argument("--weights", choices=["none"], default="none", help="of --architecture: none are random ones")
    command.add_argument("--store", type=Path, default=Path("runs/untrained"), help="of --architecture (default: %(default)s)")

    command = commands.add_parser("report", help=program.TRAINING["report"])
    _add_run(command, run_report)
    _add_without_images(command)

    command = commands.add_parser("probe", help=program.TRAINING["probe"])
    _add_probe(command)

    command = commands.add_parser("publish", help=program.TRAINING["publish"])
    command.add_argument("run_folder", metavar="run", type=Path, help="folder of the checkpoint")
    command.add_argument("--name", required=True, help="lower-case letters, digits, '.', '_', '-'")
    command.add_argument("--store", type=Path, default=registry.STORE, help="folder of the packages (default: %(default)s)")
    _add_with_weights(command)
    command.set_defaults(run=run_publish)

    command = commands.add_parser("feedback", help=program.TRAINING["feedback"])
    command.add_argument("kept", type=Path, help="folder of kept images, as HUBEL_FEEDBACK_DIR names it")
    command.add_argument("out", type=Path, help="folder to make")
    command.set_defaults(run=run_feedback)

    command = commands.add_parser("retrain", help=program.TRAINING["retrain"])
    _add_retrain(command)

    command = commands.add_parser("reference", help=program.TRAINING["reference"])
    command.add_argument("package", help="NAME or NAME:VERSION")
    command.add_argument("data", help="images that it was not trained on; of data with test images, those")
    command.add_argument("--store", type=Path, default=registry.STORE, help="folder of the packages (default: %(default)s)")
    command.set_defaults(run=run_reference)

    for command in commands.choices.values():
        command.add_argument("--json", action="store_true", help="print the result as JSON on standard output")
    return parser


def _add_probe(command: argparse.ArgumentParser) -> None:
    network = command.add_mutually_exclusive_group(required=True)
    network.add_argument("--service", metavar="URL", help="features of a running service; its key is read from HUBEL_API_KEY")
    network.add_argument("--run", dest="probed", metavar="RUN", help="features of a run, or of a package (NAME:VERSION)")
    command.add_argument("data", help="images of the new classes, as to train on; test/ is reported too")
    command.add_argument("--out", type=Path, help="of --run: folder for the checkpoint with the fitted head")
    command.add_argument("--store", type=Path, default=registry.STORE, help="folder of the packages (default: %(default)s)")
    command.add_argument("--c", type=float, default=recipes.LINEAR_C, help="key linear_c of recipes (default: %(default)s)")
    command.add_argument("--validation-share", type=float, default=0.1, help="as the key of recipes (default: %(default)s)")
    command.add_argument("--seed", type=int, default=0, help="of what is held out to validate (default: %(default)s)")
    command.set_defaults(run=run_probe)


def _add_training(command: argparse.ArgumentParser) -> None:
    """What decides how a network is trained."""
    command.add_argument("data", help="folder of class folders, list of files, or another form: see docs/training.md")
    command.add_argument("--recipe", help="name in training/recipes or a TOML file (default: one that fits the data)")
    command.add_argument("--start-from", metavar="RUN", help="begin with the weights of a run, or of a package (NAME:VERSION)")
    command.add_argument("--store", type=Path, default=registry.STORE, help="folder of the packages (default: %(default)s)")
    command.add_argument("--mlflow", metavar="URI", help="send the figures to this MLflow server too (extra mlflow)")
    _add_anyway(command)
    recipe_flags.add(command)


def _add_retrain(command: argparse.ArgumentParser) -> None:
    command.add_argument("name", help="of the package; its live version must have been published --with-weights")
    command.add_argument("data", help="the data that it was trained on, in any form: see docs/training.md")
    command.add_argument("feedback", type=Path, help="folder of kept images, or what 'feedback' made of it")
    command.add_argument("--out", type=Path, help="folder of the run (default: runs/NAME-after-VERSION)")
    command.add_argument("--store", type=Path, default=registry.STORE, help="folder of the packages (default: %(default)s)")
    command.add_argument("--promote", action="store_true", help="make it live where the gate lets it through")
    command.add_argument("--canary", type=int, metavar="N", help="of --promote: answer N %% of requests by it first")
    command.add_argument("--requests", type=int, metavar="N", help="of --canary: decide after so many")
    text = "of --canary: share of images that may get another answer than before, as more do the more it learns"
    command.add_argument("--max-disagreement", type=float, metavar="SHARE", help=text)
    _add_anyway(command)
    _add_fp16(command)
    _add_without_images(command)
    recipe_flags.add(command)
    command.set_defaults(run=run_retrain)


def _add_anyway(command: argparse.ArgumentParser) -> None:
    text = "train also on data that make figures false, as with the same picture in two splits"
    command.add_argument("--anyway", action="store_true", help=text)


def _add_fp16(command: argparse.ArgumentParser) -> None:
    text = "write it in fp16 too, for GPUs (default: for photographs, and on a machine with a GPU)"
    command.add_argument("--fp16", action=argparse.BooleanOptionalAction, help=text)


def _add_without_images(command: argparse.ArgumentParser) -> None:
    text = "no image and no file name of the data in the report, which the package holds"
    command.add_argument("--without-images", action="store_true", help=text)


def _add_with_weights(command: argparse.ArgumentParser) -> None:
    text = "add the checkpoint to the package, so that others can train from it"
    command.add_argument("--with-weights", action="store_true", help=text)


def _add_run(command: argparse.ArgumentParser, run: Callable[[argparse.Namespace], object], optional: bool = False) -> None:
    count = "?" if optional else None
    command.add_argument("run_folder", metavar="run", type=Path, nargs=count, help="folder of the checkpoint")
    where = "the data trained on; their test images are used, else the validation images"
    command.add_argument("data", nargs=count, help=where)
    command.set_defaults(run=run)


def main(arguments: Sequence[str] | None = None) -> int:
    args = make_parser().parse_args(arguments)
    rank = torchrun.rank()
    try:
        result = args.run(args)
    except (TrainingError, PackageError, ServiceError) as err:
        print(f"error{f' in process {rank}' if rank else ''}: {err}", file=sys.stderr)
        return FAILED
    except OSError as err:  # a full disk, a folder that is read-only
        what = f"{err.filename or 'a file'} cannot be read or written: {err.strerror or err}"
        print(f"error: {what}; make room, or let it be read and written, and run the same command again", file=sys.stderr)
        return FAILED
    except ModuleNotFoundError as err:
        print(program.missing("training", err), file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return program.INTERRUPTED
    if rank == 0:
        print(json.dumps(result, indent=1) if args.json else args.show(result))
    return FAILED if result.get("errors") or (result.get("warnings") and args.strict) else 0


def lines(result: dict[str, Any]) -> str:
    return "\n".join(f"{key}: {value}" for key, value in result.items())


if __name__ == "__main__":
    program.leave(main())
