"""A pickle is never read: not over HTTP, and not on any other socket that the service listens on."""

import pickle
import socket
from pathlib import Path

import httpx
import pytest

from tests.client import assert_problem, send
from tests.server import Server

pytestmark = pytest.mark.server

PICKLE = "application/vnd.bentoml+pickle"
LISTENS = "0A"  # TCP_LISTEN in /proc/net/tcp
ACCEPTS = 0x10000  # __SO_ACCEPTCON in /proc/net/unix


class Bomb:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.path), "w")


def family(pid: int) -> list[int]:
    """A process and all below it."""
    below = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    return [pid, *(descendant for child in below for descendant in family(child))]


def inodes(pids: list[int]) -> set[str]:
    """Of the sockets that processes have open."""
    links = (link.readlink() for pid in pids for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink())
    return {str(link)[8:-1] for link in links if str(link).startswith("socket:")}


def listening(pid: int) -> tuple[set[tuple[str, int]], set[str]]:
    """Addresses of TCP and of Unix sockets that a process and those below it listen on; "@" is a name in no folder."""
    ours = inodes(family(pid))
    tcp: set[tuple[str, int]] = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTENS and fields[9] in ours:
                host, port = fields[1].split(":")
                tcp.add((host, int(port, 16)))
    lines = [line.split() for line in Path(f"/proc/{pid}/net/unix").read_text().splitlines()[1:]]
    unix = {fields[7] if len(fields) > 7 else "" for fields in lines if int(fields[3], 16) & ACCEPTS and fields[6] in ours}
    return tcp, unix


def knock(connection: socket.socket, sent: bytes) -> bytes:
    """What comes back, as far as something does soon."""
    connection.settimeout(0.5)
    connection.sendall(sent)
    try:
        return connection.recv(10_000)
    except TimeoutError:
        return b""


def test_it_listens_on_the_documented_port_and_for_its_own_workers_alone(server: Server) -> None:
    tcp, unix = listening(server.process.pid)
    assert tcp == {("0100007F", server.port)}  # 127.0.0.1
    (engine,) = unix  # where the workers find it
    assert engine.startswith("@")


def test_a_socket_more_would_be_seen(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / "socket"))
        other.listen()
        tcp, unix = listening(pid := int(Path("/proc/self").readlink().name))
        assert ("0100007F", one.getsockname()[1]) in tcp
        assert str(tmp_path / "socket") in unix
        assert pid in family(pid)


def test_a_pickle_sent_to_every_socket_is_never_read(server: Server, client: httpx.Client, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    sent = pickle.dumps(Bomb(canary))
    head = f"POST %s HTTP/1.1\r\nhost: x\r\ncontent-type: {PICKLE}\r\ncontent-length: {len(sent)}\r\n\r\n"
    tcp, unix = listening(server.process.pid)
    for path in ("/", "/v1/classify", "/v1/features", "/v1/explain", "/classify", "/predict", "/__call__"):
        request = (head % path).encode() + sent
        for _, port in tcp:
            with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
                assert knock(connection, request)[:12] in (b"HTTP/1.1 415", b"HTTP/1.1 404", b"HTTP/1.1 405")
        for name in unix:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(name.replace("@", "\0"))
                knock(connection, request)
    for _, port in tcp:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            assert knock(connection, sent)[:10] in (b"", b"HTTP/1.1 4")
    refused = client.post("/v1/classify", content=sent, headers={"content-type": PICKLE})
    assert (refused.status_code, refused.json()["code"]) == (415, "unsupported_media_type")
    for shape in ("raw", "multipart", "base64"):
        assert_problem(send(client, "/v1/classify", [sent], shape), 415, "unsupported_format")
    assert not canary.exists()


def test_the_pickle_would_leave_its_mark(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Bomb(tmp_path / "canary"))).close()
    assert (tmp_path / "canary").exists()
