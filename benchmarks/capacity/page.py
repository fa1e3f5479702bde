"""The page: what was measured, what follows from it, and how far prediction and measurement agree."""

from collections.abc import Sequence
from statistics import median

from benchmarks import tables
from benchmarks.capacity import plan, simulation
from benchmarks.capacity.curve import Curve, Point
from benchmarks.capacity.plan import Plan, Predicted
from benchmarks.capacity.simulation import Machine
from benchmarks.numbers import percentile

HEAD = """# Capacity

Made by `{command}`; do not edit. Machine: {machine}.

One client's requests and the passes of the network are measured, and how many images a second 32 clients get; the queues are
simulated with that (`benchmarks/capacity/simulation.py`), for requests that come at random. The tables say what a service does
whose clients run on another machine. Measure on the machine that is to serve, and with your own model.
"""


def page(curves: Sequence[Curve], machine: str, command: str, asked: tuple[float, float] | None, price: float | None) -> str:
    """asked: (requests a second, p99 in milliseconds) to be served. price: of a machine for an hour, in any currency."""
    return HEAD.format(command=command, machine=machine) + "".join(section(curve, asked, price) for curve in curves)


def section(curve: Curve, asked: tuple[float, float] | None, price: float | None) -> str:
    yield_ = simulation.fit(curve, curve.capacity.median)
    capacity = plan.capacity_of(curve, yield_)
    rows = plan.predict(curve, yield_, [(share, share * capacity) for share in plan.SHARES])
    parts = [
        f"\n## {curve.model}\n",
        f"{curve.provider} in {curve.precision}, {curve.cores} cores. {curve.memory_mb:.0f} MB, "
        f"{curve.capacity.median:.0f} images/s with its clients on the same machine "
        f"({curve.capacity.low:.0f} to {curve.capacity.high:.0f}, n = {curve.capacity.n}), "
        f"about {capacity:.0f} with none: {capacity / curve.cores:.0f} a core. "
        f"While all cores work, each gives {yield_:.2f} of what it gives alone (fitted).\n",
        table(curve, rows, price),
        agreement(curve),
    ]
    if asked:
        parts.append(answer(curve, plan.plan(curve, yield_, *asked), price))
    return "\n".join(parts)


def table(curve: Curve, rows: Sequence[Predicted], price: float | None) -> str:
    head = ["load", "images/s", "p50, ms", "p99, ms", "core-hours a million images", *(["cost of a million"] if price else [])]
    lines: list[list[str]] = []
    for row in rows:
        hours = plan.core_hours(curve, row.rate)
        cells = [f"{row.share:.0%}", f"{row.rate:.0f}", f"{row.p50_ms:.0f}", f"{row.p99_ms:.0f}", f"{hours:.1f}"]
        lines.append([*cells, *([f"{price * hours / curve.cores:.2f}"] if price else [])])
    return tables.table(head, lines) + "\n"


def agreement(curve: Curve) -> str:
    """Points that were measured beside what the simulation makes of the same arrivals, with the client on the same machine."""
    head = ["load", "p99 measured, ms", "p99 simulated, ms", "simulated / measured", "not answered well", "n"]
    lines: list[list[str]] = []
    for share, points in by_share(curve).items():
        measured = median(point.p99_ms for point in points)
        simulated = median(again(curve, point) for point in points)
        spread = f"{measured:.0f} ({min(p.p99_ms for p in points):.0f} to {max(p.p99_ms for p in points):.0f})"
        failed = sum(point.failed for point in points)
        row = [f"{share:.0%}", spread, f"{simulated:.0f}", f"{simulated / measured:.2f}", str(failed), str(len(points))]
        lines.append(row)
    return "Held against open loops on this machine, the client beside the service:\n\n" + tables.table(head, lines) + "\n"


def again(curve: Curve, point: Point) -> float:
    """The p99 that the simulation has for the arrivals of a measured point, at the pace that the machine had then."""
    yield_ = simulation.fit(curve, point.capacity)
    due = list(simulation.moments(point.rate, point.seconds, point.seed))
    return percentile(simulation.latencies(Machine(curve, yield_, point.client_ms), due), 99)


def by_share(curve: Curve) -> dict[float, list[Point]]:
    shares = sorted({point.share for point in curve.points})
    return {share: [point for point in curve.points if point.share == share] for share in shares}


def answer(curve: Curve, found: Plan, price: float | None) -> str:
    asked = f"{found.rate:g} images/s with a p99 of at most {found.p99_ms:g} ms"
    if not found.replicas:
        return f"For {asked}: not with this model on this machine, whatever the load; a smaller network or more cores.\n"
    cost = f", {found.replicas * price:.2f} an hour" if price else ""
    return (
        f"For {asked}: **{found.replicas} services** of {curve.cores} cores and {curve.memory_mb:.0f} MB each{cost}. "
        f"One carries {found.carried:.0f} images/s; one more is counted than the load needs, so that one may be lost.\n"
    )
