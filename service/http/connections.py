"""The connections of a process, in one account: places, bytes, time, and turns of the event loop.

What a client may take of us before its request is let in has a bound here. Each connection is in one state, and each state ends
by itself after a time, whatever bytes trickle in.
"""

import asyncio
import time
from collections import OrderedDict, deque
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from service.telemetry import metrics

LINGER_SECONDS = 2.0  # between an answer that ends the connection and the end
TURN_SECONDS = 0.002  # of a turn of the event loop, at most, to parse and to refuse; then others come
TURN_REQUESTS = 16  # that begin in a turn, at most: who has hung up is seen in the next, before anything is done for him
SLICE_SECONDS = 0.0005  # of that, at most, for a connection that had a turn before
SWEEP_SECONDS = 0.25  # between two looks for connections whose time is over


class State(StrEnum):
    """What a connection waits for."""

    FRESH = "fresh"  # its first request
    HEAD = "head"  # the rest of a head
    BODY = "body"  # the rest of a body
    DROPPED = "dropped"  # the rest of the body of a request that is answered already
    QUEUED = "queued"  # its turn: bytes are here
    ANSWER = "answer"  # the service
    STUCK = "stuck"  # the client, which does not take what was written
    IDLE = "idle"  # the next request
    LINGER = "linger"  # the client to see an answer that ends the connection
    CLOSING = "closing"  # the last bytes to be taken


ORDERLY = (State.IDLE, State.LINGER, State.CLOSING)  # whose end is no news
# Who gives way to a new connection where all places are taken, and after how many seconds in its state.
GIVE_WAY = {
    State.IDLE: 0.0,
    State.CLOSING: 0.5,
    State.LINGER: 0.5,
    State.DROPPED: 1.0,
    State.HEAD: 1.0,
    State.FRESH: 1.0,
    State.STUCK: 1.0,
    State.BODY: 5.0,
}
WITHOUT_REQUEST = (State.FRESH, State.HEAD, State.DROPPED)


class Connection(Protocol):
    """As protocol.py makes it. state: None where it has no place. held: bytes of it that are in no request yet."""

    state: State | None
    held: int
    queued: bool

    def advance(self, until: float) -> None:
        """Go on with the bytes that are here, ``until`` a time of time.perf_counter at the latest."""
        ...

    def expire(self, state: State) -> None:
        """Its time in the state is over: answer or close."""
        ...

    def give_way(self) -> None:
        """Close for the sake of others."""
        ...

    def shed(self) -> None:
        """Let go of the bytes that are in no request yet."""
        ...


@dataclass(frozen=True)
class Limits:
    """places: connections open at a time. seconds: for a head, again for a body, and for an answer to be taken. keep_alive:
    seconds between two requests. unread: bytes of all connections together that are in no request yet.
    """

    places: int
    seconds: float
    keep_alive: float
    unread: int

    def of(self, state: State) -> float | None:
        """Seconds that a connection may be in a state; None: as long as the service takes."""
        match state:
            case State.IDLE:
                return self.keep_alive
            case State.LINGER:
                return LINGER_SECONDS
            case State.BODY:  # the application looks at the same time, and says more
                return self.seconds + LINGER_SECONDS
            case State.QUEUED | State.ANSWER:
                return None
            case _:
                return self.seconds


class Connections:
    """For one event loop."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.since: dict[State, OrderedDict[Connection, float]] = {state: OrderedDict() for state in State}
        self.timed = [(state, seconds) for state in State if (seconds := limits.of(state)) is not None]
        self.pause = min(SWEEP_SECONDS, limits.seconds / 8, limits.keep_alive / 4)
        self.loop: asyncio.AbstractEventLoop | None = None
        self.open = 0
        self.held = 0
        self.now = 0.0  # when this turn of the loop began
        self.spent = 0.0  # seconds of it
        self.begun = 0  # requests that began in it
        self.planned = False  # the next turn will be noticed
        self.arrived: list[Connection] = []  # since the last turn
        self.queue: deque[Connection] = deque()  # whose turn has not come yet
        self.later: deque[Connection] = deque()  # who had one and want to go on

    def join(self, connection: Connection, loop: asyncio.AbstractEventLoop) -> bool:
        """Give a new connection a place; False where there is none, even when one has given way that waited long."""
        if self.loop is None:
            self.loop = loop
            self._sweep()
        if self.open >= self.limits.places:
            self.make_room()
        self.open += 1
        connection.state = State.FRESH
        self.since[State.FRESH][connection] = loop.time()
        return self.open <= self.limits.places

    def leave(self, connection: Connection) -> None:
        """It is closed, or about to be."""
        if connection.state is not None:
            del self.since[connection.state][connection]
            connection.state = None
            self.open -= 1
            self.hold(connection, 0)

    def is_full(self) -> bool:
        return self.open > self.limits.places

    def move(self, connection: Connection, state: State) -> None:
        """Its time in a state begins where it is another than before."""
        if connection.state is not state and connection.state is not None and self.loop is not None:
            del self.since[connection.state][connection]
            self.since[state][connection] = self.loop.time()
            connection.state = state

    def hold(self, connection: Connection, size: int) -> None:
        """So many bytes of it are here and in no request; where all are too many, who holds most lets go of them."""
        self.held += size - connection.held
        connection.held = size
        while self.held > self.limits.unread:
            largest = max((one for queue in self.since.values() for one in queue), key=lambda one: one.held, default=None)
            if largest is None or not largest.held:
                return
            metrics.CONNECTIONS_CUT.labels("bytes").inc()
            self.held -= largest.held
            largest.held = 0
            largest.shed()

    def work(self, connection: Connection) -> None:
        """Let it go on with what is here now, or, where this turn of the loop has done enough, in one of the next. The first
        request of a connection begins when the sockets were looked at once more: who asked and hung up is known then.
        """
        if connection.state is State.FRESH or connection.queued or self.queue or self.arrived or self._has_done_enough():
            self.line_up(connection)
            return
        self._let_go_on(connection, 0.0)

    def line_up(self, connection: Connection, again: bool = False) -> None:
        """Let it go on in one of the next turns of the loop, behind those that wait already, and ``again`` behind those that have
        had no turn yet.
        """
        if not connection.queued:
            connection.queued = True
            (self.later if again else self.arrived).append(connection)
            self._plan()

    def _plan(self) -> None:
        if not self.planned and self.loop is not None:
            self.planned = True
            self.loop.call_soon(self._turn)

    def _turn(self) -> None:
        """A new turn of the loop."""
        self.planned = False
        while self.queue and not self._has_done_enough():
            self._let_go_on(self.queue.popleft(), 0.0)
        for _ in range(len(self.later)):  # each once, as it may line up again
            if self._has_done_enough():
                break
            self._let_go_on(self.later.popleft(), SLICE_SECONDS)
        self.queue.extend(self.arrived)
        self.arrived.clear()
        if self.queue or self.later:
            self._plan()

    def _has_done_enough(self) -> bool:
        """Whether others than connections have their turn now. The loop's clock tells of a new turn, to a millisecond."""
        assert self.loop is not None
        if (now := self.loop.time()) != self.now:
            self.now, self.spent, self.begun = now, 0.0, 0
        return self.spent >= TURN_SECONDS or self.begun >= TURN_REQUESTS

    def _let_go_on(self, connection: Connection, seconds: float) -> None:
        began = time.perf_counter()
        connection.queued = False
        connection.advance(began + seconds)
        self.spent += time.perf_counter() - began

    def make_room(self, asked: bool = False) -> bool:
        """Have one that waits, and nobody waits for, give way to a new one; whether there was one. asked: the new one has sent a
        request, so those who have not give way at once.
        """
        assert self.loop is not None
        now = self.loop.time()
        crowded = self.open >= 2 * self.limits.places
        for state, seconds in GIVE_WAY.items():
            queue = self.since[state]
            at_once = crowded or (asked and state in WITHOUT_REQUEST)
            if queue and (at_once or now - next(iter(queue.values())) >= seconds):
                metrics.CONNECTIONS_CUT.labels("places").inc()
                connection = next(iter(queue))
                connection.give_way()
                self.leave(connection)
                return True
        return False

    def _sweep(self) -> None:
        """End what has been in its state for too long, and say in the metrics what is open."""
        assert self.loop is not None
        now = self.loop.time()
        for state, seconds in self.timed:
            queue = self.since[state]
            while queue and now - next(iter(queue.values())) >= seconds:
                connection = next(iter(queue))
                if state not in ORDERLY:
                    metrics.CONNECTIONS_CUT.labels(state).inc()
                connection.expire(state)
                if connection.state is state:
                    self.leave(connection)
        for state, queue in self.since.items():
            metrics.CONNECTIONS.labels(state).set(len(queue))
        metrics.UNREAD.set(self.held)
        self.loop.call_later(self.pause, self._sweep)
