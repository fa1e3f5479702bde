"""python -m service.engine: a process that computes one version, for a worker that serves another until this is ready.

It gives way to those that serve until it answers itself, and ends with its worker. Neighbours: remote.py is the worker's end.
"""

import gc
import mmap
import os
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from models.manifest import PackageError
from service import remote
from service.errors import DeviceLost, OutOfMemory
from service.log import set_up
from service.priority import Priority
from service.remote import Answer, Done, Failed, Open, Ready, Run, layout
from service.runtime import DeviceError, Runtime

REST = 0.5  # seconds without work for each second of warming up, where it cannot give way otherwise


def load(orders: Open, rest: float) -> Runtime:
    key = Path(orders.key) if orders.key else None
    runtime = Runtime(Path(orders.folder), orders.device, orders.precision, orders.threads, key)
    runtime.warm(orders.max_batch, rest)
    return runtime


def explain(error: Exception) -> Failed:
    """Why a version cannot be held, for people."""
    if isinstance(error, PackageError | DeviceError | OutOfMemory | DeviceLost):
        return Failed(type(error).__name__, str(error))
    if isinstance(error, MemoryError) or "bad_alloc" in str(error):
        return Failed("OutOfMemory", "there is no memory left to hold it beside the one in service")
    return Failed(type(error).__name__, f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")


def serve(pipe: socket.socket, runtime: Runtime, max_batch: int, priority: Priority) -> None:
    """Compute what the worker puts into the memory that both see, until it is gone."""
    _, (handle,), *_ = socket.recv_fds(pipe, 1, 1)
    pixels, end, size = layout(runtime.manifest, max_batch)
    shared = mmap.mmap(handle, size)
    os.close(handle)
    spec = runtime.manifest.input
    while True:
        order = remote.ORDERS.decode(remote.receive(pipe, None))
        if isinstance(order, Run):
            images = np.frombuffer(shared, np.uint8, order.images * pixels).reshape(-1, spec.height, spec.width, 3)
            try:
                arrays = runtime.run(images, order.outputs)
                remote.write(shared, end, [arrays[name] for name in order.outputs])
                remote.send(pipe, Done())
            except Exception as err:  # of any kind: the graph is not ours
                remote.send(pipe, explain(err))
        elif isinstance(order, Answer):
            priority.raise_again()


def main(arguments: Sequence[str] | None = None) -> int:
    (number,) = map(int, sys.argv[1:] if arguments is None else arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the worker decides
    pipe = socket.socket(fileno=number)
    priority = Priority()
    rest = 0.0 if priority.lower() else REST
    with suppress(EOFError, BrokenPipeError):
        orders = remote.ORDERS.decode(remote.receive(pipe, None))
        assert isinstance(orders, Open)
        set_up(orders.log_level)
        try:
            runtime = load(orders, rest)
        except Exception as err:
            remote.send(pipe, explain(err))
            return 1
        gc.freeze()
        remote.send(pipe, Ready(runtime.manifest, runtime.provider, runtime.precision, runtime.passed_over))
        serve(pipe, runtime, orders.max_batch, priority)
    return 0


if __name__ == "__main__":
    sys.exit(main())
