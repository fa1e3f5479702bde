"""Connections, without the service behind them: what a client may take of us before its request is whole."""

import asyncio
import json
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, cast

import uvicorn
from uvicorn.server import ServerState

from service.errors import HubelError, Overloaded
from service.protocol import MAX_HEAD_BYTES, BoundedProtocol, Bounds

JAVA = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAA\r\n"
Scenario = Callable[["Door"], Awaitable[Any]]


class Front:
    """Stands in for the edge: answers each request with its method, path, body and connection, as JSON."""

    def __init__(self) -> None:
        self.draining = False
        self.overloaded = False
        self.large = 0  # bytes that an answer has more
        self.gate = asyncio.Event()
        self.gate.set()
        self.calls = 0

    def refuse_early(self, scope: Any) -> bytes | None:
        return b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n" if self.overloaded else None

    def refuse_unread(self, error: HubelError) -> bytes:
        body = json.dumps({"code": error.code, "detail": str(error)}).encode()
        return b"HTTP/1.1 %d X\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b" % (error.status, len(body), body)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.calls += 1
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
        await self.gate.wait()
        names = [name.decode() for name, _ in scope["headers"]]
        answer = json.dumps([scope["method"], scope["path"], body.decode("latin-1"), names]).encode() + b" " * self.large
        headers = [(b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})


class Door:
    """A listening socket with BoundedProtocol behind it."""

    def __init__(self, front: Front, port: int, state: ServerState) -> None:
        self.front = front
        self.port = port
        self.state = state

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


def behind_a_door(scenario: Scenario, seconds: float = 0.5, max_connections: int = 100, keep_alive: int = 5) -> Any:
    async def run() -> Any:
        front = Front()
        config = uvicorn.Config(front, ws="none", log_config=None, access_log=False, timeout_keep_alive=keep_alive)
        config.load()
        state = ServerState()
        bounds = Bounds(max_connections, seconds)
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: BoundedProtocol(front, bounds, config=config, server_state=state, app_state={}), "127.0.0.1", 0
        )
        async with server:
            return await scenario(Door(front, server.sockets[0].getsockname()[1], state))

    return asyncio.run(run())


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
    assert [answer[:3] for answer in answers_in(received)] == [["POST", "/a", "abc"]] * 2
    assert b"connection: close" in received


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
    many = [b"GET / HTTP/1.1\r\n", *[b"x: y\r\n" * 2_000] * 10]
    for parts in ([ends], goes_on, many):
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


def test_connections_over_the_limit_are_refused_and_the_others_go_on() -> None:
    async def scenario(door: Door) -> tuple[bytes, bytes]:
        reader, writer = await door.open()
        writer.write(b"GET /a HTTP/1.1\r\nhost: x\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        second = await door.send(b"GET /b HTTP/1.1\r\nhost: x\r\n\r\n")
        await asyncio.sleep(0.1)
        writer.write(b"GET /c HTTP/1.1\r\nhost: x\r\n\r\n")
        received = b""
        while b"/c" not in received:
            received += await asyncio.wait_for(reader.read(1000), 5)
        writer.close()
        return second, received

    second, _ = behind_a_door(scenario, max_connections=1)
    status, code, detail = problem_in(second)
    assert (status, code) == (Overloaded.status, Overloaded.code)
    assert detail == "1 connections are open, that is the limit (HUBEL_MAX_CONNECTIONS); try again in 1 s"


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
    request = b"GET /c HTTP/1.1\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n"
    assert len(answers_in(behind_a_door(lambda door: door.send(request * 1500, patience=3)))) == 1500


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
            cast(BoundedProtocol, connection).finish()
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
