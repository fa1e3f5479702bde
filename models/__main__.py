"""Command line: hubel models list | show | verify | diff | promote | rollback | end | retire | rename | gc | pull | push |
sign | pack | unpack."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from models.terminal import program

try:
    import msgspec

    from models.cli import commands
    from models.cli.commands import show_gate
    from models.errors import PackageError
    from models.lifecycle import dry_run, retention
    from models.lifecycle.candidate import Bounds
    from models.lifecycle.promotion import Refused
    from models.lifecycle.rules import Rules
    from models.registry import registry, transfer
    from models.terminal.table import lines, printable
except ImportError as err:
    raise SystemExit(program.missing("models", err)) from None

FAILED = 1
REQUESTS = 1000  # that a candidate answers before it becomes live

Commands = Any  # argparse gives its collection of subparsers no public name


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"{program.NAME} models", description="Look after the store of model packages.")
    collection = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_looking(collection)
    _add_promote(collection)
    _add_life(collection)
    _add_carrying(collection)
    for command in collection.choices.values():
        command.add_argument("--store", type=Path, default=registry.STORE, help="folder of the packages (default: %(default)s)")
        command.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


def _add(
    collection: Commands, name: str, run: Callable[..., list[Any]], show: Callable[..., str] = lines
) -> argparse.ArgumentParser:
    text = program.STORE[name]
    command: argparse.ArgumentParser = collection.add_parser(name, help=text, description=text)
    command.set_defaults(run=run, show=show)
    return command


def _add_looking(collection: Commands) -> None:
    _add(collection, "list", commands.run_list, commands.show_list)
    command = _add(collection, "show", commands.run_show, commands.show_package)
    command.add_argument("model", help="name or name:version")
    command = _add(collection, "diff", commands.run_diff, commands.show_diff)
    command.add_argument("first", help="name or name:version")
    command.add_argument("second", help="name or name:version")
    command = _add(collection, "verify", commands.run_verify, commands.show_verified)
    command.add_argument("model", nargs="?", help="name or name:version (default: every package)")
    command.add_argument("--key", type=Path, help="public key (PEM) that the packages must be signed for")


def _add_promote(collection: Commands) -> None:
    command = _add(collection, "promote", commands.run_promote, commands.show_promotion)
    command.add_argument("model", help="name:version")
    _add_reason(command, "promoted by hand")
    command.add_argument("--force", action="store_true", help="whatever the gate says; recorded in history and gate file")
    command.add_argument("--key", type=Path, help="public key (PEM) that the package must be signed for")
    gate, rules = command.add_argument_group("gate"), Rules()
    gate.add_argument("--data", type=Path, help="held-out images, a folder for each class, that both versions answer")
    gate.add_argument("--classes-change", default="", metavar="WHY", help="let the classes differ, for this reason")
    gate.add_argument("--margin", type=float, default=rules.margin, help="top-1 that may be lost (default: %(default)g)")
    gate.add_argument("--strict", action="store_true", help="refuse a loss that the images cannot exclude, too")
    gate.add_argument(
        "--calibration", type=float, default=rules.calibration, help="rise of calibration error (default: %(default)g)"
    )
    gate.add_argument("--recall", type=float, default=rules.recall, help="recall that a class may lose (default: %(default)g)")
    gate.add_argument("--speed", type=float, default=rules.speed, help="times as long for a batch (default: %(default)g)")
    gate.add_argument("--memory", type=float, default=rules.memory, help="times as much memory (default: %(default)g)")
    gate.add_argument(
        "--seconds", type=float, default=dry_run.SECONDS, help="for a version to be tried out (default: %(default)g)"
    )
    _add_candidate(command)


def _add_candidate(command: argparse.ArgumentParser) -> None:
    group, bounds = command.add_argument_group("as a candidate first"), Bounds()
    way = group.add_mutually_exclusive_group()
    way.add_argument("--shadow", action="store_true", help="compute requests beside the live version, answer none")
    way.add_argument("--canary", type=float, metavar="PERCENT", help="answer that share of the requests")
    group.add_argument("--percent", type=float, default=100.0, help="share of the requests with --shadow (default: %(default)g)")
    group.add_argument("--requests", type=int, default=REQUESTS, help="after which it becomes live (default: %(default)s)")
    texts = {
        "errors": "rise of the share of failed requests",
        "latency": "ratio of the 95th percentiles of latency",
        "disagreement": "share of images with another class, beyond that of the held-out images,",
        "unsure": 'rise of the share of "unsure" answers',
    }
    for field, text in texts.items():
        default = getattr(bounds, field)
        group.add_argument(f"--max-{field}", type=float, default=default, help=f"{text} that ends it (default: {default:g})")


def _add_reason(command: argparse.ArgumentParser, default: str = "") -> None:
    command.add_argument("--reason", default=default, help=f"kept in the history (default: {default or 'none'})")


def _add_life(collection: Commands) -> None:
    command = _add(collection, "rollback", commands.run_rollback)
    command.add_argument("name")
    _add_reason(command)
    command = _add(collection, "end", commands.run_end)
    command.add_argument("name")
    _add_reason(command, "ended by hand")
    command = _add(collection, "retire", commands.run_retire)
    command.add_argument("model", help="name:version")
    command.add_argument("--force", action="store_true", help="also the one that a rollback would bring back")
    _add_reason(command, "retired by hand")
    command = _add(collection, "rename", commands.run_rename)
    command.add_argument("model", help="name or name:version")
    command.add_argument("old", help="class as it is called")
    command.add_argument("new", help="class as it shall be called")
    _add_reason(command)
    command = _add(collection, "gc", commands.run_gc, commands.show_gc)
    command.add_argument("name", nargs="?", help="(default: every name)")
    command.add_argument("--keep", type=int, default=retention.KEEP, help="newest versions that stay (default: %(default)s)")
    command.add_argument("--dry-run", action="store_true", help="only say what would go")


def _add_carrying(collection: Commands) -> None:
    command = _add(collection, "pull", commands.run_pull)
    command.add_argument("source", help="folder, http(s) address or storage that fsspec knows, with …/NAME/VERSION at its end")
    command.add_argument("--seconds", type=float, default=transfer.SECONDS, help="that it may take in all (default: %(default)g)")
    command.add_argument("--key", type=Path, help="public key (PEM) that the package must be signed for")
    command = _add(collection, "push", commands.run_push)
    command.add_argument("model", help="name or name:version")
    command.add_argument("target", help="folder, http(s) address or storage that fsspec knows; NAME/VERSION is added")
    command = _add(collection, "sign", commands.run_sign)
    command.add_argument("model", help="name or name:version")
    command.add_argument("--key", type=Path, required=True, help="private elliptic-curve key (PEM)")
    command = _add(collection, "pack", commands.run_pack)
    command.add_argument("model", help="name or name:version")
    command.add_argument("file", type=Path, help="what to write, a .tar.gz")
    command = _add(collection, "unpack", commands.run_unpack)
    command.add_argument("file", type=Path, help="a .tar.gz that pack wrote")
    command.add_argument("--key", type=Path, help="public key (PEM) that the package must be signed for")


def main(arguments: Sequence[str] | None = None) -> int:
    args = make_parser().parse_args(arguments)
    try:
        rows = args.run(args)
    except Refused as err:
        print(json.dumps([{"gate": msgspec.to_builtins(err.gate)}], indent=1) if args.json else show_gate(err.gate))
        return fail(str(err))
    except PackageError as err:
        return fail(str(err))
    except OSError as err:  # a full disk, a store that is read-only
        return fail(f"{args.store} cannot be changed or read: {err.strerror or err}; nothing became live")
    text = json.dumps(rows, indent=1) if args.json else printable(args.show(rows), keep="\n")
    if text:
        print(text)
    return report_faults(rows)


def report_faults(rows: Sequence[dict[str, Any]]) -> int:
    """Exit code after rows of which some may tell a fault; a last line says how many do."""
    count = sum(bool(row.get("fault")) for row in rows)
    if not count:
        return 0
    what = "has a fault, which its row names" if count == 1 else "have a fault, which their rows name"
    return fail(f"{count} of {len(rows)} packages {what}")


def fail(reason: str) -> int:
    """One line, whatever a package or a server put into it."""
    print(f"error: {printable(reason)}", file=sys.stderr)
    return FAILED


if __name__ == "__main__":
    sys.exit(main())
