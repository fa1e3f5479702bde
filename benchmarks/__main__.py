"""python -m benchmarks: measure, keep what was measured, and write the tables."""

import argparse
import signal
import sys

from benchmarks import machine, photos, report, results, wrk
from benchmarks.capacity import command as capacity
from benchmarks.environments import CACHE, PrepareError
from benchmarks.measure import Run
from benchmarks.processes import ROOT, StartError
from benchmarks.results import Results
from benchmarks.systems import SYSTEMS

MODELS = ("resnet50", "resnet18", "vgg16", "cifar10")
FLOOR = "floor"  # measured beside every system, asked for or not
RAW, TABLES = ROOT / "benchmarks/results.json", ROOT / "benchmarks/RESULTS.md"
PICTURE = ROOT / "docs/images/latency.svg"


def make_parser() -> argparse.ArgumentParser:
    names = (FLOOR, *(system.name for system in SYSTEMS))
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure Hubel beside other servers; `capacity` as first word: how many services a load needs.",
    )
    parser.add_argument("--systems", default="", help=f"comma-separated, of {', '.join(names)}; all where left out")
    parser.add_argument("--models", default="", help=f"comma-separated, of {', '.join(MODELS)}; all where left out")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each system (default: 5)")
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies how long everything is measured (default: 1)")
    parser.add_argument("--write", action="store_true", help="put a part into RESULTS.md too, beside what stands there")
    parser.add_argument("--render", action="store_true", help="write RESULTS.md again from results.json, measure nothing")
    return parser


def chosen(text: str, known: tuple[str, ...], what: str) -> list[str]:
    """Names of a comma-separated list, all where it is empty. Raises PrepareError for an unknown one."""
    names = [name for name in text.replace(",", " ").split() if name] or list(known)
    for name in names:
        if name not in known:
            raise PrepareError(f"there is no {what} {name!r}; there is {', '.join(known)}")
    return names


def main(arguments: list[str] | None = None) -> int:
    words = sys.argv[1:] if arguments is None else arguments
    if words[:1] == ["capacity"]:
        return capacity.main(words[1:])
    options = make_parser().parse_args(words)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was started is stopped
    try:
        if options.render:
            write(results.load(RAW))
            return 0
        return measure(options)
    except (PrepareError, StartError, wrk.MissingClient, ValueError) as err:
        return fail(str(err))


def measure(options: argparse.Namespace) -> int:
    """All that was asked for; kept after every model."""
    names = chosen(options.systems, (FLOOR, *(system.name for system in SYSTEMS)), "system")
    models = chosen(options.models, MODELS, "model")
    systems = [system for system in SYSTEMS if system.name in names]
    wrk.find()
    pictures, words = photos.given()
    part = len(models) < len(MODELS) or len(systems) < len(SYSTEMS)
    run = Run(pictures, options.rounds, options.scale)
    run.results = Results(machine.describe(), command_of(options), words)
    machine.warn()
    failed = 0
    for model in models:
        try:
            run.measure(model, systems)
            keep(run.results, part and not options.write)
        except (PrepareError, StartError) as err:
            failed = fail(f"{model}: {err}")
    print("\n" + report.tables_of(run.results, models))
    for model in models:
        print(report.last_line(run.results, model))
    return failed


def fail(reason: str) -> int:
    print(f"error: {reason}", file=sys.stderr)
    return 1


def keep(measured: Results, aside: bool) -> None:
    """A part stays aside unless it was to be written; the rest goes into the committed files."""
    if aside:
        results.save(measured, CACHE / "results.json")
        return
    whole = results.load(RAW)
    whole.merge(measured)
    results.save(whole, RAW)
    write(whole)


def write(whole: Results) -> None:
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    report.write(whole, TABLES, PICTURE)


def command_of(options: argparse.Namespace) -> str:
    """The make command that does the same."""
    given = {"SYSTEMS": options.systems, "MODELS": options.models}
    given |= {"ROUNDS": options.rounds if options.rounds != 5 else "", "SCALE": options.scale if options.scale != 1 else ""}
    return " ".join(["make bench", *(f"{name}={','.join(str(value).split())}" for name, value in given.items() if value)])


if __name__ == "__main__":
    sys.exit(main())
