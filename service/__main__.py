"""hubel serve: serve the model that the settings name, until SIGTERM or Ctrl-C. Beside it: hubel classify | status | new-key |
forget.
"""

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

from models.terminal import program

try:
    import msgspec

    from models.captures import captured, catalogue
    from models.package.manifest import PackageError
    from models.registry import registry
    from service import settings
    from service.bulk import command as bulk
    from service.errors import InvalidAnswer
    from service.http import api_keys
    from service.http.api_keys import KeysError
    from service.monitoring import answer_token, feedback_keys
    from service.monitoring.feedback_keys import FeedbackKeyError
    from service.processes.control import enders
    from service.settings import Settings, SettingsError
    from service.similar import commands as similar
    from service.similar.manifest import IndexFault
    from service.status import KEY_VARIABLE, StatusError, ask, show
    from service.telemetry import multiprocess, tracing
    from service.telemetry.log import set_up
    from service.telemetry.tracing import TracingError
except ImportError as err:
    raise SystemExit(program.missing("service", err)) from None

FAILED = 1
IGNORED = (signal.SIGUSR1, signal.SIGUSR2)  # ask other programs to open their log again, and would end this
RUNTIME = "RUNTIME_DIRECTORY"  # systemd's, of a unit that has one
log = logging.getLogger("hubel")


def make_parser() -> argparse.ArgumentParser:
    defaults = [f"  {settings.PREFIX}{name.upper()}={value}" for name, value in msgspec.structs.asdict(Settings()).items()]
    more: dict[str, Any] = {
        "description": "Serve one model over HTTP until SIGTERM or Ctrl-C.",
        "epilog": "Settings are environment variables; docs/settings.md describes them. Defaults:\n" + "\n".join(defaults),
        "formatter_class": argparse.RawDescriptionHelpFormatter,
    }
    parser = argparse.ArgumentParser(prog=program.NAME, **more)
    parser.set_defaults(run=run_service)
    commands = parser.add_subparsers(metavar="COMMAND")
    commands.add_parser("serve", help=program.SERVICE["serve"], **more)
    command = commands.add_parser(
        "status",
        help=program.SERVICE["status"],
        description=f"Asks the service at HUBEL_HOST and HUBEL_PORT; where it wants an API key, with the one in {KEY_VARIABLE}.",
    )
    command.add_argument("--json", action="store_true", help="print the result as JSON")
    command.set_defaults(run=run_status)
    command = commands.add_parser(
        "classify",
        help=program.SERVICE["classify"],
        description="docs/bulk.md describes it. HUBEL_* settings count as for serve.",
    )
    bulk.add_options(command)
    command.set_defaults(run=lambda args: bulk.run(args, settings.read()))
    command = commands.add_parser("forget", help=program.SERVICE["forget"])
    command.add_argument("answer", metavar="ANSWER", help="of a result, or the id in the name of a file in answers/")
    command.set_defaults(run=run_forget)
    command = commands.add_parser(
        "new-key",
        help=program.SERVICE["new-key"],
        description="The key goes to stderr, once; its entry for HUBEL_API_KEYS_FILE to stdout.",
    )
    command.add_argument("name", metavar="NAME", help="who it is for, as in the log and in metrics: a to z, 0 to 9, . _ -")
    command.add_argument("--limit", metavar="LIMIT", help="most images in a time, as in '50/second' (default: no limit)")
    command.set_defaults(run=run_new_key)
    similar.add_to(commands.add_parser, settings.read)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    args = make_parser().parse_args(arguments)
    try:
        return args.run(args)
    except (SettingsError, StatusError, IndexFault) as err:
        return fail(str(err))
    except ModuleNotFoundError as err:
        print(program.missing("service", err), file=sys.stderr)
        return FAILED


def run_status(args: argparse.Namespace) -> int:
    """Ask the service that the settings name; 0 where it is ready and all its workers are."""
    config = settings.read()
    status = ask(config.host, config.port, os.environ.get(KEY_VARIABLE, ""))
    print(msgspec.json.format(msgspec.json.encode(status), indent=1).decode() if args.json else show(status))
    return 0 if status.well else FAILED


def run_forget(args: argparse.Namespace) -> int:
    """Delete what is kept of an answer's request; a running service need not be told."""
    config = settings.read()
    folder = Path(config.feedback_dir)
    if not config.feedback_dir or not captured.is_folder(folder):
        return fail(f"HUBEL_FEEDBACK_DIR is {config.feedback_dir!r}, no folder of kept images; set it as the service has it")
    try:
        deleted = catalogue.forget(folder, id_of(args.answer))
    except OSError as err:
        return fail(f"{folder} cannot be changed: {err.strerror}")
    if not deleted:
        return fail(f"nothing is kept of the request of {args.answer!r} in {folder}; give the answer that a result of it holds")
    print(f"deleted what was kept of the request: {deleted} labels, and the images that no other answer has")
    return 0


def id_of(answer: str) -> str:
    """The id in an answer's token, whoever signed it, as the folder is the operator's; anything else is taken for an id."""
    try:
        return answer_token.read_id(answer)
    except InvalidAnswer:
        return answer


def run_service(_: argparse.Namespace) -> int:
    config = settings.read()
    try:
        set_up(config.log_level, config.log)
        tracing.endpoint()  # so that what is wrong with it is told at once
        folder = registry.resolve(config.model_store(), config.model)
        registry.verify(folder, config.signature_key())  # so that damage is told at once, and not by every worker
        if config.api_keys_file:
            api_keys.read(Path(config.api_keys_file))
        if config.feedback_dir and (reason := cannot_keep(Path(config.feedback_dir))):
            return fail(reason)
        keys = feedback_keys.find(config, {})
        api_keys.require(config.api_keys_file, config.allow_anonymous, config.host)
        listener = bind(config)
    except (PackageError, KeysError, FeedbackKeyError, TracingError) as err:
        return fail(str(err))
    except OSError as err:
        reason = str(err.strerror).partition(" (")[0]  # Python repeats the address there
        return fail(f"cannot listen on {config.host}:{config.port}: {reason}; set HUBEL_HOST or HUBEL_PORT")
    parent = place_of_metrics()
    try:
        if removed := multiprocess.clear(parent):
            log.info("removed what services that were killed left in %s: %d folders", parent, len(removed))
        temporary = tempfile.TemporaryDirectory(prefix=multiprocess.PREFIX, dir=parent, ignore_cleanup_errors=True)
    except OSError as err:
        return fail(no_metrics(str(parent), err))
    os.environ[feedback_keys.VARIABLE] = feedback_keys.hand_on(keys)
    with listener, temporary as folder_of_metrics:
        return serve(config, listener, folder, Path(folder_of_metrics))


def place_of_metrics() -> Path:
    """Where the folder of the metrics is made: what nothing cleans, where systemd gave that, else where temporary files are."""
    given = os.environ.get(RUNTIME, "").partition(":")[0]
    chosen = "TMPDIR" not in os.environ and os.path.isabs(given) and os.access(given, os.W_OK)
    return Path(given if chosen else tempfile.gettempdir())


def no_metrics(folder: str, error: OSError) -> str:
    return f"metrics cannot be kept in {folder}: {error.strerror}; set TMPDIR to a folder with room"


def cannot_keep(folder: Path) -> str | None:
    """Why no images can be kept in a folder."""
    try:
        captured.prepare(folder)
    except OSError as err:
        return f"images cannot be kept in {folder}: {err.strerror}; set HUBEL_FEEDBACK_DIR to another folder, or leave it out"
    return None


def fail(reason: str) -> int:
    print(f"error: {reason}", file=sys.stderr)
    return FAILED


def run_new_key(args: argparse.Namespace) -> int:
    try:
        key, block = api_keys.make(args.name, args.limit)
    except ValueError as err:
        return fail(str(err))
    print(f"The key of {args.name}, shown once and kept nowhere: {key}", file=sys.stderr)
    print(block, end="")
    return 0


def bind(config: Settings) -> socket.socket:
    """The listening socket, opened before anything slow, so that a port in use is told at once."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    return socket.create_server((config.host, config.port), family=family, backlog=2048)


def serve(config: Settings, listener: socket.socket, package: Path, folder_of_metrics: Path) -> int:
    """Supervise the workers, which serve the package."""
    os.environ["BENTOML_DO_NOT_TRACK"] = "True"
    os.environ[multiprocess.VARIABLE] = str(folder_of_metrics)
    multiprocess.open_as(multiprocess.SUPERVISOR)
    try:
        multiprocess.prepare(folder_of_metrics, multiprocess.SUPERVISOR)
    except OSError as err:
        return fail(no_metrics(str(folder_of_metrics), err))
    from service.processes import supervisor  # after the metrics have their place

    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)  # the workers inherit it
    told = Event()
    for number in enders(signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: told.set())  # until the supervisor listens
    supervisor.allow_many_files()
    log.info("loading %s:%s to serve it at http://%s:%d", package.parent.name, package.name, config.host, config.port)
    return asyncio.run(supervise(config, listener, package, folder_of_metrics, told))


async def supervise(config: Settings, listener: socket.socket, package: Path, folder_of_metrics: Path, told: Event) -> int:
    from service.engine.start import load_request
    from service.processes.supervisor import Supervisor
    from service.rollout.watcher import RegistryWatcher

    stop_seconds = config.drain_ms / 1000 + config.shutdown_seconds
    supervisor = Supervisor(
        listener,
        folder_of_metrics,
        RegistryWatcher(config.model_store(), package.parent.name, int(package.name)),
        follows=":" not in config.model,
        workers=config.worker_count(),
        load=partial(load_request, config),
        hang_seconds=config.hang_seconds,
        stop_seconds=stop_seconds,
    )
    code = await supervisor.run(told.is_set)
    return fail(supervisor.reason) if supervisor.reason else code


if __name__ == "__main__":
    sys.exit(main())
