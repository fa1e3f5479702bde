"""What a process does that computes one version, for a worker that serves another until this is ready.

It gives way to those that serve until it answers itself, and ends with its worker.
"""

import gc
import mmap
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np

from models.package.manifest import PackageError
from service.engine import client
from service.engine.client import Activate, Failed, Infer, Load, Ready, Result, layout
from service.engine.ipc import MessageSocket, cut
from service.errors import DeviceLost, OutOfMemory
from service.inference.session import DeviceError, OnnxSession
from service.telemetry.log import set_up


def load(request: Load, rest: float) -> OnnxSession:
    key = Path(request.key) if request.key else None
    runtime = OnnxSession(Path(request.folder), request.device, request.precision, request.threads, key, request.gpu_memory)
    runtime.warm(request.max_batch, rest)
    return runtime


def explain(error: Exception) -> Failed:
    """Why a version cannot be held, for people."""
    if isinstance(error, PackageError | DeviceError | OutOfMemory | DeviceLost):
        return Failed(type(error).__name__, cut(str(error)))
    if isinstance(error, MemoryError) or "bad_alloc" in str(error):
        return Failed("OutOfMemory", "there is no memory left to hold it beside the live one")
    first = next(iter(str(error).splitlines()), "")
    return Failed(type(error).__name__, cut(f"{type(error).__name__}: {first}"))


def compute(pipe: MessageSocket, rest: float, answers: Callable[[], object]) -> int:
    """Load what the worker asks for, and compute it until the worker is gone; the exit code.

    rest: seconds without work for each second of warming up. answers: called when the worker answers requests from it.
    """
    with suppress(EOFError, BrokenPipeError):
        request = client.REQUESTS.decode(pipe.receive())
        assert isinstance(request, Load)
        set_up(request.log_level)
        try:
            runtime = load(request, rest)
        except Exception as err:
            pipe.send(explain(err))
            return 1
        gc.freeze()
        pipe.send(Ready(runtime.manifest, runtime.provider, runtime.precision, [cut(way) for way in runtime.skipped_backends]))
        serve(pipe, runtime, request.max_batch, answers)
    return 0


def serve(pipe: MessageSocket, runtime: OnnxSession, max_batch: int, answers: Callable[[], object]) -> None:
    """Compute what the worker puts into the memory that both see, until it is gone."""
    _, (handle,), *_ = socket.recv_fds(pipe.socket, 1, 1)
    pixels, end, size = layout(runtime.manifest, max_batch)
    shared = mmap.mmap(handle, size)
    os.close(handle)
    spec = runtime.manifest.input
    while True:
        order = client.REQUESTS.decode(pipe.receive())
        if isinstance(order, Infer):
            images = np.frombuffer(shared, np.uint8, order.images * pixels).reshape(-1, spec.height, spec.width, 3)
            try:
                arrays = runtime.run(images, order.outputs)
                client.write(shared, end, [arrays[name] for name in order.outputs])
                pipe.send(Result())
            except Exception as err:  # of any kind: the graph is not ours
                pipe.send(explain(err))
        elif isinstance(order, Activate):
            answers()
