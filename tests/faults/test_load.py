"""The recording client against a small server: every fate is told apart, and lateness counts against the server."""

import socket
import threading
import time
from collections.abc import Sequence

import pytest

from tests.benchmarks.server import BUSY, OK, Answer, serving
from tests.faults.load import Fate, Plan, Seen, drive, driving, field, request, run

REQUESTS = [request("/a", b"1" * 1000), request("/b", b"2")]


def ask(answer: Answer, requests: Sequence[bytes] = REQUESTS, **changes: object) -> Seen:
    with serving(answer) as port:
        plan = {"rate": 200.0, "seconds": 0.3, "patience": 3.0, "spacing": "even", **changes}
        return run(Plan(port, **plan), requests)  # pyright: ignore[reportArgumentType]


def test_each_request_is_sent_at_its_time_and_its_answer_noted() -> None:
    seen = ask(lambda n: OK.replace(b"\r\n\r\n", b"\r\nX-Request-ID: r%d\r\nRetry-After: 7\r\n\r\n" % n))
    assert [fate.end for fate in seen.fates] == ["answered"] * 60
    assert [fate.due - seen.began for fate in seen.fates] == pytest.approx([i / 200 for i in range(60)])
    assert all(fate.due <= fate.sent <= fate.written <= fate.ended for fate in seen.fates)
    assert {fate.request_id for fate in seen.fates} == {f"r{i}" for i in range(60)}
    assert {fate.retry_after for fate in seen.fates} == {"7"}
    assert [fate.kind for fate in seen.of(1).fates] == [1] * 30


def test_a_server_that_stops_for_a_while_makes_all_wait_that_were_due_meanwhile() -> None:
    """A client that waits for an answer before it asks again would see one slow request (coordinated omission)."""
    began = time.perf_counter()

    def answer(n: int) -> bytes:
        time.sleep(max(0.0, began + 0.4 - time.perf_counter()))
        return OK

    seen = ask(answer)
    assert len(seen.with_status(200)) == 60
    slow = [fate for fate in seen.fates if fate.milliseconds > 90]
    assert len(slow) > 30


def test_ends_without_an_answer_are_told_apart() -> None:
    seen = ask(lambda n: BUSY if n % 3 == 1 else None if n % 3 == 2 else OK)
    assert set(seen.statuses()) == {"200", "503", "closed"}
    assert seen.lost() == seen.ended("closed")
    waiting = ask(lambda n: b"", patience=0.1, connections=4)
    assert waiting.statuses() == {"unsent": 56, "waiting": 4}


def test_a_closed_port_is_a_refusal_and_no_loss() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    seen = run(Plan(port, rate=100, seconds=0.1, spacing="even"), REQUESTS)
    assert seen.statuses() == {"refused": 10}
    assert seen.lost() == []


def test_connections_are_kept_and_told_by_their_port() -> None:
    seen = ask(lambda n: OK, rate=20.0, connections=1)
    assert len({fate.port for fate in seen.fates}) == 1
    assert [fate.fresh for fate in seen.fates] == [True] + [False] * 5


def test_closed_loop_clients_ask_again_when_they_are_answered() -> None:
    def answer(n: int) -> bytes:
        time.sleep(0.01)
        return OK

    seen = ask(answer, spacing="closed", connections=2)
    assert 10 < len(seen.fates) <= 62
    assert seen.goodput() == pytest.approx(len(seen.fates) / 0.3, rel=0.3)


def test_a_process_of_its_own_sees_the_same() -> None:
    with serving(lambda n: OK) as port:
        seen = drive(Plan(port, rate=100, seconds=0.2, spacing="even"), REQUESTS)
    assert seen.statuses() == {"200": 20}
    assert 0 < seen.milliseconds(50) <= seen.milliseconds(99)


def test_a_process_that_is_stopped_tells_what_it_saw() -> None:
    asked = threading.Event()

    def answer(_: int) -> bytes:
        asked.set()
        return OK

    with serving(answer) as port, driving(Plan(port, rate=100, seconds=60), REQUESTS) as load:
        assert asked.wait(30)
        time.sleep(0.2)
        load.stop()
        seen = load.seen()
    assert set(seen.statuses()) == {"200"}
    assert len(seen.fates) < 1000
    assert seen.seconds < 50  # no speed: the plan lasts a minute


def test_goodput_counts_images_answered_well_after_the_beginning() -> None:
    fates = [Fate(due=0, kind=kind, ended=ended, status=status) for kind, ended, status in ((0, 0.1, 200), (0, 5.0, 503))]
    fates += [Fate(due=0, kind=1, ended=5.0, status=200), Fate(due=0, kind=1, ended=11.0, status=200)]
    seen = Seen(began=0.0, seconds=10.0, late_ms=0, client_cpu=0, fates=fates)
    assert seen.goodput(images=lambda kind: (1, 8)[kind]) == pytest.approx(8 / 8.0)


def test_a_header_field_is_found_whatever_its_case() -> None:
    assert field(b"HTTP/1.1 503 \r\nRETRY-after:  3 \r\nx: y", b"retry-after") == "3"
    assert field(b"HTTP/1.1 200 OK\r\nx: y", b"retry-after") == ""
