"""What supervisor and worker say to each other gets through whole, or not at all."""

import socket
from datetime import UTC, datetime

import msgspec
import pytest

from models.candidate import Progress
from service.orders import MAX_BYTES, Line, Orders, Refusal, Report, Trial

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def test_what_is_said_is_heard() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        orders = Orders(1, [2, 3], Trial(2, "canary", 12.5, NOW, 7, 100), Refusal(3, "why\nnot", NOW))
        report = Report(hung=True, serves=1, holds=[1, 2], refused={3: "why"}, progress=Progress(2, NOW))
        assert Line(ours).say(orders)
        assert list(Line(theirs).parse(theirs.recv(10_000), Orders)) == [orders]
        assert Line(theirs).say(report)
        assert list(Line(ours).parse(ours.recv(10_000), Report)) == [report]


def test_messages_in_pieces_are_put_together() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        line, found = Line(ours), list[Orders]()
        for byte in b'{"serve": 1}\n{"serve": 2}\n{"ser':
            found += line.parse(bytes([byte]), Orders)
        assert found == [Orders(1), Orders(2)]


def test_what_is_no_message_or_never_ends_is_told() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for data in (b"what?\n", b"{}\n", b"x" * (MAX_BYTES + 1)):
            with pytest.raises(msgspec.DecodeError):
                list(Line(ours).parse(data, Orders))


def test_nobody_there_is_no_error() -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    with ours:
        assert not Line(ours).say(Orders(1))
