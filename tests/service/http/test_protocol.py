"""Connections, without the service behind them: what a client may take of us before its request is whole."""

import asyncio
import json
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, cast

import pytest
import uvicorn
import uvloop
from uvicorn.server import ServerState

from service.errors import HubelError, Overloaded
from service.http.connections import TURN_REQUESTS, Connections, Limits, State
from service.http.protocol import MAX_FIELDS, MAX_HEAD_BYTES, PIECE_BYTES, Headers, LimitedConnection

JAVA = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAA\r\n"
Scenario = Callable[["Door"], Awaitable[Any]]


def write(status: int, body: bytes, more: Headers) -> bytes:
    headers = b"".join(b"%b: %b\r\n" % header for header in more)
    return b"HTTP/1.1 %d X\r\n%bcontent-length: %d\r\n\r\n%b" % (status, headers, len(body), body)


class Front:
    """Stands in for the edge: answers each request with its method, path, body and connection, as JSON."""

    def __init__(self) -> None:
        self.draining = False
        self.overloaded = False
        self.large = 0  # bytes that an answer has more
        self.gate = asyncio.Event()
        self.gate.set()
        self.calls = 0
        self.open_paths: tuple[str, ...] = ()

    def refuse_early(self, scope: Any, more: Headers) -> bytes | None:
        return write(503, b"", more) if self.overloaded else None

    def refuse_unread(self, error: HubelError, more: Headers) -> bytes:
        return write(error.status, json.dumps({"code": error.code, "detail": str(error)}).encode(), more)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.calls += 1
        body, more = b"", scope["path"] != "/early"
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if scope["path"] not in self.open_paths:
            await self.gate.wait()
        names = [name.decode() for name, _ in scope["headers"]]
        answer = json.dumps([scope["method"], scope["path"], body.decode("latin-1"), names]).encode() + b" " * self.large
        headers = [(b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})


class Door:
    """A listening socket with LimitedConnection behind it."""

    def __init__(self, front: Front, port: int, state: ServerState, account: Connections) -> None:
        self.front = front
        self.port = port
        self.state = state
        self.account = account

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not true():
                await asyncio.sleep(0.005)

    async def ask(self, path: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection on which one request was answered."""
        reader, writer = await self.open()
        writer.write(b"GET %b HTTP/1.1\r\nhost: x\r\n\r\n" % path)
        await asyncio.wait_for(reader.readuntil(b"]]"), 5)
        return reader, writer

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def send(self, *parts: bytes, pause: float = 0.0, patience: float = 0.8) -> bytes:
        """All that comes back on a new connection until it is closed, or nothing more comes for a while."""
        reader, writer = await self.open()
        for part in parts:
            writer.write(part)
            with suppress(ConnectionError):
                await writer.drain()
            await asyncio.sleep(pause)
        received = b""
        with suppress(TimeoutError, ConnectionError):
            while data := await asyncio.wait_for(reader.read(65536), patience):
                received += data
        writer.close()
        return received


def behind_a_door(
    scenario: Scenario, seconds: float = 0.5, max_connections: int = 100, keep_alive: float = 5, unread: int = 10**7
) -> Any:
    async def run() -> Any:
        front = Front()
        config = uvicorn.Config(front, ws="none", log_config=None, access_log=False)
        config.load()
        state = ServerState()
        account = Connections(Limits(max_connections, seconds, keep_alive, unread))
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: LimitedConnection(front, account, config=config, server_state=state, app_state={}), "127.0.0.1", 0
        )
        async with server:
            return await scenario(Door(front, server.sockets[0].getsockname()[1], state, account))

    return uvloop.run(run())


def counted_turns(look: Callable[[], object] = lambda: None) -> list[int]:
    """The turns of the running loop from now on, counted in the one place of a list; ``look`` is called in each."""
    loop, turns = asyncio.get_running_loop(), [0]

    def count() -> None:
        turns[0] += 1
        look()
        loop.call_soon(count)

    count()
    return turns


def answers_in(received: bytes) -> list[list[Any]]:
    """The JSON bodies of the answers with status 200."""
    found: list[list[Any]] = []
    while received:
        head, _, rest = received.partition(b"\r\n\r\n")
        (length,) = (int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
        assert head.startswith(b"HTTP/1.1 200"), head
        found.append(json.loads(rest[:length]))
        received = rest[length:]
    return found


def problem_in(received: bytes) -> tuple[int, str, str]:
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"connection: close" in head
    problem = json.loads(body)
    return int(head.split()[1]), problem["code"], problem["detail"]


def test_a_whole_request_is_answered_and_the_connection_kept() -> None:
    request = b"POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc"
    received = behind_a_door(lambda door: door.send(request, request))
    assert [answer[:3] for answer in answers_in(received)] == [["POST", "/a", "abc"]] * 2


def test_what_is_not_http_gets_a_problem() -> None:
    status, code, detail = problem_in(behind_a_door(lambda door: door.send(b"hello\r\n\r\n")))
    assert (status, code, detail) == (400, "malformed_request", "this is not an HTTP/1.1 request")


def test_what_follows_a_whole_request_and_is_none_ends_the_connection_after_the_answer() -> None:
    request = b"POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc"
    received = behind_a_door(lambda door: door.send(request + request + b"\0" * 1000))
    at = received.index(b"HTTP/1.1 400")
    assert [answer[:3] for answer in answers_in(received[:at])] == [["POST", "/a", "abc"]] * 2
    assert problem_in(received[at:])[:2] == (400, "malformed_request")


def test_a_body_that_breaks_off_into_what_is_none_gets_a_problem() -> None:
    async def scenario(door: Door) -> bytes:
        received = await door.send(
            b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n", b"zz\r\n", pause=0.1
        )
        async with asyncio.timeout(10):
            while door.state.connections or door.state.tasks:
                await asyncio.sleep(0.05)
        return received

    assert problem_in(behind_a_door(scenario))[:2] == (400, "malformed_request")


def test_a_head_that_is_too_long_is_refused_whether_it_ends_or_not() -> None:
    ends = b"GET / HTTP/1.1\r\nx: " + b"a" * MAX_HEAD_BYTES + b"\r\n\r\n"
    goes_on = [b"GET / HTTP/1.1\r\nx: ", *[b"a" * 10_000] * 20]
    for parts in ([ends], goes_on):
        status, code, detail = problem_in(behind_a_door(lambda door, parts=parts: door.send(*parts, pause=0.005)))
        assert (status, code) == (431, "head_too_large")
        assert detail.endswith(f"the limit is {MAX_HEAD_BYTES}; send fewer or shorter ones")


def test_a_head_just_within_the_limit_is_read() -> None:
    request = b"GET /?" + b"a" * (MAX_HEAD_BYTES - 100) + b" HTTP/1.1\r\nhost: x\r\n\r\n"
    assert len(answers_in(behind_a_door(lambda door: door.send(request)))) == 1


def test_a_large_body_after_a_head_does_not_count_as_a_head() -> None:
    body = b"x" * 300_000
    request = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 300000\r\n\r\n"
    received = behind_a_door(lambda door: door.send(request, body, request, body))
    assert [len(answer[2]) for answer in answers_in(received)] == [300_000] * 2


def test_a_head_that_does_not_come_is_refused_and_a_silent_connection_closed() -> None:
    assert problem_in(behind_a_door(lambda door: door.send(b"GET / HT")))[:2] == (408, "request_timeout")
    assert problem_in(behind_a_door(lambda door: door.send(b"GET / HTTP/1.1\r\nx: ", *[b"a"] * 20, pause=0.05)))[:2] == (
        408,
        "request_timeout",
    )
    assert behind_a_door(lambda door: door.send()) == b""


def test_a_body_that_does_not_come_ends_the_connection() -> None:
    async def scenario(door: Door) -> None:
        reader, writer = await door.open()
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nabc")
        assert await asyncio.wait_for(reader.read(), 10) == b""  # the application has two seconds more to say why
        writer.close()

    behind_a_door(scenario)


def test_the_second_request_on_a_connection_has_to_come_in_time_too() -> None:
    async def scenario(door: Door) -> bytes:
        reader, writer = await door.open()
        writer.write(b"GET /a HTTP/1.1\r\nhost: x\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"GET /b HTT")
        received = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        return received[received.index(b"HTTP/1.1") :]

    assert problem_in(behind_a_door(scenario))[:2] == (408, "request_timeout")


def test_the_body_of_a_request_refused_on_its_head_has_to_come_in_time() -> None:
    async def scenario(door: Door) -> bytes:
        door.front.overloaded = True
        reader, writer = await door.open()
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nabc")
        received = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        assert door.front.calls == 0
        return received

    assert behind_a_door(scenario).startswith(b"HTTP/1.1 503")


@pytest.mark.parametrize("cut", [1, 20, 66, 67, 100, 165, 166, 167, 200])
@pytest.mark.parametrize("more", [b"", b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\n"])
def test_behind_the_body_of_a_request_refused_on_its_head_the_next_one_begins(cut: int, more: bytes) -> None:
    refused = b"POST / HTTP/1.1\r\nhost: x\r\n" + more + b"content-length: 100\r\n\r\n" + b"GET /no HTTP/1.1\r\n\r\n" * 5
    chunked = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    empty = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"
    sent = refused + chunked + refused + empty + refused

    async def scenario(door: Door) -> list[bytes]:
        door.front.overloaded = True
        reader, writer = await door.open()
        writer.write(sent[:cut])
        await asyncio.sleep(0.02)
        writer.write(sent[cut:])
        answers = [await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5) for _ in range(5)]
        door.front.overloaded = False
        writer.write(b"POST /next HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc")
        answers.append(await asyncio.wait_for(reader.readuntil(b"]]"), 5))
        writer.close()
        assert door.front.calls == 1
        return answers

    *answers, last = behind_a_door(scenario)
    assert [answer[:12] for answer in answers] == [b"HTTP/1.1 503"] * 5
    assert b'["POST", "/next", "abc", ' in last


def test_a_client_that_does_not_take_its_answer_is_let_go() -> None:
    async def scenario(door: Door) -> None:
        door.front.large = 30_000_000  # more than the system's buffers
        with socket.create_connection(("127.0.0.1", door.port)) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            async with asyncio.timeout(10):
                while not door.state.connections:
                    await asyncio.sleep(0.01)
                while door.state.connections:
                    await asyncio.sleep(0.05)

    behind_a_door(scenario, keep_alive=1)


def test_a_head_of_too_many_headers_is_refused_before_its_end() -> None:
    head = b"GET / HTTP/1.1\r\nhost: x\r\n" + b"x: y\r\n" * (MAX_FIELDS - 1)
    assert len(answers_in(behind_a_door(lambda door: door.send(head + b"\r\n")))) == 1
    status, code, detail = problem_in(behind_a_door(lambda door: door.send(head + b"x: y\r\n" * 2)))
    assert (status, code) == (431, "head_too_large")
    assert detail == f"the request has more than {MAX_FIELDS} headers, the limit; send fewer"


def test_where_all_places_are_taken_who_is_idle_gives_way_to_who_comes() -> None:
    async def scenario(door: Door) -> tuple[list[bytes], list[bytes]]:
        idle = [await door.ask(b"/%d" % i) for i in range(3)]
        later = [await door.ask(b"/%d" % i) for i in range(3, 5)]
        gone = [await asyncio.wait_for(reader.read(), 5) for reader, _ in idle[:2]]
        reader, writer = idle[2]
        writer.write(b"GET /again HTTP/1.1\r\nhost: x\r\n\r\n")
        kept = [await reader.readuntil(b"]]"), *[b"" for _ in later]]
        for _, writer in idle + later:
            writer.close()
        return gone, kept

    gone, kept = behind_a_door(scenario, max_connections=3)
    assert gone == [b"", b""]
    assert b"/again" in kept[0]


def test_where_everybody_is_being_answered_who_comes_is_refused_unless_it_is_a_probe() -> None:
    async def scenario(door: Door) -> tuple[list[bytes], bytes]:
        door.front.gate.clear()
        reader, writer = await door.open()
        writer.write(b"GET /a HTTP/1.1\r\nhost: x\r\n\r\n")
        await door.until(lambda: door.front.calls == 1)
        door.front.open_paths = ("/livez", "/metrics")
        others = [await door.send(b"GET %b HTTP/1.1\r\nhost: x\r\n\r\n" % path) for path in (b"/b", b"/livez", b"/metrics")]
        door.front.gate.set()
        received = await reader.readuntil(b"]]")
        writer.close()
        return others, received

    (refused, *probes), received = behind_a_door(scenario, seconds=3, max_connections=1)
    status, code, detail = problem_in(refused)
    assert (status, code) == (Overloaded.status, Overloaded.code)
    assert detail == "1 connections are open, that is the limit (HUBEL_MAX_CONNECTIONS); try again in 1 s"
    assert [answers_in(probe)[0][1] for probe in probes] == ["/livez", "/metrics"]
    assert b"/a" in received


def test_a_flood_of_silent_connections_leaves_places_for_who_asks() -> None:
    async def scenario(door: Door, silent: int) -> list[Any]:
        flood = [await door.open() for _ in range(silent)]
        answer = answers_in(await door.send(b"GET /work HTTP/1.1\r\nhost: x\r\n\r\n"))
        assert door.account.open <= 2 * 5 + 1
        for _, writer in flood:
            writer.close()
        return answer

    for silent in (7, 30):  # more than there are places, and more than are ever open
        answers = behind_a_door(lambda door, silent=silent: scenario(door, silent), seconds=30, max_connections=5)
        assert len(answers) == 1


def test_what_is_sent_behind_a_request_waits_as_the_bytes_it_is() -> None:
    async def scenario(door: Door) -> bytes:
        door.front.gate.clear()
        reader, writer = await door.open()
        writer.write(b"".join(b"GET /%d HTTP/1.1\r\nhost: x\r\n\r\n" % i for i in range(5_000)))
        await door.until(lambda: door.front.calls == 1 and door.account.held > 10_000)
        for _ in range(50):
            await asyncio.sleep(0)
        (connection,) = cast("set[LimitedConnection]", door.state.connections)
        assert (door.front.calls, connection.heads, len(connection.pipeline)) == (1, 1, 0)
        assert connection.state is State.ANSWER
        door.front.gate.set()
        received = b""
        while b"/4999" not in received:
            received += await asyncio.wait_for(reader.read(65_536), 10)
        assert door.account.held == 0
        writer.close()
        return received

    assert [answer[1] for answer in answers_in(behind_a_door(scenario, seconds=5))] == [f"/{i}" for i in range(5_000)]


def test_who_holds_most_of_too_many_unread_bytes_lets_go_of_them() -> None:
    async def scenario(door: Door) -> tuple[bytes, bytes]:
        door.front.gate.clear()
        small, large = await door.open(), await door.open()
        request = b"GET /a HTTP/1.1\r\nhost: x\r\n\r\n"
        for _, writer in (small, large):
            writer.write(request)
        await door.until(lambda: door.front.calls == 2)
        for (_, writer), times in ((small, 99), (large, 3_000)):
            writer.write(request * times)
        await door.until(lambda: any(c.deaf for c in door.state.connections))  # type: ignore[attr-defined]
        assert door.account.held <= 20_000
        door.front.gate.set()
        received = [await asyncio.wait_for(reader.readuntil(b"]]"), 5) for reader, _ in (small, large)]
        rest = await asyncio.wait_for(large[0].read(), 5)
        for _ in range(99):
            received[0] += await asyncio.wait_for(small[0].readuntil(b"]]"), 5)
        for _, writer in (small, large):
            writer.close()
        return received[0], received[1] + rest

    few, one = behind_a_door(scenario, seconds=5, unread=20_000)
    assert [len(answers_in(few)), len(answers_in(one))] == [100, 1]
    assert b"connection: close" in one


def test_refusals_one_behind_the_other_let_others_have_their_turn() -> None:
    async def scenario(door: Door) -> tuple[int, int]:
        door.front.gate.clear()
        reader, writer = await door.open()
        post = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n" + post * 3_000)
        await door.until(lambda: door.front.calls == 1)
        door.front.overloaded = True
        door.front.gate.set()
        turns, received = counted_turns(), b""
        while received.count(b" 503 ") < 3_000:
            received += await asyncio.wait_for(reader.read(65_536), 10)
        writer.close()
        return turns[0], received.count(b" 503 ")

    turns, refusals = behind_a_door(scenario, seconds=5)
    assert refusals == 3_000
    assert turns >= refusals


def test_blank_lines_do_not_keep_an_idle_connection_open() -> None:
    async def scenario(door: Door) -> bool:
        reader, writer = await door.ask(b"/a")
        reading = asyncio.create_task(reader.read())
        async with asyncio.timeout(20):  # or it is never closed
            while not reading.done():
                with suppress(ConnectionError):
                    writer.write(b"\r\n")
                await asyncio.sleep(0.05)
        writer.close()
        return reading.done()

    assert behind_a_door(scenario, seconds=60, keep_alive=0.4)
    assert behind_a_door(lambda door: door.send(*[b"\r\n"] * 200, pause=0.02), seconds=0.4) == b""  # before the first request


def test_an_answer_without_the_body_that_was_to_be_asked_for_ends_the_connection() -> None:
    head = b"POST %b HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 33\r\n\r\n"
    following = b"GET /next HTTP/1.1\r\nhost: x\r\n\r\n"

    async def scenario(door: Door) -> list[bytes]:
        called = await door.send(head % b"/early", following, pause=0.1)
        read = await door.send(head % b"/", b"x" * 33 + following, pause=0.1)
        door.front.overloaded = True
        return [called, await door.send(head % b"/", following, pause=0.1), read]

    called, refused, read = behind_a_door(scenario, seconds=3)
    for received, status in ((called, b"200"), (refused, b"503")):
        assert received.startswith(b"HTTP/1.1 " + status)
        assert b"connection: close" in received
        assert received.count(b"HTTP/1.1") == 1
    assert read.startswith(b"HTTP/1.1 100 Continue")
    assert b"connection: close" not in read
    assert b"/next" in read


def test_a_head_that_others_might_read_differently_is_refused() -> None:
    coding = "the transfer-encoding is not chunked alone; send that, or a content-length"
    bad = {
        b"GET / HTTP/1.1\r\n\r\n": "the request has 0 Host headers; send one",
        b"GET / HTTP/1.1\r\nhost: x\r\nHost: y\r\n\r\n": "the request has 2 Host headers; send one",
        b"GET / HTTP/2.0\r\nhost: x\r\n\r\n": "this is HTTP/2.0; send HTTP/1.1",
        b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n": coding,
        b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: identity\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n": coding,
    }
    for request, why in bad.items():
        assert problem_in(behind_a_door(lambda door, request=request: door.send(request))) == (400, "malformed_request", why)
    assert behind_a_door(lambda door: door.send(b"GET / HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.1 200")


def test_a_head_and_a_body_in_chunks_may_be_cut_anywhere() -> None:
    one = b"POST /a HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n4\r\n\r\n\r\n\r\n1\r\nb\r\n0\r\nt: u\r\n\r\n"
    two = b"GET /b HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"

    async def scenario(door: Door) -> list[bytes]:
        cuts = range(1, len(one + two))
        return await asyncio.gather(*(door.send((one + two)[:at], (one + two)[at:], pause=0.01, patience=60) for at in cuts))

    for received in behind_a_door(scenario, seconds=60, max_connections=500):
        assert [answer[:3] for answer in answers_in(received)] == [["POST", "/a", "\r\n\r\nb"], ["GET", "/b", ""]]


def test_what_follows_a_head_that_came_in_two_parts_waits_too() -> None:
    async def scenario(door: Door) -> None:
        door.front.gate.clear()
        one = b"GET /a HTTP/1.1\r\nhost: x\r\n\r\n"
        for at in (len(one) - 3, len(one) - 2, len(one) - 1):
            _, writer = await door.open()
            calls = door.front.calls
            writer.write(one[:at])
            await asyncio.sleep(0.05)
            writer.write(one[at:] + one * 2)
            await door.until(lambda calls=calls: door.front.calls > calls)
            await asyncio.sleep(0.05)
            assert max(connection.heads for connection in cast("set[LimitedConnection]", door.state.connections)) == 1
            writer.close()

    behind_a_door(scenario, seconds=5)


def test_many_small_chunks_are_read_and_others_have_their_turn() -> None:
    async def scenario(door: Door) -> tuple[bytes, int]:
        turns = counted_turns()
        head = b"POST /a HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
        received = await door.send(head + b"1\r\nx\r\n" * 60_000 + b"0\r\n\r\n", patience=2)
        return received, turns[0]

    received, turns = behind_a_door(scenario, seconds=20)
    (answer,) = answers_in(received)
    assert len(answer[2]) == 60_000
    assert turns > 60_000 * 6 / PIECE_BYTES


def test_a_body_of_many_chunks_behind_its_answer_is_read_to_its_end() -> None:
    async def scenario(door: Door) -> bytes:
        head = b"POST /early HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
        chunks = [b"".join(b"%x\r\n%b\r\n" % (size, b"x" * size) for _ in range(900_000 // size)) for size in (9, 1_000, 70_000)]
        parts = [part for chunk in chunks for part in (head, chunk, b"0\r\n\r\n")]
        return await door.send(*parts, b"GET /end HTTP/1.1\r\nhost: x\r\n\r\n", patience=3)

    assert [answer[1] for answer in answers_in(behind_a_door(scenario, seconds=5))] == ["/early"] * 3 + ["/end"]


def test_a_body_that_breaks_off_behind_an_answer_gets_no_second_one() -> None:
    async def scenario(door: Door) -> bytes:
        door.front.overloaded = True
        return await door.send(b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n", b"zz\r\n", pause=0.1)

    received = behind_a_door(scenario)
    assert received.startswith(b"HTTP/1.1 503")
    assert received.count(b"HTTP/1.1") == 1


def test_nothing_is_done_for_those_who_ask_and_hang_up_at_once() -> None:
    async def scenario(door: Door) -> int:
        request = b"POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc"
        for _ in range(60):
            with socket.create_connection(("127.0.0.1", door.port)) as connection:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.sendall(request)
        assert len(answers_in(await door.send(request))) == 1
        await door.until(lambda: not door.state.connections)
        return door.front.calls

    assert behind_a_door(scenario, seconds=5) == 1


def test_only_so_many_requests_begin_in_a_turn_of_the_loop() -> None:
    async def scenario(door: Door) -> int:
        connections = [await door.ask(b"/a") for _ in range(6 * TURN_REQUESTS)]
        most, calls = 0, door.front.calls

        def look() -> None:
            nonlocal most, calls
            most, calls = max(most, door.front.calls - calls), door.front.calls

        for _, writer in connections:
            writer.write(b"GET /b HTTP/1.1\r\nhost: x\r\n\r\n")
        counted_turns(look)
        await asyncio.gather(*(asyncio.wait_for(reader.readuntil(b"]]"), 5) for reader, _ in connections))
        for _, writer in connections:
            writer.close()
        return most

    assert behind_a_door(scenario, seconds=5) <= 4.5 * TURN_REQUESTS  # a look may come some turns late


def test_a_bad_chunk_where_the_body_was_to_be_asked_for_gets_one_answer() -> None:
    head = b"POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\n"
    received = behind_a_door(lambda door: door.send(head)).removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert problem_in(received)[:2] == (400, "malformed_request")


def test_who_has_shut_down_its_side_gets_what_it_asked_for_where_nothing_is_computed() -> None:
    async def ask(door: Door, request: bytes) -> bytes:
        reader, writer = await door.open()
        writer.write(request)
        writer.write_eof()
        received = await asyncio.wait_for(reader.read(), 5)
        writer.close()
        return received

    async def scenario(door: Door) -> list[bytes]:
        return [
            await ask(door, b"GET /a HTTP/1.1\r\nhost: x\r\n\r\n"),
            await ask(door, b"GET /a HTTP/1.1\r\nhost: x\r\n\r\nGET /b HTTP/1.1\r\nhost: x\r\n\r\n"),
            await ask(door, b"GET /a HT"),
        ]

    one, two, none = behind_a_door(scenario)
    assert [answer[1] for answer in answers_in(one)] == ["/a"]
    assert [answer[1] for answer in answers_in(two)][:1] == ["/a"]
    assert none == b""


def test_an_offer_of_http_2_is_not_taken_and_the_request_answered_with_its_body() -> None:
    plain = b"POST /a HTTP/1.1\r\nhost: x\r\n" + JAVA + b"content-length: 3\r\n\r\nabc"
    chunked = b"POST /b HTTP/1.1\r\nhost: x\r\n" + JAVA + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    without = b"GET /c HTTP/1.1\r\nhost: x\r\n" + JAVA + b"\r\n"
    received = behind_a_door(lambda door: door.send(plain + chunked + without + plain))
    assert [answer[:3] for answer in answers_in(received)] == [
        ["POST", "/a", "abc"],
        ["POST", "/b", "abc"],
        ["GET", "/c", ""],
        ["POST", "/a", "abc"],
    ]


def test_very_many_offers_at_once_are_read_one_after_the_other() -> None:
    request = b"GET /c HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n"
    assert len(answers_in(behind_a_door(lambda door: door.send(request * 500, patience=1.5)))) == 500


def test_trailers_are_not_kept() -> None:
    trailers = b"".join(b"t%d: y\r\n" % i for i in range(1000))
    request = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n" + trailers + b"\r\n"
    (answer,) = answers_in(behind_a_door(lambda door: door.send(request)))
    assert answer == ["POST", "/", "abc", ["host", "transfer-encoding"]]


def test_while_the_service_drains_an_answer_ends_its_connection() -> None:
    async def scenario(door: Door) -> bytes:
        door.front.draining = True
        return await door.send(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")

    received = behind_a_door(scenario)
    assert received.startswith(b"HTTP/1.1 200")
    assert b"connection: close" in received.partition(b"\r\n\r\n")[0]


def test_an_answer_that_was_begun_before_the_service_drains_ends_its_connection_too() -> None:
    async def scenario(door: Door) -> bytes:
        door.front.gate.clear()
        answer = asyncio.create_task(door.send(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", patience=10))
        async with asyncio.timeout(10):
            while not door.front.calls:
                await asyncio.sleep(0.01)
        door.front.draining = True
        for connection in list(door.state.connections):
            cast(LimitedConnection, connection).finish()
        door.front.gate.set()
        return await answer

    received = behind_a_door(scenario)
    assert received.startswith(b"HTTP/1.1 200")
    assert b"connection: close" in received.partition(b"\r\n\r\n")[0]


def test_when_the_service_stops_what_has_begun_is_answered_and_what_is_idle_closed() -> None:
    async def scenario(door: Door) -> list[bytes]:
        door.front.gate.clear()
        connections = [await door.open() for _ in range(4)]
        in_flight, half, fresh, idle = (writer for _, writer in connections)
        door.front.gate.set()
        idle.write(b"GET /idle HTTP/1.1\r\nhost: x\r\n\r\n")
        await connections[3][0].readuntil(b"]]")
        door.front.gate.clear()
        in_flight.write(b"GET /begun HTTP/1.1\r\nhost: x\r\n\r\n")
        half.write(b"GET /half HTTP/1.1\r\n")
        await asyncio.sleep(0.1)
        for connection in list(door.state.connections):
            connection.shutdown()
        door.front.draining = True
        fresh.write(b"GET /fresh HTTP/1.1\r\nhost: x\r\n\r\n")
        half.write(b"host: x\r\n\r\n")
        door.front.gate.set()
        received = await asyncio.gather(*(asyncio.wait_for(reader.read(), 10) for reader, _ in connections))
        for _, writer in connections:
            writer.close()
        return received

    in_flight, half, fresh, idle = behind_a_door(scenario)
    assert b"/begun" in in_flight
    assert b"/half" in half
    assert b"/fresh" in fresh
    assert idle == b""


def test_a_client_that_resets_its_connection_does_no_harm() -> None:
    async def scenario(door: Door) -> bytes:
        for _ in range(20):
            connection = socket.create_connection(("127.0.0.1", door.port))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.sendall(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nabc")
            connection.close()
        received = await door.send(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        async with asyncio.timeout(10):
            while door.state.connections:
                await asyncio.sleep(0.05)
        return received

    assert len(answers_in(behind_a_door(scenario))) == 1
