"""An engine of a few lines: it loads nothing, gives signs of life on the board, and does what the file "orders" says.

    python engine.py FOLDER LISTENER CONTROL BOARD ASIDE

It notes what it hears and when it ends in FOLDER/engine-VERSION.PID. Fronts are counted by their connections.
"""

import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from service.engine import messages
from service.engine.board import Board
from service.engine.ipc import MessageSocket
from service.engine.messages import Activate, Failed, Load, Loaded


def main() -> None:
    folder, (listener, pipe, memory, aside) = Path(sys.argv[1]), map(int, sys.argv[2:])
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    control = MessageSocket(socket.socket(fileno=pipe))
    load = messages.TO_ENGINE.decode(control.receive())
    assert isinstance(load, Load)
    orders = (folder / "orders").read_text()
    notes = (folder / f"engine-{load.folder}.{os.getpid()}").open("a", buffering=1)
    print(f"place {load.place} aside {aside}", file=notes)
    if orders == "fail":
        control.send(Failed("PackageError", "its hash is wrong"))
        return
    if orders == "die":
        sys.exit(7)
    if orders == "mumble":
        control.socket.sendall(b"\0\0\0\2{}")
    while orders in ("load for ever", "mumble"):
        time.sleep(1000)
    if orders == "load slowly and die":
        time.sleep(0.5)
    row = Board(memory).engine(load.place)
    row.beat(time.perf_counter())
    control.send(Loaded())
    serve(socket.socket(fileno=listener), control, orders, row.beat, notes)


def serve(listener: socket.socket, control: MessageSocket, orders: str, beat: Callable[[float], object], notes: TextIO) -> None:
    selector, ending, fronts = selectors.DefaultSelector(), False, set[socket.socket]()
    for end in (listener, control.socket):
        selector.register(end, selectors.EVENT_READ)
    while not (ending and not fronts):
        for key, _ in selector.select(0.02):
            end = key.fileobj
            if end is listener:
                front, _ = listener.accept()
                fronts.add(front)
                selector.register(front, selectors.EVENT_READ)
            elif end is not control.socket:
                selector.unregister(end)
                fronts.discard(end)
            else:
                try:
                    assert isinstance(messages.TO_ENGINE.decode(control.receive()), Activate)
                    print("active", file=notes)
                except (EOFError, OSError):
                    ending = orders != "stay"
                    selector.unregister(control.socket)
        if orders != "hang":
            beat(time.perf_counter())
        if orders in ("die soon", "load slowly and die"):
            sys.exit(5)
    print("ended well", file=notes)


if __name__ == "__main__":
    main()
