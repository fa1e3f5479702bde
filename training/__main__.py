"""Command line: python -m training run | train | evaluate | export | report | publish."""

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from models import registry
from models.manifest import REPORT, Manifest, PackageError
from training import recipe as recipes
from training.checkpoint import SIDECAR
from training.errors import RecipeError, TrainingError
from training.train import train

FAILED, INTERRUPTED = 1, 130
DEFAULT_RECIPE = "photos"


def run_everything(args: argparse.Namespace) -> object:
    from training import pipeline

    overrides = {key: getattr(args, key) for key in ("epochs", "batch_size", "learning_rate", "seed")}
    folder = args.out or Path("runs") / args.name
    is_given = args.recipe or any(value is not None for value in overrides.values())
    goes_on = (folder / SIDECAR).is_file() and not is_given
    recipe = None if goes_on else recipes.load(args.recipe or DEFAULT_RECIPE, **overrides)
    return pipeline.run(args.data, folder, args.name, args.store, recipe, args.start_from, args.fp16, not args.without_images)


def run_train(args: argparse.Namespace) -> object:
    overrides = {key: getattr(args, key) for key in ("epochs", "batch_size", "learning_rate", "seed")}
    if args.resume and any(value is not None for value in (args.recipe, args.start_from, *overrides.values())):
        raise RecipeError(f"--resume goes on by the recipe of the checkpoint in {args.out}; leave the other options out")
    recipe = None if args.resume else recipes.load(args.recipe or DEFAULT_RECIPE, **overrides)
    try:
        checkpoint = train(args.data, args.out, recipe, start_from=args.start_from)
    except KeyboardInterrupt:
        if (args.out / SIDECAR).is_file():
            again = shlex.join(["python", "-m", "training", "train", str(args.data), "--out", str(args.out), "--resume"])
            print(f"\nstopped; the checkpoint of the last whole epoch is in {args.out}. Go on with: {again}", file=sys.stderr)
        else:
            print("\nstopped before the first epoch was whole; nothing was saved", file=sys.stderr)
        raise
    return {"checkpoint": str(args.out), "epochs": checkpoint.epoch} | checkpoint.history[-1]


def run_evaluate(args: argparse.Namespace) -> object:
    from training.evaluate import FILE, TABLES, evaluate

    result = evaluate(args.run_folder, args.data)
    if args.json:
        return result
    return {key: value for key, value in result.items() if key not in TABLES} | {"more": str(args.run_folder / FILE)}


def run_export(args: argparse.Namespace) -> object:
    from training import untrained
    from training.export import export

    if args.architecture:
        if args.run_folder:
            raise RecipeError("give a run and its data, or --architecture and --weights none, not both")
        return describe(untrained.publish(args.architecture, args.store), args.store)
    if not args.data:
        raise RecipeError("give the folder of a run and the folder it was trained on, or --architecture and --weights none")
    return export(args.run_folder, args.data, args.fp16)


def run_report(args: argparse.Namespace) -> object:
    from training.report import facts
    from training.report.document import report

    result = report(args.run_folder, args.data, not args.without_images)
    return result if args.json else {"report": str(args.run_folder / REPORT), "data": str(args.run_folder / facts.FILE)}


def run_publish(args: argparse.Namespace) -> object:
    from training.package import publish

    return describe(publish(args.run_folder, args.store, args.name), args.store)


def describe(manifest: Manifest, store: Path) -> dict[str, object]:
    """What a publishing command prints."""
    return {"published": manifest.id, "folder": str(store / manifest.name / str(manifest.version))}


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training", description="Train a classifier and publish it as a model package."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("run", help="train, evaluate, export, report and publish; goes on where it was stopped")
    _add_training(command)
    command.add_argument("--name", required=True, help="of the package: lower-case letters, digits, '.', '_', '-'")
    command.add_argument("--out", type=Path, help="folder of the run (default: runs/NAME)")
    command.add_argument("--store", type=Path, default=registry.STORE, help="folder of the packages (default: %(default)s)")
    _add_fp16(command)
    _add_without_images(command)
    command.set_defaults(run=run_everything)

    command = commands.add_parser("train", help="train a network on a folder of class folders")
    _add_training(command)
    command.add_argument("--out", type=Path, required=True, help="folder for the checkpoint")
    command.add_argument("--resume", action="store_true", help="go on with the checkpoint in --out, by its own recipe")
    command.set_defaults(run=run_train)

    command = commands.add_parser("evaluate", help="measure a checkpoint on images it was not trained on")
    _add_run(command, run_evaluate)

    command = commands.add_parser("export", help="write the network as ONNX, in fp32 and int8, and measure both")
    _add_run(command, run_export, optional=True)
    _add_fp16(command)
    command.add_argument("--architecture", help="without a run: publish this network untrained, for measuring its speed")
    command.add_argument("--weights", choices=["none"], default="none", help="of --architecture: none are random ones")
    command.add_argument("--store", type=Path, default=Path("runs/untrained"), help="of --architecture (default: %(default)s)")

    command = commands.add_parser("report", help="write a page on how good the network is, where it fails and what it sees")
    _add_run(command, run_report)
    _add_without_images(command)

    command = commands.add_parser("publish", help="put an evaluated and exported run into the store as a package")
    command.add_argument("run_folder", metavar="run", type=Path, help="folder of the checkpoint")
    command.add_argument("--name", required=True, help="lower-case letters, digits, '.', '_', '-'")
    command.add_argument("--store", type=Path, default=registry.STORE, help="folder of the packages (default: %(default)s)")
    command.set_defaults(run=run_publish)

    for command in commands.choices.values():
        command.add_argument("--json", action="store_true", help="print the result as JSON on standard output")
    return parser


def _add_training(command: argparse.ArgumentParser) -> None:
    """What decides how a network is trained."""
    command.add_argument("data", type=Path, help="folder of class folders, or one that holds train/ and perhaps val/")
    command.add_argument("--recipe", help=f"name in training/recipes or a TOML file (default: {DEFAULT_RECIPE})")
    command.add_argument("--start-from", type=Path, metavar="RUN", help="begin with the weights of another run's checkpoint")
    command.add_argument("--epochs", type=int, help="passes over the images (default: the recipe's)")
    command.add_argument("--batch-size", type=int, help="images a step (default: the recipe's)")
    command.add_argument("--learning-rate", type=float, help="highest learning rate (default: the recipe's)")
    command.add_argument("--seed", type=int, help="of weights, split, order and augmentation (default: the recipe's)")


def _add_fp16(command: argparse.ArgumentParser) -> None:
    command.add_argument("--fp16", action="store_true", help="write it in fp16 too, for GPUs")


def _add_without_images(command: argparse.ArgumentParser) -> None:
    text = "no image and no file name of the data in the report, which the package holds"
    command.add_argument("--without-images", action="store_true", help=text)


def _add_run(command: argparse.ArgumentParser, run: Callable[[argparse.Namespace], object], optional: bool = False) -> None:
    count = "?" if optional else None
    command.add_argument("run_folder", metavar="run", type=Path, nargs=count, help="folder of the checkpoint")
    where = "the folder trained on; its test/ is used, else the validation images"
    command.add_argument("data", type=Path, nargs=count, help=where)
    command.set_defaults(run=run)


def main(arguments: Sequence[str] | None = None) -> int:
    args = make_parser().parse_args(arguments)
    try:
        result = args.run(args)
    except (TrainingError, PackageError) as err:
        print(f"error: {err}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    print(json.dumps(result, indent=1) if args.json else "\n".join(f"{k}: {v}" for k, v in result.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
