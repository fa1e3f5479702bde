"""HTTP on a connection: uvicorn's, with bounds on what a client may take of us before its request is whole.

A head has a longest length, a request a longest time to arrive, an answer a longest time to be taken, and connections a
greatest number. An overloaded service refuses a request on its head, without a task; the body that follows is read and
forgotten, so that the client sees the answer. Neighbours: edge.py words the refusals, worker.py runs the server.
"""

import asyncio
from dataclasses import dataclass
from typing import Any, Protocol, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.errors import HeadTooLarge, HubelError, MalformedRequest, Overloaded, RequestTimeout

MAX_HEAD_BYTES = 65_536  # request line and headers
LINGER_SECONDS = 2.0  # between an answer that ends the connection and the end
FRESH_SECONDS = 0.2  # how long a connection that has sent nothing yet stays open when the service stops


class Front(Protocol):
    """What the application, edge.py, says without being called as one."""

    @property
    def draining(self) -> bool: ...

    def refuse_early(self, scope: Any) -> bytes | None:
        """The whole answer to a request that is refused on its head, or None to have it called as ever."""
        ...

    def refuse_unread(self, error: HubelError) -> bytes:
        """The whole answer to what is no request that can be read."""
        ...


@dataclass(frozen=True)
class Bounds:
    """max_connections: open at a time. seconds: for a request to arrive, and for an answer to be taken."""

    max_connections: int
    seconds: float


class BoundedProtocol(HttpToolsProtocol):
    """One connection. ``front`` and ``bounds`` are the same for all of a process."""

    def __init__(self, front: Front, bounds: Bounds, **uvicorn: Any) -> None:
        super().__init__(**uvicorn)
        self.front = front
        self.bounds = bounds
        self.fresh = True  # nothing was received yet
        self.replayed = False  # the head that the parser reads was seen before
        self.refused = False  # what comes is read and forgotten
        self.heads = 0  # that have begun
        self.in_head = True
        self.head_bytes = 0
        self.arriving: asyncio.TimerHandle | None = None  # until when the request has to be here
        self.leaving: asyncio.TimerHandle | None = None  # until when the client has to take what we wrote

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect(self.bounds.seconds)
        limit = self.bounds.max_connections
        if len(self.connections) > 2 * limit:  # most of them are about to be closed
            transport.abort()
        elif len(self.connections) > limit:
            self._refuse(
                Overloaded(f"{limit} connections are open, that is the limit (HUBEL_MAX_CONNECTIONS); try again in 1 s", 1)
            )

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self._forget()
        if self.leaving:
            self.leaving.cancel()

    def data_received(self, data: bytes) -> None:
        if self.refused or self.transport.is_closing():
            return
        self._unset_keepalive_if_required()
        self.fresh = False
        heads = self.heads
        try:
            self._parse(data)
        except httptools.HttpParserError as err:
            too_large = isinstance(err.__context__, HeadTooLarge)
            self._refuse(err.__context__ if too_large else MalformedRequest("this is not an HTTP/1.1 request"))
            return
        if self.head_bytes and self.heads == heads:  # still the head that had begun before
            self.head_bytes += len(data)
            if self.head_bytes > MAX_HEAD_BYTES:
                self._refuse(_too_large(self.head_bytes))
                return
        if not self.arriving and (self.head_bytes or not self.in_head):
            self._expect(self.bounds.seconds)

    def _parse(self, data: bytes) -> None:
        """Feed the parser. It stops where a request offers another protocol, such as the h2c of Java's client, body unread;
        we take no such offer (RFC 9110, section 7.8), so another parser is told where it stood and reads on.
        """
        rest = memoryview(data)
        while True:
            try:
                self.parser.feed_data(rest)  # pyright: ignore[reportOptionalMemberAccess]
                return
            except httptools.HttpParserUpgrade as err:
                framing = (b"content-length", b"transfer-encoding")
                lines = [b"%b: %b\r\n" % header for header in self.headers if header[0] in framing]
                self.parser = httptools.HttpRequestParser(self)
                self.replayed = True
                self.parser.feed_data(b"".join([b"POST / HTTP/1.1\r\n", *lines, b"\r\n"]))
                self.replayed = False
                rest = rest[err.args[0] :]

    def on_message_begin(self) -> None:
        if self.replayed:
            return
        super().on_message_begin()
        self.in_head = True
        self.heads += 1
        self.head_bytes = 1  # at least; those that come with its beginning are not counted, but few: a read of the socket

    def on_url(self, url: bytes) -> None:
        if not self.replayed:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.in_head and not self.replayed:  # trailers after a body are not looked at, and not kept
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self.replayed:
            return
        self.in_head = False
        self.head_bytes = 0
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > MAX_HEAD_BYTES:
            raise _too_large(size)
        self._forget()  # the body has as long again
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():  # nothing is complete: see _parse
            return
        self.in_head = True  # of the next one, of which nothing is here yet
        self.head_bytes = 0
        self._forget()
        super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        if self.front.draining:
            cycle.keep_alive = False
        answer = self.front.refuse_early(cycle.scope) if cycle.keep_alive else None
        if answer is None:
            super()._start_asgi_task(cycle, app)
            return
        self.transport.write(answer)
        cycle.response_started = cycle.response_complete = True
        self.on_response_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._press()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._press()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.leaving and not self.transport.is_closing():
            self.leaving.cancel()
            self.leaving = None

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._press()

    def finish(self) -> None:
        """The answer that is being made, if there is one, ends the connection."""
        if self._answering():
            self.cycle.keep_alive = False

    def shutdown(self) -> None:
        """The service stops: what has begun is finished, what is idle is closed."""
        if self._answering():
            self.finish()
        elif self.fresh:  # its first request may be on the way
            self.loop.call_later(FRESH_SECONDS, self._close_idle)
        else:
            self._close_idle()

    def _close_idle(self) -> None:
        if not self.head_bytes and not self._answering():
            self.transport.close()

    def _answering(self) -> bool:
        """A request has a head, and no whole answer yet."""
        cycle = cast("RequestResponseCycle | None", self.cycle)
        return cycle is not None and not cycle.response_complete

    def _expect(self, seconds: float) -> None:
        self.arriving = self.loop.call_later(seconds, self._is_late)

    def _forget(self) -> None:
        if self.arriving:
            self.arriving.cancel()
            self.arriving = None

    def _is_late(self) -> None:
        """The request is not whole: refuse it, or leave that to the application, which looks at the same time."""
        self.arriving = None
        if not self.in_head and self._answering():
            self.arriving = self.loop.call_later(LINGER_SECONDS, self.transport.abort)
        elif self.in_head and self.head_bytes:
            self._refuse(_too_slow(self.bounds.seconds))
        else:
            self.transport.close()

    def _press(self) -> None:
        """A client that does not take what was written keeps it in memory, but not for ever."""
        self.leaving = self.leaving or self.loop.call_later(self.bounds.seconds, self.transport.abort)

    def _refuse(self, error: BaseException | None) -> None:
        """Answer, and close a little later: a connection with unread bytes that is closed at once loses the answer."""
        assert isinstance(error, HubelError)
        self._forget()
        self.refused = True
        if self._answering():
            self.cycle.keep_alive = False
            if not self.cycle.more_body or self.pipeline or self.cycle.response_started:
                return  # the requests before are whole; the connection ends with the answer to the last one
            self.cycle.disconnected = True  # nobody reads another answer than this
            self.cycle.message_event.set()
        self.transport.write(self.front.refuse_unread(error))
        self.transport.write_eof()
        self.leaving = self.leaving or self.loop.call_later(LINGER_SECONDS, self.transport.abort)


def _too_slow(seconds: float) -> RequestTimeout:
    return RequestTimeout(f"the head of the request did not arrive within {seconds:g} s (HUBEL_DEADLINE_MS); send it faster")


def _too_large(size: int) -> HeadTooLarge:
    return HeadTooLarge(
        f"the request line and headers have {size} bytes or more, the limit is {MAX_HEAD_BYTES}; send fewer or shorter ones"
    )
