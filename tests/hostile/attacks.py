"""What a stranger sends to stop a service: each runs on one connection, or a few, until it is told to end."""

import select
import socket
from collections.abc import Callable

Going = Callable[[], bool]


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=5)


def pour(port: int, going: Going, request: bytes, times: int = 10_000) -> None:
    """The same request again and again, as fast as it is taken; answers are read and forgotten."""
    blob, at = request * times, 0
    with connect(port) as connection:
        connection.setblocking(False)
        while going():
            readable, writable, _ = select.select([connection], [connection], [], 0.2)
            if readable and not connection.recv(1 << 20):
                return
            if writable:
                at = (at + connection.send(blob[at : at + 262_144])) % len(blob)


def pipelined_refusals(port: int, going: Going) -> None:
    """Requests to classify, with no key and nothing in them, one behind the other."""
    pour(port, going, b"POST /v1/classify HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n")


def pipelined_gets(port: int, going: Going) -> None:
    """The shortest requests there are, one behind the other."""
    pour(port, going, b"GET / HTTP/1.1\r\nhost:\r\n\r\n")
