"""python -m benchmarks capacity: measure what a service carries here, and say how many a load needs."""

import argparse
import sys
from collections.abc import Sequence

import msgspec

from benchmarks import machine, photos, wrk
from benchmarks.capacity import measure
from benchmarks.capacity.curve import Curve
from benchmarks.capacity.page import page
from benchmarks.environments import CACHE, PrepareError
from benchmarks.processes import ROOT, StartError

CURVES = CACHE / "curves.json"
PAGE = ROOT / "benchmarks/CAPACITY.md"
MODELS = ("cifar10", "resnet50")


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks capacity", description=__doc__)
    parser.add_argument(
        "--models", type=lambda text: text.split(","), default=list(MODELS), help="comma-separated (default: %(default)s)"
    )
    parser.add_argument("--rate", type=positive, help="images a second to be served")
    parser.add_argument("--p99", type=positive, default=200.0, help="milliseconds that 99 of 100 answers may take (default: 200)")
    parser.add_argument("--price", type=positive, help="what a machine like this one costs an hour, in any currency")
    parser.add_argument("--rounds", type=int, default=3, help="of each measurement (default: 3)")
    parser.add_argument(
        "--seconds", type=positive, default=5.0, help="of each measurement, open loops four times as long (default: 5)"
    )
    parser.add_argument("--again", action="store_true", help="answer with the curves measured last, measure nothing")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.relative_to(ROOT)}")
    return parser


def positive(text: str) -> float:
    if not (value := float(text)) > 0 or value == float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return value


def main(arguments: Sequence[str]) -> int:
    options = make_parser().parse_args(arguments)
    try:
        curves = load() if options.again else measured(options)
    except (PrepareError, StartError, wrk.MissingClient, ValueError) as err:
        print(f"error: {err}", file=sys.stderr)
        return 1
    asked = (options.rate, options.p99) if options.rate else None
    text = page(curves, machine.describe()["processor"], command_of(arguments), asked, options.price)
    print(text)
    if options.write:
        PAGE.write_text(text)
    return 0


def measured(options: argparse.Namespace) -> list[Curve]:
    wrk.find()
    pictures, _ = photos.given()
    machine.warn()
    curves: list[Curve] = []
    for model in options.models:
        curves.append(measure.measure(model, pictures, options.rounds, options.seconds))
        CURVES.parent.mkdir(exist_ok=True)
        CURVES.write_bytes(msgspec.json.encode(curves))
    return curves


def load() -> list[Curve]:
    """The curves measured last. Raises PrepareError."""
    try:
        return msgspec.json.decode(CURVES.read_bytes(), type=list[Curve])
    except (OSError, msgspec.DecodeError) as err:
        raise PrepareError(f"no curves in {CURVES.relative_to(ROOT)} ({err}); measure without --again first") from None


def command_of(arguments: Sequence[str]) -> str:
    return " ".join(["python -m benchmarks capacity", *(word for word in arguments if word not in ("--write", "--again"))])
