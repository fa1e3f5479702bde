"""hubel index and hubel near-copies: make the index of a folder of images, and list the near copies in one."""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import msgspec

from models.errors import PackageError
from models.image.limits import Limits
from models.registry import registry
from models.terminal import program
from models.terminal.table import printable
from service.bulk.progress import Progress, duration
from service.errors import OutOfMemory
from service.settings import PREFIX, Settings
from service.similar import manifest as manifests
from service.similar.index import Index
from service.similar.manifest import IndexFault
from service.similar.near_copies import THRESHOLD, near_copies
from service.similar.walk import walk

if TYPE_CHECKING:
    from service.similar.build import Built  # which needs ONNX Runtime

SHOWN = 20  # images that cannot be used, by name
VARIABLE = f"{PREFIX}INDEX_DIR"


def add_to(add: Callable[..., argparse.ArgumentParser], read: Callable[[], Settings]) -> None:
    """add: makes a command of a name. read: the settings."""
    command = add(
        "index",
        help=program.SERVICE["index"],
        description="Makes or renews DIR/NAME/VERSION, where a service with HUBEL_INDEX_DIR=DIR finds it; docs/similar.md.",
    )
    command.add_argument("folder", metavar="FOLDER", type=Path, help="images, in folders by class or not")
    _of_a_version(command)
    command.add_argument("--json", action="store_true", help="print what came of it as JSON")
    command.set_defaults(run=run_index, read=read)
    command = add("near-copies", help=program.SERVICE["near-copies"])
    _of_a_version(command)
    command.add_argument(
        "--threshold", metavar="COSINE", type=_cosine, default=THRESHOLD, help="least likeness of a pair (default: %(default)s)"
    )
    command.add_argument("--json", action="store_true", help="print the groups as JSON")
    command.set_defaults(run=run_near_copies, read=read)


def _of_a_version(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--model", metavar="NAME[:VERSION]", help="of the store; without a version the live one (default: HUBEL_MODEL)"
    )
    command.add_argument("--out", metavar="DIR", type=Path, help=f"folder of all indexes (default: {VARIABLE})")


def _cosine(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is no cosine above 0 and up to 1")
    return value


def root_of(out: Path | None, config: Settings) -> Path:
    """Raises IndexFault where none is named."""
    if out is None and not config.index_dir:
        raise IndexFault(f"there is no folder for the index: name one with --out DIR, or set {VARIABLE}")
    return out or Path(config.index_dir)


def configured(args: argparse.Namespace) -> Settings:
    """The settings, with the model that is asked for."""
    config: Settings = args.read()
    return msgspec.structs.replace(config, model=args.model) if args.model else config


def run_index(args: argparse.Namespace) -> int:
    """Raises IndexFault, SettingsError."""
    try:
        return _index(args)
    except KeyboardInterrupt:
        say("\nstopped; an index that was there before stays", sys.stderr)
        return program.INTERRUPTED


def _index(args: argparse.Namespace) -> int:
    from service.inference.backends.choice import DeviceError, DeviceLost  # what needs ONNX Runtime
    from service.inference.classifier import Classifier
    from service.similar.build import build

    config = configured(args)
    root = root_of(args.out, config)
    listing = walk(args.folder)
    try:
        folder = registry.resolve(config.model_store(), config.model)
        how = (config.device, config.precision, config.inference_threads(), config.signature_key(), config.gpu_memory())
        classifier = Classifier.load(folder, *how)
        classifier.session.warm(config.max_batch)
        progress, began = Progress(len(listing.pictures), 0), time.monotonic()
        limits = Limits(config.max_pixels, config.max_side_pixels)
        built = build(listing, root, classifier, limits, config.inference_threads(), progress.advance)
    except (PackageError, DeviceError, DeviceLost, OutOfMemory) as err:
        raise IndexFault(str(err)) from err
    progress.clear()
    took = duration(time.monotonic() - began)
    say(_as_json(built) if args.json else _told_of(built, classifier.manifest.id, took))
    for line in [] if args.json else told(built.failed, built.others):
        say(line, sys.stderr)
    return 0


def say(text: str, stream: TextIO | None = None) -> None:
    (stream or sys.stdout).write(text + "\n")


def _as_json(value: object) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=1).decode()


def _told_of(built: "Built", model: str, took: str) -> str:
    anew = f", all anew: {printable(built.anew)}" if built.anew else ""
    return (
        f"{model}: {built.images:,} images in {built.place}, in {took}\n"
        f"{built.added:,} added, {built.changed:,} changed, {built.removed:,} removed, {built.unchanged:,} unchanged; "
        f"{built.computed:,} computed{anew}"
    )


def told(failed: dict[str, str], others: int) -> Sequence[str]:
    """What is not in an index, in lines."""
    lines = [f"{others:,} files are no images by their names"] if others else []
    if failed:
        lines.append(f"{len(failed):,} cannot be used and are left out:")
        lines += [f"  {printable(name)}: {printable(reason)}" for name, reason in list(failed.items())[:SHOWN]]
    if len(failed) > SHOWN:
        lines.append(f"  and {len(failed) - SHOWN:,} more (--json names all)")
    return lines


def run_near_copies(args: argparse.Namespace) -> int:
    """Raises IndexFault, SettingsError."""
    config = configured(args)
    root = root_of(args.out, config)
    try:
        package = registry.describe(registry.resolve(config.model_store(), config.model))
    except PackageError as err:
        raise IndexFault(str(err)) from err
    place = manifests.place_of(root, package)
    try:
        index = Index(place)
    except FileNotFoundError as err:
        make = program.command("index", "FOLDER", "--model", package.id, "--out", root)
        raise IndexFault(f"there is no index of {package.id} in {place}; make one: {make}") from err
    progress = Progress(index.manifest.images, 0)
    groups = near_copies(index, args.threshold, progress.advance)
    progress.clear()
    if args.json:
        say(_as_json({"threshold": args.threshold, "groups": groups}))
        return 0
    for group in groups:
        say(f"{group.score:.3f}  " + "  ".join(map(printable, group.images)))
    held = sum(len(group.images) for group in groups)
    say(f"{index.manifest.images:,} images, {len(groups):,} groups of near copies with {held:,} of them")
    return 0
