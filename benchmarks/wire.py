"""HTTP/1.1 as far as the open-loop client needs it: a socket that is never waited for, and when an answer is whole."""

import socket
from contextlib import suppress

SEND_BUFFER = 1 << 20


class Connection:
    """A socket with at most one request on its way. ``due``: when that was to be sent; 0 when there is none."""

    def __init__(self, port: int) -> None:
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with suppress(BlockingIOError):
            self.socket.connect(("127.0.0.1", port))
        self.number = self.socket.fileno()
        self.unsent = memoryview(b"")
        self.received = b""
        self.due = 0.0
        self.stuck = False  # the socket took less than there was

    def push(self) -> bool:
        """Send what the socket takes; True when it is stuck and was not, or is not and was. Raises OSError."""
        with suppress(BlockingIOError):
            self.unsent = self.unsent[self.socket.send(self.unsent) :]
        before, self.stuck = self.stuck, bool(self.unsent)
        return before != self.stuck


def answer_in(received: bytes) -> tuple[int, bool] | None:
    """Status of a complete answer and whether the connection stays open; None while bytes are missing."""
    head, separator, body = received.partition(b"\r\n\r\n")
    if not separator:
        return None
    status, fields = int(head[9:12]), head.lower()
    at = fields.find(b"\r\ncontent-length:")
    if at >= 0:
        whole = len(body) >= int(fields[at + 17 :].split(b"\r\n", 1)[0])
    else:
        whole = body.endswith(b"0\r\n\r\n") or b"\r\ntransfer-encoding:" not in fields
    return (status, b"\r\nconnection: close" not in fields) if whole else None
