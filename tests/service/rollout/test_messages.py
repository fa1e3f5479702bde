"""What supervisor and worker say to each other gets through whole, or not at all."""

import socket
import time
from datetime import UTC, datetime

import msgspec
import pytest

from models.lifecycle.candidate import Progress
from service.engine.ipc import REASON_CHARS, cut
from service.rollout.messages import MAX_BYTES, MAX_LINES, ActiveCandidate, Channel, DesiredState, ObservedState, RefusedVersion

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def test_what_is_said_is_heard() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        trial, refused = ActiveCandidate(2, "canary", 12.5, NOW, 7, 100), RefusedVersion(3, "why\nnot", NOW)
        desired = DesiredState(1, {1: "00d1f", 2: "00d2a"}, trial, refused)
        report = ObservedState(serves=1, progress=Progress(2, NOW))
        assert Channel(ours).send(desired)
        assert list(Channel(theirs).parse(theirs.recv(10_000), DesiredState)) == [desired]
        assert Channel(theirs).send(report)
        assert list(Channel(ours).parse(ours.recv(10_000), ObservedState)) == [report]


def test_messages_in_pieces_are_put_together() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        line, found = Channel(ours), list[DesiredState]()
        for byte in b'{"serve": 1}\n{"serve": 2}\n{"ser':
            found += line.parse(bytes([byte]), DesiredState)
        assert found == [DesiredState(1), DesiredState(2)]


def test_what_is_no_message_or_never_ends_is_told() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for data in (b"what?\n", b"{}\n", b"x" * (MAX_BYTES + 1), b" " * MAX_BYTES + b'{"serve":1}\n', b"\xff\n"):
            with pytest.raises(msgspec.DecodeError):
                list(Channel(ours).parse(data, DesiredState))


def test_more_lines_than_anyone_has_to_say_are_told_and_as_many_over_time_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [50.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    ours, theirs = socket.socketpair()
    with ours, theirs:
        line = Channel(ours)
        for _ in range(3):
            for count in (MAX_LINES // 2, MAX_LINES // 2):
                assert len(list(line.parse(b"{}\n" * count, ObservedState))) == count
            now[0] += 1
        assert len(list(line.parse(b"{}\n" * MAX_LINES, ObservedState))) == MAX_LINES
        with pytest.raises(msgspec.DecodeError, match="more than 1000 lines in a second"):
            list(line.parse(b"{}\n", ObservedState))


def test_what_is_too_long_is_not_sent_and_the_next_is(caplog: pytest.LogCaptureFixture) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        line = Channel(ours)
        assert not line.send(DesiredState(1, refused=RefusedVersion(2, "x" * (MAX_BYTES + 7), NOW)))
        assert "is not sent, at most 65536 may be" in caplog.text
        assert line.send(DesiredState(5))
        assert list(Channel(theirs).parse(theirs.recv(10_000), DesiredState)) == [DesiredState(5)]


def test_the_version_that_answers_is_wanted_and_a_candidate_too() -> None:
    engines: dict[int, str] = dict.fromkeys((1, 2, 3), "somewhere")
    assert DesiredState(1, engines).wanted == [1]
    assert DesiredState(1, engines, ActiveCandidate(3, "shadow", 100, NOW)).wanted == [1, 3]


def test_a_reason_of_any_length_fits() -> None:
    short = "it is no package: \n ü"
    assert cut(short) == short
    long = cut("begins with this " + "ü" * 200_000 + " and ends so")
    assert len(long) == REASON_CHARS
    assert long.startswith("begins with this ")
    assert long.endswith(" and ends so")
    halves = RefusedVersion(2, cut("\x00\udcff" * 40_000), NOW)
    assert len(msgspec.json.encode(DesiredState(1, refused=halves))) < MAX_BYTES


def test_nobody_there_is_no_error() -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    with ours:
        assert not Channel(ours).send(DesiredState(1))
