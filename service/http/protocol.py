"""HTTP/1.1 on a connection: uvicorn's, with bounds on what a client may take of us before its request is let in.

Bytes are parsed to the end of one request, and no further before that is answered: what comes behind it waits as the bytes it
is. An overloaded service refuses a request on its head, without a task; the body that follows is read and forgotten, so that
the client sees the answer.
"""

import asyncio
import time
import urllib.parse
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Protocol, cast

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from service.errors import HeadTooLarge, HubelError, MalformedRequest, Overloaded, RequestTimeout
from service.http.auth import ALWAYS
from service.http.body import Signal
from service.http.connections import Connections, State

MAX_HEAD_BYTES = 65_536  # request line and headers
MAX_FIELDS = 128  # headers; browsers send some twenty, proxies add a few
END = b"\r\n\r\n"  # of a head, and of a body in chunks
PIECE_BYTES = 4096  # of a head, or of a body in chunks, that the parser gets at once
PIECES = 2  # such pieces that a connection may always have, before it waits behind others
FRESH_SECONDS = 0.2  # how long a connection that has sent nothing yet stays open when the service stops
CHEAP = (b"GET ", b"HEAD ")  # beginnings of requests for which nothing is computed
PAUSE_BYTES = 65_536  # unread; with fewer the socket is read on, which tells who has hung up
VERSIONS = ("1.1", "1.0")
CLOSE = (b"connection", b"close")
Headers = Sequence[tuple[bytes, bytes]]
OVER = SimpleNamespace(
    response_started=True, response_complete=True, disconnected=False, keep_alive=False, message_event=Signal()
)  # in the place of the Cycle of a request that was refused on its head


class EarlyRefusal(Protocol):
    """What the application, asgi.py, says without being called as one."""

    @property
    def draining(self) -> bool: ...

    def refuse_early(self, scope: Any, more: Headers) -> bytes | None:
        """The whole answer, with ``more`` headers, to a request that is refused on its head, or None to have it called."""
        ...

    def refuse_unread(self, error: HubelError, more: Headers) -> bytes:
        """The whole answer, with ``more`` headers, to what is no request that can be read."""
        ...


class Flow(FlowControl):
    """Reading stays paused while bytes wait to be parsed, whoever would go on."""

    waits = False

    def resume_reading(self) -> None:
        if not self.waits:
            super().resume_reading()


class Cycle(RequestResponseCycle):
    """A request and the answer."""

    message_event: Signal

    async def send(self, message: Any) -> None:
        if self.waiting_for_100_continue:  # its client may send the body or not, so nothing can be read behind it
            self.keep_alive = False
        await super().send(message)

    def send_whole(self, status: int, headers: Headers, body: bytes) -> bool:
        """An answer that is there in full, in one piece and without a look at each header, which are ours; whether it was sent:
        not where that has to wait, or something was said before.
        """
        if self.flow.write_paused or self.response_started or self.disconnected or self.scope["method"] == "HEAD":
            return False
        if self.waiting_for_100_continue:
            self.waiting_for_100_continue = self.keep_alive = False
        parts = [STATUS_LINE[status]]
        for name, value in (*self.default_headers, *headers):
            parts += (name, b": ", value, b"\r\n")
        parts.append(b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n")
        parts.append(body)
        self.transport.write(b"".join(parts))
        self.response_started = self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()
        return True


class LimitedConnection(HttpToolsProtocol):
    """One connection. ``front`` and ``account`` are the same for all of a process.

    parsed: bytes of ``unread`` that the parser has had. left: of a body whose length was said, what is still to come.
    """

    cycle: RequestResponseCycle | None  # type: ignore[assignment]

    def __init__(self, front: EarlyRefusal, account: Connections, **uvicorn: Any) -> None:
        super().__init__(**uvicorn)
        self.front = front
        self.account = account
        self.state: State | None = None
        self.held = 0
        self.queued = False
        self.unread, self.parsed = b"", 0
        self.tail = b""  # the last bytes of a head or of chunks that the parser has had
        self.crowded = False  # there was no place for it
        self.replayed = False  # the head that the parser reads was seen before
        self.heads = 0  # that have begun
        self.in_head, self.begun = True, False  # a head is next; some of it is here
        self.head_bytes = 0
        self.left, self.chunked = 0, False
        self.dropping = False  # the body belongs to a request that is refused
        self.deaf = False  # what comes is forgotten
        self.ended = False  # nothing more is said
        self.half = False  # the client says nothing more

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.connections.add(self)
        self.transport = transport
        self.flow: Flow = Flow(transport)  # pyright: ignore[reportIncompatibleVariableOverride]
        self.scheme = "http"  # nobody asks for the addresses, which cost as much as all the rest
        self.crowded = not self.account.join(self, self.loop)
        if self.account.open > 2 * self.account.limits.places:
            self._abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.account.leave(self)
        self.unread, self.parsed = b"", 0
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.deaf or self.transport.is_closing():
            return
        self.unread = self.unread[self.parsed :] + data if self.parsed < len(self.unread) else data
        self.parsed = 0
        self.account.work(self)
        if self.queued:
            self._settle()

    def eof_received(self) -> bool:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        """What was asked before the client shut down its side is answered where that is cheap; whoever waits for pixels to be
        computed has to stay, as a client that is gone looks the same.
        """
        cycle = self.cycle
        if self.unread:
            self.half = self.unread.startswith(CHEAP, self.parsed) and self.unread.find(END, self.parsed) >= 0
        else:
            self.half = self._answering() and cycle is not None and cycle.scope["method"] in ("GET", "HEAD")
        if self.half and cycle is not None and not self.unread:
            cycle.keep_alive = False
        return self.half

    def advance(self, until: float) -> None:
        """Parse what is here: to the end of a request, or, after a few pieces, ``until`` a time of time.perf_counter."""
        data, heads, pieces = self.unread, self.heads, 0
        while self.parsed < len(data) and not self._has_to_wait():
            if (self.in_head and not self.begun and self.heads > heads) or (pieces >= PIECES and time.perf_counter() > until):
                self.account.line_up(self, again=True)
                break
            pieces += not self.left
            end = self._piece()
            if self.dropping:
                self._drop(end)
                continue
            if self.in_head and self.head_bytes + end - self.parsed > MAX_HEAD_BYTES:
                self._refuse(_too_large(self.head_bytes + end - self.parsed))
                break
            try:
                self._parse(memoryview(data)[self.parsed : end], end)
            except httptools.HttpParserError as err:
                ours = isinstance(err.__context__, HubelError)
                self._refuse(err.__context__ if ours else MalformedRequest("this is not an HTTP/1.1 request"))
                break
        self._settle()

    def _has_to_wait(self) -> bool:
        """Nothing more is parsed now: a request has to be answered, or the answer to be taken, first."""
        return self.deaf or (self.in_head and self._answering()) or self.flow.write_paused or self.transport.is_closing()

    def _piece(self) -> int:
        """Where the bytes end that the parser gets next: not behind the end of a request, which is known where its length was
        said, and an empty line where not.
        """
        data, at = self.unread, self.parsed
        if self.left:
            return min(len(data), at + self.left)
        end = min(len(data), at + PIECE_BYTES)
        if self.tail and (found := (self.tail + data[at : at + 3]).find(END)) >= 0:
            end = min(end, at + found + 4 - len(self.tail))
        elif (found := data.find(END, at, end)) >= 0:
            end = found + 4
        return end

    def _parse(self, rest: memoryview, end: int) -> None:
        """Feed the parser. It stops where a request offers another protocol, such as the h2c of Java's client, body unread;
        we take no such offer (RFC 9110, section 7.8), so another parser is told where it stood and reads on.
        """
        if self.in_head:
            self.head_bytes += len(rest)
        self.parsed = end
        while True:
            try:
                self.parser.feed_data(rest)  # pyright: ignore[reportOptionalMemberAccess]
                if self.begun or (self.chunked and not self.in_head):  # its end may be here in part
                    self.tail = (self.tail + bytes(rest[-3:]))[-3:]
                return
            except httptools.HttpParserUpgrade as err:
                framing = (b"content-length", b"transfer-encoding")
                lines = [b"%b: %b\r\n" % header for header in self.headers if header[0] in framing]
                self.parser = httptools.HttpRequestParser(self)
                self.replayed = True
                self.parser.feed_data(b"".join([b"POST / HTTP/1.1\r\n", *lines, b"\r\n"]))
                self.replayed = False
                rest = rest[err.args[0] :]

    def _drop(self, end: int) -> None:
        """Forget a body, or a part, which its parser never sees; the request behind it has a new one."""
        self.left -= end - self.parsed
        self.parsed = end
        if not self.left:
            self.dropping, self.in_head = False, True
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's

    def on_message_begin(self) -> None:
        if not self.replayed:
            super().on_message_begin()
            self.begun = True
            self.heads += 1

    def on_url(self, url: bytes) -> None:
        if not self.replayed:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.in_head or self.replayed:  # trailers after a body are not looked at, and not kept
            return
        if len(self.headers) >= MAX_FIELDS:
            raise HeadTooLarge(f"the request has more than {MAX_FIELDS} headers, the limit; send fewer")
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        if self.replayed:
            return
        version = self.parser.get_http_version()  # pyright: ignore[reportOptionalMemberAccess]
        fields = dict(self.headers)
        self._check(version, fields)
        url = httptools.parse_url(self.url)
        path = url.path.decode("ascii")
        self.scope["method"] = self.parser.get_method().decode("ascii")  # pyright: ignore[reportOptionalMemberAccess]
        self.scope["http_version"] = version
        self.scope["path"] = self.root_path + (urllib.parse.unquote(path) if "%" in path else path)
        self.scope["raw_path"] = self.root_path.encode("ascii") + url.path
        self.scope["query_string"] = url.query or b""
        self.chunked = b"transfer-encoding" in fields
        self.left = 0 if self.chunked else int(fields.get(b"content-length", b"0"))
        self.in_head = self.begun = False
        self.head_bytes, self.tail = 0, b""
        expects = fields.get(b"expect", b"").lower() == b"100-continue"
        keep_alive = version != "1.0" and self.parser.should_keep_alive()  # pyright: ignore[reportOptionalMemberAccess]
        keep_alive = keep_alive and not (self.front.draining or self.half)
        self.account.begun += 1
        answer, closes = self._refusal(expects or not keep_alive)
        if answer is not None:
            self._begin_refused(answer, closes)
            return
        self.cycle = cycle = Cycle(  # pyright: ignore[reportIncompatibleVariableOverride]
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=Signal(),
            expect_100_continue=expects,
            keep_alive=keep_alive,
            on_response=self.on_response_complete,
        )
        task = self.loop.create_task(cycle.run_asgi(cast(Any, self.app)))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    def _refusal(self, closes: bool) -> tuple[bytes | None, bool]:
        """The whole answer to a request that is refused on its head, None where it is let in; and whether the connection ends
        with it: ``closes``, or for want of a place.
        """
        if self.crowded and not self._has_place(self.scope["path"]):
            return self._word(self._no_place()), True
        headers = self.server_state.default_headers
        return self.front.refuse_early(self.scope, [*headers, CLOSE] if closes else headers), closes

    def _begin_refused(self, answer: bytes, closes: bool) -> None:
        """Answer, without a task, and drop the body."""
        if self.cycle is None:  # else that of the request before, which is over as well
            self.cycle = cast(Any, OVER)  # pyright: ignore[reportIncompatibleVariableOverride]
        self.server_state.total_requests += 1
        self.transport.write(answer)
        self.dropping = self.left > 0
        if closes:
            self._end()

    def _check(self, version: str, fields: Mapping[bytes, bytes]) -> None:
        """Raises MalformedRequest for a head that another server on the way could read differently (RFC 9112, 3.2 and 6.1)."""
        hosts, encodings = int(b"host" in fields), int(b"transfer-encoding" in fields)
        if len(fields) < len(self.headers):  # some are there twice
            names = [name for name, _ in self.headers]
            hosts, encodings = names.count(b"host"), names.count(b"transfer-encoding")
        if version not in VERSIONS:
            raise MalformedRequest(f"this is HTTP/{version[:10]}; send HTTP/1.1")
        if hosts > 1 or (not hosts and version == "1.1"):
            raise MalformedRequest(f"the request has {hosts} Host headers; send one")
        if encodings and (encodings > 1 or fields[b"transfer-encoding"].lower() != b"chunked"):
            raise MalformedRequest("the transfer-encoding is not chunked alone; send that, or a content-length")

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():  # nothing is complete: see _parse  # pyright: ignore[reportOptionalMemberAccess]
            return
        self.in_head, self.left, self.tail = True, 0, b""  # of the next one, of which nothing is here yet
        super().on_message_complete()

    def on_body(self, body: bytes) -> None:
        if not self.chunked:
            self.left -= len(body)
        super().on_body(body)

    def _has_place(self, path: str) -> bool:
        """Whether a request that came when all places were taken is let in: who holds one without a request gives way."""
        self.account.move(self, State.ANSWER)
        return path in ALWAYS or not self.account.is_full() or self.account.make_room(asked=True)

    def _no_place(self) -> Overloaded:
        limit = self.account.limits.places
        return Overloaded(f"{limit} connections are open, that is the limit (HUBEL_MAX_CONNECTIONS); try again in 1 s", 1)

    def _word(self, error: HubelError) -> bytes:
        """The answer that tells of an error, and that the connection ends."""
        return self.front.refuse_unread(error, [*self.server_state.default_headers, CLOSE])

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.parsed < len(self.unread) and not self.transport.is_closing():
            self.account.line_up(self, again=True)
        self.flow.resume_reading()
        self._settle()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._settle()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.parsed < len(self.unread):
            self.account.line_up(self, again=True)
        self._settle()

    def _settle(self) -> None:
        """Tell the account how things stand; read on where nothing waits to be parsed."""
        if self.parsed >= len(self.unread):
            self.unread, self.parsed = b"", 0
        size = len(self.unread) - self.parsed
        if self.state is None:
            return
        held = size + (self.head_bytes if self.begun else 0)
        if held != self.held:
            self.account.hold(self, held)
        if size > PAUSE_BYTES and not self.deaf:
            self.flow.waits = True
            self.flow.pause_reading()
        elif self.flow.waits:
            self.flow.waits = False
            if not self._answering() or len(cast(RequestResponseCycle, self.cycle).body) <= HIGH_WATER_LIMIT:
                self.flow.resume_reading()
        self.account.move(self, self._state())

    def _state(self) -> State:
        if self.transport.is_closing():
            return State.CLOSING
        if self.ended:
            return State.LINGER
        if self.flow.write_paused:
            return State.STUCK
        if not self.in_head:
            return State.BODY if self._answering() else State.DROPPED
        if self._answering():
            return State.ANSWER
        if self.queued:
            return State.QUEUED
        if self.begun:
            return State.HEAD
        return State.IDLE if self.heads else State.FRESH

    def finish(self) -> None:
        """The answer that is being made, if there is one, ends the connection."""
        if self.cycle is not None and self._answering():
            self.cycle.keep_alive = False

    def shutdown(self) -> None:
        """The service stops: what has begun is finished, what is idle is closed."""
        if self._answering():
            self.finish()
        elif not self.heads:  # its first request may be on the way
            self.loop.call_later(FRESH_SECONDS, self._close_idle)
        else:
            self._close_idle()

    def _close_idle(self) -> None:
        if not self.begun and not self._answering() and not self.unread:
            self._close()

    def _answering(self) -> bool:
        """A request has a head, and no whole answer yet."""
        return self.cycle is not None and not self.cycle.response_complete

    def expire(self, state: State) -> None:
        if state is State.HEAD:
            self._refuse(_too_slow(self.account.limits.seconds))
        elif state in (State.IDLE, State.FRESH, State.DROPPED):
            self._close()
        else:
            self._abort()

    def give_way(self) -> None:
        self._close() if self.state is State.IDLE else self._abort()

    def shed(self) -> None:
        self.unread, self.parsed = b"", 0
        if self._answering() and self.in_head:
            self.deaf = True  # the requests behind this one are let go
            self.finish()
            self._settle()
        else:
            self._refuse(Overloaded("too many bytes wait to be read; try again in 1 s, one request after the other", 1))

    def _close(self) -> None:
        """Once what was written is taken."""
        self.transport.close()
        self._settle()

    def _abort(self) -> None:
        if self.cycle is not None and self._answering():
            self.cycle.disconnected = True  # nobody reads an answer
            self.cycle.message_event.set()
        self.transport.abort()
        self.account.leave(self)

    def _refuse(self, error: BaseException | None) -> None:
        """Answer what cannot be read, and close."""
        assert isinstance(error, HubelError)
        self.deaf = True
        cycle = self.cycle
        if not self.in_head and cycle is not None:  # the body of a request broke off
            if cycle.response_started:
                cycle.keep_alive = False
                if cycle.response_complete:
                    self._end()
                return
            cycle.keep_alive = cycle.waiting_for_100_continue = False
            cycle.disconnected = True  # nobody reads another answer than this
            cycle.message_event.set()
        self.transport.write(self._word(error))
        self._end()

    def _end(self) -> None:
        """Say no more, and close a little later: a connection with unread bytes that is closed at once loses the answer."""
        self.deaf = self.ended = True
        self.unread, self.parsed = b"", 0
        self.flow.waits = False
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._settle()


def _too_slow(seconds: float) -> RequestTimeout:
    return RequestTimeout(f"the head of the request did not arrive within {seconds:g} s (HUBEL_DEADLINE_MS); send it faster")


def _too_large(size: int) -> HeadTooLarge:
    return HeadTooLarge(
        f"the request line and headers have {size} bytes or more, the limit is {MAX_HEAD_BYTES}; send fewer or shorter ones"
    )
