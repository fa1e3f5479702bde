"""Sockets between supervisor, engines and fronts: where an engine is found, and messages that are whole.

An engine's address is a name in Linux's abstract namespace, which nothing can remove while the supervisor holds the socket, so
that an engine that takes the place of another has it too. Any user of the machine can connect there: both ends look who it is.
"""

import errno
import os
import socket
import struct
import time

import msgspec

from models.package import manifest as manifests

HEAD = 4  # bytes before each message: its length
MAX_BYTES = 2 * manifests.MAX_BYTES  # of a message; the longest holds a manifest
PEER = struct.Struct("iII")  # struct ucred: process, user, group
REASON_CHARS = 500  # of a reason in a message
READ = 4096  # bytes that are asked for at a time, where the rest of a message is not known to be longer


def listen() -> tuple[socket.socket, str]:
    """A socket for an engine, and its address."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind("")  # the system gives it a free name
    listener.listen(1024)
    return listener, listener.getsockname()[1:].decode()


def connect(address: str) -> socket.socket:
    """To the engine at an address; raises OSError where there is none, or it is another user's."""
    end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        end.connect("\0" + address)
        if not is_ours(end):
            raise PermissionError(errno.EPERM, "it is another user's")
    except OSError:
        end.close()
        raise
    return end


def is_ours(end: socket.socket) -> bool:
    """Whether who is at the other end is of the same user as this process."""
    _, user, _ = PEER.unpack(end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEER.size))
    return user == os.geteuid()


class MessageSocket:
    """An end of a stream socket that waits, on Linux."""

    def __init__(self, end: socket.socket) -> None:
        self.socket = end
        self.unread = b""
        self.patience = 0.0  # seconds that the system waits for something to come; 0 is for ever

    def send(self, message: msgspec.Struct) -> None:
        """Raises OSError where nobody is there."""
        self.socket.sendall(frame(message))

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
        message, self.unread = split(self.unread)
        while message is None:
            try:
                part = self.socket.recv(max(READ, missing(self.unread)))
            except BlockingIOError as err:
                raise TimeoutError from err
            except ConnectionError:
                part = b""
            if not part:
                raise EOFError
            self.unread += part
            if seconds and time.monotonic() > until:
                raise TimeoutError
            message, self.unread = split(self.unread)
        return message


def frame(message: msgspec.Struct) -> bytes:
    """A message as it is sent: its length, then what it says."""
    data = msgspec.msgpack.encode(message)
    return len(data).to_bytes(HEAD) + data


def split(data: bytes) -> tuple[bytes | None, bytes]:
    """The first message in what was received, None while it is not whole, and what is behind it. Raises EOFError for nonsense."""
    if len(data) < HEAD or missing(data) > 0:
        return None, data
    end = len(data) + missing(data)
    return data[HEAD:end], data[end:]


def missing(data: bytes) -> int:
    """Bytes of a message that has begun which are still to come, fewer than 0 where others follow it; 0 where its length is not
    known yet."""
    if len(data) < HEAD:
        return 0
    if (length := int.from_bytes(data[:HEAD])) > MAX_BYTES:
        raise EOFError(f"a message of {length} bytes, at most {MAX_BYTES} are taken")
    return HEAD + length - len(data)


def cut(reason: str) -> str:
    """A reason of any length, from whoever, as it fits into a message: of a long one the beginning and the end."""
    text = reason.encode(errors="replace").decode()  # half characters, of file names, cannot be sent
    if len(text) <= REASON_CHARS:
        return text
    end = REASON_CHARS // 5
    return f"{text[: REASON_CHARS - end - 5]} ... {text[-end:]}"
