"""What a stranger sends to stop a service: each runs on one connection, or a few, until it is told to end."""

import select
import socket
import struct
import time
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


def slow_heads(port: int, going: Going) -> None:
    """Fifty heads as long as they may be, in the shortest lines, or in as many as there may be, that never end."""
    lines = (b"ab:cd\r\n" * 9_000, b"".join(b"x: %b\r\n" % (b"y" * 500) for _ in range(120)))
    held = [connect(port) for _ in range(50)]
    for i, connection in enumerate(held):
        connection.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n" + lines[i % 2])
    while going() and held:
        time.sleep(0.2)
        held = [connection for connection in held if _drips(connection, b"z")]


def silent(port: int, going: Going) -> None:
    """Twice as many connections as there are places, which say nothing but blank lines."""
    held: list[socket.socket] = []
    while going():
        held = [connection for connection in held if _drips(connection, b"\r\n")]
        for _ in range(30):
            if len(held) < 2_100:
                held.append(connect(port))
        time.sleep(0.05)


def small_chunks(port: int, going: Going) -> None:
    """A body without an end, a byte a chunk, to a path that is not there."""
    with connect(port) as connection:
        connection.sendall(b"POST /nowhere HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        while going():
            connection.sendall(b"1\r\nx\r\n" * 20_000)


def never_read(port: int, going: Going) -> None:
    """The longest answers, asked for again and again and not read."""
    with connect(port) as connection:
        while going():
            connection.sendall(b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n" * 100)


def metrics_flood(port: int, going: Going) -> None:
    """The answers that cost most to write."""
    pour(port, going, b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n", 100)


def announced(port: int, going: Going) -> None:
    """Requests that ask whether to send their body, one behind the other."""
    head = b"POST /v1/classify HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 1000\r\n\r\n"
    pour(port, going, head, 100)


def _drips(connection: socket.socket, data: bytes) -> bool:
    """Whether the other end still takes it."""
    try:
        connection.send(data, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return True
    except OSError:
        connection.close()
        return False
    return True


def hang_up(port: int, going: Going) -> None:
    """A request to classify on each of many connections, reset as soon as it is sent."""
    image = bytes.fromhex("ffd8ffe000104a464946") + bytes(2_000)
    request = b"POST /v1/classify HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(image) + image
    while going():
        with connect(port) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.sendall(request)
