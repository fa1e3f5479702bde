"""hubel classify: every image of folders, archives and addresses, without a server or by one."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from models.errors import PackageError
from models.terminal import program
from models.terminal.table import printable
from service.bulk import allowance
from service.bulk.copies import Copies
from service.bulk.errors import BulkError
from service.bulk.formats import writer_of
from service.bulk.item import Item
from service.bulk.journal import facts_of
from service.bulk.model import Model
from service.bulk.output import Output, Stream, Table, is_complete
from service.bulk.progress import Progress
from service.bulk.run import Run
from service.bulk.walk import Listing, walk
from service.settings import Settings

FAILED = 1


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", metavar="PATH", nargs="+", help="file, folder, pattern, zip or tar file, or address for fsspec")
    parser.add_argument("--model", metavar="NAME[:VERSION]", help="package of the store (default: HUBEL_MODEL)")
    parser.add_argument("--url", help="ask the service there instead, with the key in HUBEL_API_KEY")
    parser.add_argument("--out", metavar="FILE", type=Path, help="a .csv, .jsonl or .parquet; without it rows go to stdout")
    parser.add_argument("--overwrite", action="store_true", help="replace an output, or an unfinished one of another run")
    parser.add_argument("--copy-into", metavar="DIR", type=Path, help="copy each image into a folder of its class there")
    parser.add_argument(
        "--max-failures",
        metavar="N|N%",
        type=_allowed,
        default=allowance.DEFAULT,
        help="images that may fail, as a count or a share rounded up (default: %(default)s)",
    )


def _allowed(text: str) -> str:
    try:
        return allowance.parse(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a count nor a share from 0% to 100%") from None


def run(args: argparse.Namespace, config: Settings) -> int:
    """The exit code: 0 where the output is whole, 1 where something stopped it or every image failed, 130 after Ctrl-C."""
    try:
        return _run(args, config)
    except KeyboardInterrupt:
        _say("stopped before the first image was answered")
        return program.INTERRUPTED
    except BrokenPipeError:  # whoever reads has seen enough, as head does
        return FAILED
    except (BulkError, PackageError) as err:
        return _fail(str(err))
    except MemoryError:
        return _fail(
            "there is no memory left; lower HUBEL_MAX_DECODE_BYTES or HUBEL_DECODE_THREADS and run the same command again"
        )


def _run(args: argparse.Namespace, config: Settings) -> int:
    if args.url and args.model:
        raise BulkError(f"--url asks what the service at {args.url} serves; leave --model out")
    if args.out and args.out.is_dir():
        raise BulkError(f"--out {args.out} is a folder; name a file")
    if args.out:
        writer_of(args.out)  # so that a wrong ending is told at once
    listing = walk(args.paths, args.copy_into)
    model = _model(args, config)
    facts = facts_of({**model.facts, **_copies(args)}, listing.items)
    if args.out and is_complete(args.out, facts, args.overwrite):
        _say(f"{args.out} is complete already, nothing was done; --overwrite makes it again")
        return 0
    output = Table(args.out, facts, listing.items, args.overwrite, bool(args.copy_into)) if args.out else Stream()
    try:
        copies = Copies(args.copy_into, model.labels, config.max_body_bytes) if args.copy_into else None
        return _go(args, listing, model, output, copies)
    finally:
        output.close()


def _copies(args: argparse.Namespace) -> dict[str, str]:
    return {"copies": str(args.copy_into.resolve())} if args.copy_into else {}


def _model(args: argparse.Namespace, config: Settings) -> Model:
    if args.url:
        from service.bulk.remote import RemoteModel

        return RemoteModel(args.url, config.max_body_bytes)
    from service.bulk.local import LocalModel  # which computes, and so needs more than help does

    return LocalModel(msgspec.structs.replace(config, model=args.model or config.model))


def _go(args: argparse.Namespace, listing: Listing, model: Model, output: Output, copies: Copies | None) -> int:
    items = listing.items
    _say(_beginning(listing, model, output.done))
    people = not args.out and sys.stdout.isatty()
    progress = Progress(len(items), output.done, quiet=people)
    run = Run(items, model, output, progress, allowance.most(args.max_failures, len(items)), copies)
    try:
        run.go()
    except KeyboardInterrupt:
        _say(_stopped(args, run, items))
        return program.INTERRUPTED
    except BulkError:
        _say(run.text())
        raise
    _say(run.text())
    if not run.summary.answered:
        return _fail(f"none of {len(items):,} images could be answered; the rows say why")
    return 0


def _beginning(listing: Listing, model: Model, done: int) -> str:
    others = f", {listing.left_out:,} other files left out" if listing.left_out else ""
    before = f", {done:,} of them answered before" if done else ""
    return f"{len(listing.items):,} images{before}{others}; {model.facts['model']}, computed by {model.facts['computed by']}"


def _stopped(args: argparse.Namespace, run: Run, items: Sequence[Item]) -> str:
    where = "; the same command goes on from there" if args.out else ""
    return f"stopped after {run.summary.images:,} of {len(items):,} images{where}"


def _say(text: str) -> None:
    sys.stderr.write(printable(text, keep="\n") + "\n")


def _fail(reason: str) -> int:
    _say(f"error: {reason}")
    return FAILED
