"""The queues of a service, simulated: arrivals -> client -> decoding -> batches of the network, on cores that all share.

Every stage works on the cores at the same time, and the cores are divided evenly among the threads that are busy (processor
sharing, as the scheduler of Linux aims at). One number cannot be measured by itself and is fitted: ``yield_``, what a core
gives while all are busy, of what it gives alone (two threads of one physical core share it, and caches are shared). The closed
loop of the capacity fixes it (``fit``); the open loops that the page compares with take no part.
"""

import math
import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import mean

from benchmarks.capacity.curve import Curve

FIT_IMAGES, FIT_STEPS = 4000, 24
WARM = 0.25  # share of the closed loop's images that are answered before it counts


@dataclass
class Stage:
    """First come, first served, so many at a time; ``cost``: milliseconds of one core for a request, asked for each."""

    lanes: int
    cost: Callable[[], float]
    waiting: deque[int] = field(default_factory=deque)
    busy: dict[int, float] = field(default_factory=dict)  # request -> what is left of its cost

    def fill(self) -> None:
        while self.waiting and len(self.busy) < self.lanes:
            self.busy[self.waiting.popleft()] = self.cost()

    def advance(self, done: float) -> list[int]:
        """Work off so many milliseconds of a core for each; the requests that are through."""
        for request in self.busy:
            self.busy[request] -= done
        through = [request for request, left in self.busy.items() if left <= 1e-9]
        for request in through:
            del self.busy[request]
        return through


@dataclass
class Machine:
    """One service. ``yield_``: see above. client_ms: CPU time of the client on the same machine, 0 where it is elsewhere."""

    curve: Curve
    yield_: float
    client_ms: float = 0.0

    def __post_init__(self) -> None:
        self.draw = random.Random(0)
        scale = self.curve.front_ms / mean(self.curve.decode_ms)
        self.client = Stage(1, lambda: self.client_ms)
        self.decoding = Stage(self.curve.lanes, lambda: scale * self.draw.choice(self.curve.decode_ms))
        self.queue: deque[int] = deque()
        self.batch: list[int] = []
        self.left = 0.0  # of the pass, milliseconds of each of its threads
        threads = self.curve.threads
        self.alone = self.power(threads) / threads  # what each thread got when passes were measured
        # what is not CPU time: wake-ups and ways between processes, seen by a client that is alone
        self.extra = max(0.0, self.curve.alone_ms - self.curve.front_ms - self.curve.pass_ms(1, 0.5))

    def power(self, busy: float) -> float:
        """What the cores do together for so many busy threads; 1: a core that is alone."""
        cores = self.curve.cores
        if busy <= 1 or cores == 1:
            return min(1.0, busy)
        share = min(1.0, (busy - 1) / (cores - 1))
        return 1 + share * (cores * self.yield_ - 1)

    def arrive(self, request: int) -> None:
        (self.client if self.client_ms else self.decoding).waiting.append(request)

    def start(self) -> None:
        """Give every place that is free its next work."""
        self.client.fill()
        self.decoding.fill()
        if not self.batch and self.queue:
            self.batch = [self.queue.popleft() for _ in range(min(len(self.queue), self.curve.max_batch))]
            self.left = self.curve.pass_ms(len(self.batch), self.draw.random()) * self.alone

    def speed(self) -> float:
        """What each busy thread gets of a core that is alone; 0 where nothing is to be done."""
        busy = len(self.client.busy) + len(self.decoding.busy) + (self.curve.threads if self.batch else 0)
        return self.power(busy) / busy if busy else 0.0

    def next_ms(self) -> float:
        """Milliseconds until something is done; infinite where nothing is to be done."""
        left = [*self.client.busy.values(), *self.decoding.busy.values(), *([self.left] if self.batch else [])]
        return min(left) / self.speed() if left else math.inf

    def advance(self, span: float) -> list[int]:
        """Let so many milliseconds go by, in which nothing begins; the requests that are answered."""
        done = span * self.speed()
        sent, decoded = self.client.advance(done), self.decoding.advance(done)
        self.decoding.waiting.extend(sent)
        answered: list[int] = []
        if self.batch:
            self.left -= done
            if self.left <= 1e-9:
                answered, self.batch = self.batch, []
        self.queue.extend(decoded)
        self.start()
        return answered


def moments(rate: float, seconds: float, seed: int) -> Iterator[float]:
    """When requests are due, in milliseconds: those that ``benchmarks.arrivals`` sends for the same seed."""
    draw, due = random.Random(seed), 0.0
    while (due := due + draw.expovariate(rate)) < seconds:
        yield 1000 * due


def latencies(machine: Machine, due: Sequence[float]) -> list[float]:
    """Milliseconds from the moment each request was due until its answer, in the order of the answers."""
    now, position, left = 0.0, 0, len(due)
    spans: list[float] = []
    while left:
        arrival = due[position] - now if position < len(due) else math.inf
        span = min(arrival, machine.next_ms())
        now += span
        answered = machine.advance(span)
        spans += [now - due[request] + machine.extra for request in answered]
        left -= len(answered)
        if span == arrival:
            machine.arrive(position)
            position += 1
            machine.start()
    return spans


def saturated(machine: Machine, clients: int, images: int = FIT_IMAGES) -> float:
    """Images a second of a closed loop: each client asks again when it is answered."""
    for request in range(clients):
        machine.arrive(request)
    machine.start()
    now, count, began = 0.0, 0, 0.0
    while count < images:
        span = machine.next_ms()
        now += span
        for request in machine.advance(span):
            count += 1
            machine.arrive(request)
            if count == int(WARM * images):
                began = now
        machine.start()
    return 1000 * (images - int(WARM * images)) / (now - began)


def fit(curve: Curve, capacity: float) -> float:
    """The ``yield_`` with which the simulated closed loop answers so many images a second, as the measured one did."""
    low, high = 1 / curve.cores, 2.0
    for _ in range(FIT_STEPS):
        middle = (low + high) / 2
        if saturated(Machine(curve, middle, curve.wrk_ms), curve.clients) < capacity:
            low = middle
        else:
            high = middle
    return (low + high) / 2
