"""Command line: python -m models list | verify | promote | rollback."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from models import manifest as manifests
from models import registry
from models.manifest import PackageError

FAILED = 1


def run_list(args: argparse.Namespace) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for folder in registry.packages(args.store):
        manifest = manifests.read(folder)
        pointer = registry.pointer(args.store, manifest.name)
        rows.append(
            {
                "model": manifest.id,
                "in_service": pointer is not None and pointer.version == manifest.version,
                "architecture": manifest.architecture,
                "classes": len(manifest.labels),
                "top1": manifest.evaluation.top1,
                "created": manifest.created.isoformat(timespec="seconds"),
            }
        )
    return rows


def run_verify(args: argparse.Namespace) -> list[dict[str, object]]:
    folders = [registry.resolve(args.store, args.model)] if args.model else list(registry.packages(args.store))
    return [{"model": registry.verify(folder).id, "files": "whole"} for folder in folders]


def run_promote(args: argparse.Namespace) -> list[dict[str, object]]:
    folder = registry.resolve(args.store, args.model)
    pointer = registry.promote(args.store, folder.parent.name, int(folder.name), args.reason)
    return [{"model": folder.parent.name, "version": pointer.version, "before": pointer.before}]


def run_rollback(args: argparse.Namespace) -> list[dict[str, object]]:
    pointer = registry.roll_back(args.store, args.name)
    return [{"model": args.name, "version": pointer.version, "before": pointer.before}]


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m models", description="Look after the store of model packages.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    commands.add_parser("list", help="every package in the store").set_defaults(run=run_list)

    command = commands.add_parser("verify", help="check the files of a package against its manifest")
    command.add_argument("model", nargs="?", help="name or name:version (default: every package)")
    command.set_defaults(run=run_verify)

    command = commands.add_parser("promote", help="put a version into service (a running service takes it at its next start)")
    command.add_argument("model", help="name:version")
    command.add_argument("--reason", default="promoted by hand", help="kept in the pointer (default: %(default)s)")
    command.set_defaults(run=run_promote)

    command = commands.add_parser("rollback", help="put the version before back into service")
    command.add_argument("name")
    command.set_defaults(run=run_rollback)

    for command in commands.choices.values():
        command.add_argument("--store", type=Path, default=registry.STORE, help="folder of the packages (default: %(default)s)")
        command.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    args = make_parser().parse_args(arguments)
    try:
        rows = args.run(args)
    except PackageError as err:
        print(f"error: {err}", file=sys.stderr)
        return FAILED
    if args.json:
        print(json.dumps(rows, indent=1))
    else:
        for row in rows:
            print("  ".join(f"{key} {value}" for key, value in row.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
