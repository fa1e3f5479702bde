"""The open-loop client against a small server in this process: it sends what was planned and counts every fate."""

import socket
from pathlib import Path

import msgspec
import pytest

from benchmarks import wrk
from benchmarks.arrivals import Arrivals
from benchmarks.bodies import Bodies
from benchmarks.poisson import Seen, run
from benchmarks.wire import answer_in
from tests.benchmarks.server import BUSY, OK, Answer, serving

SENT = Bodies("/x", "image/jpeg", [b"a" * 100_000, b"b" * 20])


def ask(folder: Path, answer: Answer, **changes: float | int) -> Seen:
    with serving(answer) as port:
        arrivals = msgspec.structs.replace(Arrivals(port, rate=200, seconds=0.3, patience=3), **changes)
        return run(arrivals, wrk.write(SENT.requests, folder))


def test_every_request_is_sent_and_answered(tmp_path: Path) -> None:
    seen = ask(tmp_path, lambda n: OK)
    assert 25 < seen.sent < 110  # 60 on average
    assert seen.answers["200"].count == seen.sent
    assert (seen.unsent, seen.unanswered, seen.broken) == (0, 0, 0)
    assert seen.offered == pytest.approx(seen.sent / 0.3)
    assert 0 < seen.answers["200"].p50_ms <= seen.answers["200"].p99_ms <= seen.answers["200"].max_ms


def test_the_same_seed_sends_the_same_number(tmp_path: Path) -> None:
    assert ask(tmp_path, lambda n: OK).sent == ask(tmp_path, lambda n: OK).sent


def test_statuses_are_counted_apart(tmp_path: Path) -> None:
    seen = ask(tmp_path, lambda n: BUSY if n % 2 else OK)
    assert seen.answers["503"].count == seen.sent // 2
    assert seen.answers["200"].count == seen.sent - seen.sent // 2


def test_closed_connections_are_broken_requests_and_are_opened_again(tmp_path: Path) -> None:
    seen = ask(tmp_path, lambda n: None if n % 5 == 0 else OK)
    assert seen.broken > 0
    assert seen.answers["200"].count == seen.sent - seen.broken


def test_what_is_never_answered_is_given_up(tmp_path: Path) -> None:
    seen = ask(tmp_path, lambda n: b"", patience=0.1, connections=4)
    assert (seen.sent, seen.unanswered) == (4, 4)
    assert seen.unsent > 10
    assert seen.goodput == 0


def test_a_port_where_nobody_listens_breaks_every_request(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    seen = run(Arrivals(port, 200, 0.2, 0.5), wrk.write(SENT.requests, tmp_path))
    assert seen.broken == seen.sent > 0


@pytest.mark.parametrize(
    ("received", "answer"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Len", None),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabc", None),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc", (200, True)),
        (b"HTTP/1.1 503 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", (503, False)),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", None),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", (200, True)),
    ],
)
def test_an_answer_is_whole_or_not(received: bytes, answer: tuple[int, bool] | None) -> None:
    assert answer_in(received) == answer
