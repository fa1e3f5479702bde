"""One turn of one system: what its clients see, and the floor's turn that stands on either side of it."""

import math
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import msgspec

from benchmarks import bodies, environments, machine, poisson, proc, processes, wrk
from benchmarks.arrivals import Arrivals
from benchmarks.bodies import Bodies
from benchmarks.processes import Server
from benchmarks.results import Load, Measured, Overload, Record, Round, Turn
from benchmarks.systems import System

MANY_CLIENTS = 2  # as many images on their way as with 32 clients
WARM_SECONDS = 1
PATIENCE = 10.0  # seconds that an overloaded server has for what it took on


@dataclass(frozen=True)
class Pace:
    """How long each thing is measured, in seconds, for a model that the floor runs at ``rate`` images a second."""

    rate: float
    scale: float = 1.0

    def closed(self, in_flight: int) -> int:
        """Long enough for half a dozen rounds of all that is in flight, within bounds."""
        return round(self.scale * min(9, max(3, math.ceil(6 * in_flight / self.rate))))

    @property
    def alone(self) -> int:
        return round(2 * self.scale)

    @property
    def floor(self) -> Turn:
        return Turn(1.5 * self.scale, 0.5 * self.scale)

    @property
    def open(self) -> float:
        return 5.0 * self.scale


class FloorProcess:
    """The floor, up and idle until its turn. ``folder`` holds the photographs."""

    def __init__(self, package: Path, folder: Path) -> None:
        self.turns: list[Measured] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.floor", str(folder)],
            cwd=processes.ROOT,
            env=environments.variables(None, package),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.input, self.output = cast(IO[str], self.process.stdin), cast(IO[str], self.process.stdout)
        if self.output.readline().strip() != "ready":
            raise processes.StartError("the floor does not start; what it printed is above")

    def measure(self, turn: Turn) -> Measured:
        self.input.write(msgspec.json.encode(turn).decode() + "\n")
        self.input.flush()
        self.turns.append(msgspec.json.decode(self.output.readline(), type=Measured))
        return self.turns[-1]

    def memory_mb(self) -> float:
        return proc.memory_of([self.process.pid])

    def stop(self) -> None:
        self.input.close()
        self.process.wait()


@dataclass
class Subject:
    """A system that is up, and what it is asked."""

    system: System
    server: Server
    single: Bodies
    several: Bodies | None
    record: Record

    def closed(self, sent: Bodies, clients: int, seconds: int) -> wrk.Closed:
        result = wrk.load(self.server.port, sent, clients, seconds, self.server.cpu_seconds)
        self.server.wait_until_idle()
        return result

    def turn(self, floor: FloorProcess, before: Measured, pace: Pace) -> Measured:
        """Measure once and keep it; returns the floor's turn after it, which is the one before the next."""
        self.closed(self.single, bodies.IMAGES, WARM_SECONDS)
        began, strange = time.monotonic(), self.strange_cpu()
        busy = self.closed(self.single, 32, pace.closed(32))
        alone = self.closed(self.single, 1, pace.alone)
        many = None
        if self.several:
            many = self.closed(self.several, MANY_CLIENTS, pace.closed(MANY_CLIENTS * bodies.IMAGES))
        others = max(0.0, (self.strange_cpu() - strange) / (time.monotonic() - began))
        self.record.memory_mb = self.server.memory_mb()
        after = floor.measure(pace.floor)
        self.record.rounds.append(Round(before, after, busy, alone, many, others))
        return after

    def strange_cpu(self) -> float:
        """CPU time that neither the server nor its clients have used."""
        return machine.busy() - self.server.cpu_seconds() - wrk.children_cpu()

    def open(self, shares: Sequence[float], pace: Pace) -> None:
        """Open loops at shares of the capacity."""
        for share in shares if self.record.capacity else ():
            arrivals = Arrivals(self.server.port, share * self.record.capacity, pace.open)
            self.record.loads.append(Load(share, poisson.load(arrivals, self.single)))
            self.server.wait_until_idle()

    def overload(self, times: float, pace: Pace) -> None:
        """An open loop at so many times the capacity of this moment."""
        if capacity := self.closed(self.single, 32, pace.closed(32)).rate:
            arrivals = Arrivals(self.server.port, times * capacity, pace.open, PATIENCE)
            self.record.overloads.append(Overload(capacity, poisson.load(arrivals, self.single)))
            self.server.wait_until_idle()


def ask(system: System, photos: Sequence[bytes]) -> tuple[Bodies, Bodies | None]:
    """What a system is asked: single photographs, and several at a time where it takes that."""
    return bodies.single(system, photos), bodies.several(system, photos) if system.many else None
