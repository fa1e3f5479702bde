"""A small HTTP server in this process, for clients to be tested with."""

import socket
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
Answer = Callable[[int], bytes | None]


@contextmanager
def serving(answer: Answer) -> Generator[int]:
    """The port of a server that answers its n-th request with ``answer(n)``; None closes the connection, b"" waits."""
    counter = iter(range(1_000_000))

    def talk(connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream:
            while line := stream.readline():
                length = 0
                while line.strip():
                    if line.lower().startswith(b"content-length:"):
                        length = int(line.split()[1])
                    line = stream.readline()
                assert len(stream.read(length)) == length
                if (reply := answer(next(counter))) is None:
                    return
                connection.sendall(reply)

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=talk, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
