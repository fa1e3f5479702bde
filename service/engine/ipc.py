"""Messages between a worker and the process that computes a version for it.

Each call of a socket gives up Python's interpreter, and in a busy worker waits to get it back: a message is sent by one call,
and read by one where it is small.
"""

import socket
import struct
import time

import msgspec

from models.package import manifest as manifests

HEAD = 4  # bytes before each message: its length
MAX_BYTES = 2 * manifests.MAX_BYTES  # of a message; the longest holds a manifest
REASON_CHARS = 500  # of a reason in a message
READ = 4096  # bytes that are asked for at a time, where the rest of a message is not known to be longer


class MessageSocket:
    """An end of a stream socket that waits, on Linux."""

    def __init__(self, end: socket.socket) -> None:
        self.socket = end
        self.unread = b""
        self.patience = 0.0  # seconds that the system waits for something to come; 0 is for ever

    def send(self, message: msgspec.Struct) -> None:
        """Raises OSError where nobody is there."""
        data = msgspec.msgpack.encode(message)
        self.socket.sendall(len(data).to_bytes(HEAD) + data)

    def receive(self, seconds: float = 0.0) -> bytes:
        """The next message; 0 waits for ever. Raises EOFError where the other end is gone or talks nonsense, and TimeoutError
        where the message is not whole by then; it waits once more as long for what comes in parts.
        """
        if seconds != self.patience:
            self.socket.setsockopt(
                socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", int(seconds), int(seconds % 1 * 1_000_000))
            )
            self.patience = seconds
        until = time.monotonic() + seconds
        while len(self.unread) < HEAD or len(self.unread) < (end := HEAD + self._length()):
            try:
                part = self.socket.recv(max(READ, self._missing()))
            except BlockingIOError as err:
                raise TimeoutError from err
            except ConnectionError:
                part = b""
            if not part:
                raise EOFError
            self.unread += part
            if seconds and time.monotonic() > until:
                raise TimeoutError
        message, self.unread = self.unread[HEAD:end], self.unread[end:]
        return message

    def _missing(self) -> int:
        """Bytes of a message that has begun; 0 where its length is not known yet."""
        return HEAD + self._length() - len(self.unread) if len(self.unread) >= HEAD else 0

    def _length(self) -> int:
        if (length := int.from_bytes(self.unread[:HEAD])) > MAX_BYTES:
            raise EOFError(f"a message of {length} bytes, at most {MAX_BYTES} are taken")
        return length


def cut(reason: str) -> str:
    """A reason of any length, from whoever, as it fits into a message: of a long one the beginning and the end."""
    text = reason.encode(errors="replace").decode()  # half characters, of file names, cannot be sent
    if len(text) <= REASON_CHARS:
        return text
    end = REASON_CHARS // 5
    return f"{text[: REASON_CHARS - end - 5]} ... {text[-end:]}"
