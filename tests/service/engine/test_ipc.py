"""Messages between a worker and the process that computes for it: whole, in order, and not waited for too long."""

import socket
import threading
import time
from collections.abc import Iterator

import msgspec
import pytest

from service.engine.ipc import HEAD, MAX_BYTES, MessageSocket


class Note(msgspec.Struct):
    text: str


@pytest.fixture
def ends() -> Iterator[tuple[MessageSocket, MessageSocket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield MessageSocket(ours), MessageSocket(theirs)


def text(data: bytes) -> str:
    return msgspec.msgpack.decode(data, type=Note).text


def test_messages_that_come_together_are_told_apart(ends: tuple[MessageSocket, MessageSocket]) -> None:
    ours, theirs = ends
    for word in ("one", "", "three"):
        ours.send(Note(word))
    assert [text(theirs.receive(5)) for _ in range(3)] == ["one", "", "three"]


def test_a_message_larger_than_the_socket_takes_at_once_comes_whole(ends: tuple[MessageSocket, MessageSocket]) -> None:
    ours, theirs = ends
    sender = threading.Thread(target=ours.send, args=(Note("x" * 5_000_000),))
    sender.start()
    assert text(theirs.receive(30)) == "x" * 5_000_000
    sender.join()
    theirs.send(Note("back"))
    assert text(ours.receive()) == "back"


def test_a_message_that_comes_byte_by_byte_is_read(ends: tuple[MessageSocket, MessageSocket]) -> None:
    ours, theirs = ends
    data = msgspec.msgpack.encode(Note("slow"))
    for byte in len(data).to_bytes(HEAD) + data:
        ours.socket.sendall(bytes([byte]))
    assert text(theirs.receive(5)) == "slow"


@pytest.mark.parametrize("sent", [b"", b"\0\0", b"\0\0\0\5abc"])
def test_what_does_not_come_is_not_waited_for_longer_than_was_said(
    ends: tuple[MessageSocket, MessageSocket], sent: bytes
) -> None:
    ours, theirs = ends
    ours.socket.sendall(sent)
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        theirs.receive(0.2)
    assert 0.15 < time.monotonic() - began < 30  # no speed: it would hang for ever


def test_one_who_sends_a_little_again_and_again_is_not_waited_for_for_ever(ends: tuple[MessageSocket, MessageSocket]) -> None:
    ours, theirs = ends
    stop = threading.Event()

    def drip() -> None:
        ours.socket.sendall((10_000).to_bytes(HEAD))
        while not stop.wait(0.05):
            ours.socket.sendall(b"x")

    dripping = threading.Thread(target=drip)
    dripping.start()
    with pytest.raises(TimeoutError):
        theirs.receive(0.2)
    stop.set()
    dripping.join()


@pytest.mark.parametrize("sent", [b"", b"\0\0\0\5abc"])
def test_the_end_of_the_other_is_told(ends: tuple[MessageSocket, MessageSocket], sent: bytes) -> None:
    ours, theirs = ends
    ours.socket.sendall(sent)
    ours.socket.close()
    with pytest.raises(EOFError):
        theirs.receive(5)


@pytest.mark.parametrize("length", [MAX_BYTES + 1, 2**32 - 1])
def test_a_message_that_would_be_endless_is_not_waited_for(ends: tuple[MessageSocket, MessageSocket], length: int) -> None:
    ours, theirs = ends
    ours.socket.sendall(length.to_bytes(HEAD) + b"x" * 100)
    with pytest.raises(EOFError, match="at most 33554432 are taken"):
        theirs.receive(20)
