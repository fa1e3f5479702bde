"""Clients that send too slowly, in too many pieces, or not what they announced: they are cut off, the others are served."""

import select
import socket
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from benchmarks.wire import answer_in
from tests.conftest import Figures, StartServer
from tests.factories import make_image
from tests.faults.conftest import capacity
from tests.faults.load import Plan, drive, driving, request
from tests.faults.watch import probing, settled, usage
from tests.server import Server

pytestmark = [pytest.mark.server, pytest.mark.long]

CLASSIFY = request("/v1/classify", make_image())
CUT = 30.0  # seconds after which a slow client is gone
SLOW, SLOW_SECONDS = 200, 40.0
NOISE = 50  # ms that a p99 may differ by on a machine that does other work too
PIECES = 1.0  # seconds until a body in pieces is refused, from when it is sent whole
HEAD = b"POST /v1/classify HTTP/1.1\r\nhost: x\r\n"


@pytest.fixture(scope="module")
def server(start_server: StartServer, wide_store: Path) -> Generator[Server]:
    server = start_server(wide_store)
    yield server
    assert server.stop() == 0


class Drip:
    """Clients that send a byte a second from a thread: half of them heads, half of them bodies after a whole head."""

    def __init__(self, port: int, count: int) -> None:
        self.poll = select.poll()
        self.clients: dict[int, socket.socket] = {}
        self.messages: dict[int, bytes] = {}
        self.rounds = 0
        self.ended: list[tuple[float, bytes]] = []  # seconds since the beginning, what was answered
        self.began = time.monotonic()
        for i in range(count):
            client = socket.create_connection(("127.0.0.1", port), timeout=10)
            if i % 2:
                client.sendall(HEAD + b"content-length: 100000\r\n\r\n")
            self.messages[client.fileno()] = b"x" * 1000 if i % 2 else HEAD + b"x-slow: " + b"x" * 1000
            client.setblocking(False)
            self.clients[client.fileno()] = client
            self.poll.register(client, select.POLLIN)

    def round(self) -> None:
        """A byte from everyone, and what was answered meanwhile."""
        for number, _ in self.poll.poll(0):
            self.end(number)
        for number, client in list(self.clients.items()):
            try:
                client.send(self.messages[number][self.rounds : self.rounds + 1])
            except OSError:
                self.end(number)
        self.rounds += 1

    def end(self, number: int) -> None:
        client, answer = self.clients.pop(number), b""
        self.poll.unregister(number)
        with suppress(OSError):
            answer = client.recv(1 << 16)
        client.close()
        self.ended.append((time.monotonic() - self.began, answer))

    @contextmanager
    def dripping(self) -> Generator[None]:
        stop = threading.Event()

        def drip() -> None:
            while not stop.wait(1):
                self.round()

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            for client in self.clients.values():
                client.close()


def test_slow_clients_are_cut_off_and_the_others_hardly_notice(server: Server, figures: Figures) -> None:
    rate = capacity(server) / 2
    alone = drive(Plan(server.port, rate, seconds=15), [CLASSIFY])
    with probing(server.port, ["/readyz"]) as probes:
        slow = Drip(server.port, SLOW)
        with slow.dripping(), driving(Plan(server.port, rate, SLOW_SECONDS), [CLASSIFY]) as load:
            seen = load.seen()
    statuses = [answer[9:12].decode() for _, answer in slow.ended]
    figures(
        left=len(slow.clients),
        last_cut_s=max((seconds for seconds, _ in slow.ended), default=float("nan")),
        cut_with={status or "nothing": statuses.count(status) for status in sorted(set(statuses))},
        p99_alone_ms=alone.milliseconds(99),
        p99_ms=seen.milliseconds(99),
        slowest_probe_ms=1000 * probes.slowest(),
        statuses=seen.statuses(),
    )
    assert set(seen.statuses()) == {"200"}
    assert probes.failed() == []
    assert probes.slowest() <= 1
    assert seen.milliseconds(99) <= 2 * alone.milliseconds(99) + NOISE
    assert not slow.clients
    assert max(seconds for seconds, _ in slow.ended) <= CUT
    assert set(statuses) == {"408"}, "a slow client is told so"


def answer_to(port: int, pieces: Sequence[bytes]) -> tuple[int, float]:
    """Status, and the seconds from when all was sent, or the service stopped reading, to the answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        with suppress(OSError):  # it may have answered and closed
            for piece in pieces:
                client.sendall(piece)
        sent, received = time.monotonic(), b""
        while not (answer := answer_in(received)):
            more = client.recv(1 << 16)
            assert more, received
            received += more
        return answer[0], time.monotonic() - sent


def chunks(count: int) -> list[bytes]:
    head = HEAD + b"transfer-encoding: chunked\r\nconnection: close\r\n\r\n"
    return [head, *[b"1\r\nx\r\n" * 1000] * (count // 1000), b"1\r\nx\r\n" * (count % 1000) + b"0\r\n\r\n"]


@pytest.mark.parametrize("count", [65_537, 1_000_000])
def test_a_body_in_a_great_many_pieces_is_refused_and_the_others_hardly_notice(
    server: Server, figures: Figures, count: int
) -> None:
    rate = capacity(server) / 4
    alone = drive(Plan(server.port, rate, seconds=8), [CLASSIFY])
    pieces = chunks(count)
    answer_to(server.port, pieces)
    before = usage(server)
    with driving(Plan(server.port, rate, seconds=8), [CLASSIFY]) as load:
        time.sleep(1)
        answers = [answer_to(server.port, pieces) for _ in range(4)]
        seen = load.seen()
    settled(server)
    after = usage(server)
    figures(
        statuses=sorted({status for status, _ in answers}),
        slowest_s=max(seconds for _, seconds in answers),
        p99_alone_ms=alone.milliseconds(99),
        p99_ms=seen.milliseconds(99),
        mib=f"{before.mib:.0f} -> {after.mib:.0f}",
    )
    assert all(400 <= status < 500 for status, _ in answers), answers
    assert max(seconds for _, seconds in answers) <= PIECES
    assert set(seen.statuses()) == {"200"}
    assert seen.milliseconds(99) <= 2 * alone.milliseconds(99) + NOISE
    assert after.mib - before.mib <= 8


def test_a_body_shorter_than_announced_is_refused_in_time(start_server: StartServer) -> None:
    server = start_server(HUBEL_DEADLINE_MS="1500")
    status, seconds = answer_to(server.port, [HEAD + b"content-length: 1000\r\nconnection: close\r\n\r\n" + b"x" * 10])
    assert status == 408
    assert seconds <= 1.5 + 1
    assert server.stop() == 0


def test_a_body_longer_than_announced_is_refused(server: Server) -> None:
    """What follows is no request; the service may say so in the place of its answer to what came before."""
    image = make_image()
    lying = HEAD + f"content-length: {len(image) - 100}\r\n\r\n".encode() + image
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as client:
        client.sendall(lying)
        received = b""
        while more := client.recv(1 << 16):
            received += more
    statuses = [part[9:12] for part in received.split(b"\r\n") if part.startswith(b"HTTP/1.1 ")]
    assert statuses
    assert all(status.startswith(b"4") for status in statuses), received
