"""python -m service: serve the model that the settings name, until SIGTERM or Ctrl-C."""

import argparse
import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from models import registry
from models.manifest import PackageError
from service import settings
from service.settings import Settings, SettingsError

FAILED = 1
SWITCH_SECONDS = 0.0005  # how long the loop waits at most for a thread that decodes to give up the interpreter; Python: 0.005
log = logging.getLogger("hubel")


def make_parser() -> argparse.ArgumentParser:
    defaults = [f"  {settings.PREFIX}{name.upper()}={value}" for name, value in msgspec.structs.asdict(Settings()).items()]
    return argparse.ArgumentParser(
        prog="python -m service",
        description="Serve one model over HTTP until SIGTERM or Ctrl-C.",
        epilog="Settings are environment variables; docs/settings.md describes them. Defaults:\n" + "\n".join(defaults),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    make_parser().parse_args(arguments)
    try:
        config = settings.read()
    except SettingsError as err:
        return fail(str(err))
    try:
        set_up_log(config)
        folder = registry.resolve(Path(config.store), config.model)
        registry.verify(folder, config.signature_key())  # so that damage is told at once, and not by every worker
        listener = bind(config)
    except PackageError as err:
        return fail(str(err))
    except OSError as err:
        reason = str(err.strerror).partition(" (")[0]  # Python repeats the address there
        return fail(f"cannot listen on {config.host}:{config.port}: {reason}; set HUBEL_HOST or HUBEL_PORT")
    with listener, tempfile.TemporaryDirectory(prefix="hubel-metrics-") as folder_of_metrics:
        os.environ["BENTOML_DO_NOT_TRACK"] = "True"
        if config.workers > 1:
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder_of_metrics
        return serve(config, listener, folder)


def fail(reason: str) -> int:
    print(f"error: {reason}", file=sys.stderr)
    return FAILED


def set_up_log(config: Settings) -> None:
    logging.basicConfig(level=config.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it warns of every malformed body


def bind(config: Settings) -> socket.socket:
    """The listening socket, opened before anything slow, so that a port in use is told at once."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    return socket.create_server((config.host, config.port), family=family, backlog=2048)


def serve(config: Settings, listener: socket.socket, folder: Path) -> int:
    """Run one process, or several under uvicorn's supervisor, which replaces one that dies."""
    import uvicorn  # after the environment is set: it is read when these are imported
    from uvicorn.config import STARTUP_FAILURE
    from uvicorn.supervisors import Multiprocess

    from service.protocol import RefusingProtocol

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))  # while loading; and uvicorn raises them once more when it has drained
    options = uvicorn.Config(
        "service.__main__:worker",
        factory=True,
        workers=config.workers,
        loop="uvloop",
        http=RefusingProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nothing here looks at the client's address
        timeout_graceful_shutdown=config.shutdown_seconds,
    )
    log.info("loading %s:%s to serve it at http://%s:%d", folder.parent.name, folder.name, config.host, config.port)
    if config.workers > 1:
        supervisor = Multiprocess(options, [listener])
        supervisor.run()
        return FAILED if any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes) else 0
    if not load():
        return FAILED
    server = uvicorn.Server(options)
    server.run(sockets=[listener])
    return 0 if server.started else FAILED


def load() -> bool:
    """Load the model of this process; says why where it cannot."""
    from service import app
    from service.runtime import DeviceError

    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        app.load()
    except (PackageError, DeviceError) as err:
        fail(str(err))
        return False
    return True


def worker() -> object:
    """The ASGI application of one process. One that cannot load the model ends its supervisor too."""
    from uvicorn.config import STARTUP_FAILURE

    from service import app

    set_up_log(app.SETTINGS)
    if not load():
        sys.exit(STARTUP_FAILURE)
    return app.application()


if __name__ == "__main__":
    sys.exit(main())
