"""python -m service.processes.worker: one process that serves, as supervisor.py starts it: connect, serve, drain."""

import asyncio
import gc
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import partial
from threading import Event
from typing import TYPE_CHECKING, cast

import uvicorn

from service import settings
from service.engine.board import Board
from service.engine.client import Attachment, EngineError
from service.http.api_keys import KeysError
from service.processes.control import WorkerControl, enders
from service.rollout.messages import Channel, DesiredState
from service.settings import Settings
from service.telemetry import multiprocess
from service.telemetry.log import set_up
from service.telemetry.tracing import TracingError

if TYPE_CHECKING:
    from service.http.asgi import HttpApp
    from service.http.cors import Cors
    from service.http.protocol import LimitedConnection

FAILED = 1
MODEL = settings.PREFIX + "MODEL"
ORDERS_SECONDS = 60.0  # until the supervisor says what to serve
SWITCH_SECONDS = 0.0005  # how long the loop waits at most for a thread that decodes to give up the interpreter; Python: 0.005


class Server(uvicorn.Server):
    """uvicorn's, stopped by us alone, and not before what waits at the door is let in. on_start: called once it serves."""

    def __init__(self, config: uvicorn.Config, on_start: Callable[[], None]) -> None:
        super().__init__(config)
        self.on_start = on_start

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        with multiprocess.temporary():  # BentoML makes a folder for a client, which nobody uses, and keeps it
            await super().startup(sockets)
        self.on_start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for _ in range(10):  # turns of the loop: to accept, and to read, what has come by now
            await asyncio.sleep(0)
        await super().shutdown(sockets)


def load(engine: "Attachment") -> "HttpApp | Cors":
    """The application, connected to the engine; where it cannot be had, the process ends and says why."""
    from service import bento  # after the metrics have their place

    try:
        bento.GIVEN.append(engine)
        bento.access()
        bento.tracer()
        bento.engine()
    except (EngineError, KeysError, TracingError) as err:
        sys.exit(f"error: {err}")
    return bento.application()


def first_orders(line: Channel) -> DesiredState:
    """What the supervisor says before anything else."""
    while select.select([line.pipe], [], [], ORDERS_SECONDS)[0] and (data := line.pipe.recv(65_536)):
        if desired := list(line.parse(data, DesiredState)):
            return desired[-1]
    sys.exit("error: the supervisor does not say what to serve")


def serve(config: Settings, app: "HttpApp | Cors", listener: socket.socket, line: Channel, desired: DesiredState) -> int:
    from service import bento
    from service.http.asgi import HttpApp
    from service.http.connections import Connections, Limits
    from service.http.protocol import LimitedConnection
    from service.telemetry import metrics  # after they have their place

    control = WorkerControl(
        app if isinstance(app, HttpApp) else app.http_app,
        bento.running,
        line,
        desired,
        hang_seconds=config.hang_seconds,
        drain_seconds=config.drain_ms / 1000,
        upkeep=metrics.upkeep,
    )
    limits = (config.max_connections, config.deadline_ms / 1000, config.keep_alive_seconds, config.max_unread_bytes)
    options = uvicorn.Config(
        app,
        loop="uvloop",
        http=partial(LimitedConnection, app, Connections(Limits(*limits))),  # type: ignore[arg-type]
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nothing here looks at the client's address
        timeout_keep_alive=config.keep_alive_seconds,
        timeout_graceful_shutdown=config.shutdown_seconds,
    )
    told = Event()
    for number in enders(signal.SIGTERM):  # while it starts; before, it ends the process: nothing is lost
        signal.signal(number, lambda *_: told.set())

    def finish() -> None:
        for connection in server.server_state.connections:
            cast("LimitedConnection", connection).finish()

    def stop() -> None:
        server.should_exit = True

    def begin() -> None:
        control.begin(finish, stop)
        if told.is_set():
            control.drain()

    server = Server(options, begin)

    server.run(sockets=[listener])
    return 0 if server.started else FAILED


def main(arguments: Sequence[str] | None = None) -> int:
    place, listener, pipe, board = map(int, sys.argv[1:] if arguments is None else arguments)
    config = settings.read()
    set_up(config.log_level, config.log)
    multiprocess.open_as(multiprocess.name_of(place))
    line = Channel(socket.socket(fileno=pipe))
    desired = first_orders(line)
    os.environ[MODEL] = f"{config.model.partition(':')[0]}:{desired.serve}"  # what the others serve, whatever the pointer says
    sys.setswitchinterval(SWITCH_SECONDS)
    app = load(Attachment(desired.engines[desired.serve], Board(board), place, config.worker_count()))
    gc.freeze()  # what the libraries made stays: to look through it again takes 100 ms, in which nobody is answered
    return serve(config, app, socket.socket(fileno=listener), line, desired)


if __name__ == "__main__":
    sys.exit(main())
