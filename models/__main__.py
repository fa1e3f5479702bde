"""Command line: python -m models list | verify | promote | rollback | sign | pack | unpack."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from models import archive, registry, signature
from models import manifest as manifests
from models.errors import PackageError

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
    signed = {"signature": "fits the key"} if args.key else {}
    return [{"model": registry.verify(folder, args.key).id, "files": "whole", **signed} for folder in folders]


def run_sign(args: argparse.Namespace) -> list[dict[str, object]]:
    folder = registry.resolve(args.store, args.model)
    data = manifests.read_bytes(folder)
    manifest = registry.verify(folder)
    signature.sign(folder, data, args.key)
    return [{"model": manifest.id, "signature": str(signature.path(folder))}]


def run_pack(args: argparse.Namespace) -> list[dict[str, object]]:
    folder = registry.resolve(args.store, args.model)
    archive.pack(folder, args.file)
    return [{"model": f"{folder.parent.name}:{folder.name}", "file": str(args.file), "bytes": args.file.stat().st_size}]


def run_unpack(args: argparse.Namespace) -> list[dict[str, object]]:
    manifest = archive.unpack(args.store, args.file, args.key)
    pointer = registry.pointer(args.store, manifest.name)
    return [{"model": manifest.id, "in_service": pointer is not None and pointer.version == manifest.version}]


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
    command.add_argument("--key", type=Path, help="public key (PEM) that the packages must be signed for")
    command.set_defaults(run=run_verify)

    command = commands.add_parser("promote", help="put a version into service (a running service takes it at its next start)")
    command.add_argument("model", help="name:version")
    command.add_argument("--reason", default="promoted by hand", help="kept in the pointer (default: %(default)s)")
    command.set_defaults(run=run_promote)

    command = commands.add_parser("rollback", help="put the version before back into service")
    command.add_argument("name")
    command.set_defaults(run=run_rollback)

    command = commands.add_parser("sign", help="sign a package, so that others can tell who published it")
    command.add_argument("model", help="name or name:version")
    command.add_argument("--key", type=Path, required=True, help="private elliptic-curve key (PEM)")
    command.set_defaults(run=run_sign)

    command = commands.add_parser("pack", help="write a package as one file")
    command.add_argument("model", help="name or name:version")
    command.add_argument("file", type=Path, help="what to write, a .tar.gz")
    command.set_defaults(run=run_pack)

    command = commands.add_parser("unpack", help="put the package in such a file into the store, once it verifies")
    command.add_argument("file", type=Path, help="a .tar.gz that pack wrote")
    command.add_argument("--key", type=Path, help="public key (PEM) that the package must be signed for")
    command.set_defaults(run=run_unpack)

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
    except OSError as err:  # a full disk, a store that is read-only
        print(f"error: {args.store} cannot be changed or read: {err.strerror}; nothing was put into service", file=sys.stderr)
        return FAILED
    if args.json:
        print(json.dumps(rows, indent=1))
    else:
        for row in rows:
            print("  ".join(f"{key} {value}" for key, value in row.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
