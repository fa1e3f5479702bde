"""From a curve: the load that a service carries at a latency, how many of them a load needs, and what a million images cost."""

import math
from collections.abc import Sequence

from msgspec import Struct

from benchmarks.capacity import simulation
from benchmarks.capacity.curve import Curve
from benchmarks.capacity.simulation import Machine
from benchmarks.numbers import percentile

SECONDS = 60.0  # of arrivals that are simulated
SEEDS = (11, 12, 13)  # others than those of the points that were measured
STEPS = 10
SHARES = (0.1, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
MOST = 0.95  # of the capacity: beyond, a chance burst takes minutes to go away


class Predicted(Struct, frozen=True):
    share: float
    rate: float
    p50_ms: float
    p99_ms: float


class Plan(Struct, frozen=True):
    """replicas: services that ``rate`` needs for ``p99_ms``, and one more, so that one may be lost or replaced.

    carried: requests a second that one service carries; 0 where even a single client waits longer than asked for.
    """

    rate: float
    p99_ms: float
    carried: float
    replicas: int


def predict(curve: Curve, yield_: float, rates: Sequence[tuple[float, float]]) -> list[Predicted]:
    """(share, requests a second) -> latencies that clients on another machine see: medians of several runs of arrivals."""
    return [Predicted(share, rate, *quantiles(curve, yield_, rate)) for share, rate in rates]


def quantiles(curve: Curve, yield_: float, rate: float) -> tuple[float, float]:
    """Milliseconds: p50 and p99."""
    runs = [simulation.latencies(Machine(curve, yield_), list(simulation.moments(rate, SECONDS, seed))) for seed in SEEDS]
    p50, p99 = (sorted(percentile(run, share) for run in runs)[len(runs) // 2] for share in (50, 99))
    return p50, p99


def capacity_of(curve: Curve, yield_: float) -> float:
    """Images a second of a service that is never idle and whose clients run elsewhere."""
    return simulation.saturated(Machine(curve, yield_), curve.clients)


def carried(curve: Curve, yield_: float, p99_ms: float) -> float:
    """The most requests a second with that p99; 0 where there is none."""
    low, high = 0.0, MOST * capacity_of(curve, yield_)
    if quantiles(curve, yield_, high)[1] <= p99_ms:
        return high
    for _ in range(STEPS):
        middle = (low + high) / 2
        if quantiles(curve, yield_, middle)[1] <= p99_ms:
            low = middle
        else:
            high = middle
    return low


def plan(curve: Curve, yield_: float, rate: float, p99_ms: float) -> Plan:
    """Requests come to each service at random and evenly, as a proxy that asks the least busy one makes them, or better."""
    one = carried(curve, yield_, p99_ms)
    return Plan(rate, p99_ms, one, math.ceil(rate / one) + 1 if one else 0)


def core_hours(curve: Curve, rate: float) -> float:
    """Core-hours of a million images where a service is given ``rate`` images a second and keeps its whole machine."""
    return curve.cores * 1e6 / rate / 3600
