"""Records -> Markdown tables, one a question: throughput, latency, open loop, overload, resources."""

from collections.abc import Callable, Sequence
from statistics import mean, median

from benchmarks.numbers import Spread, spread_of
from benchmarks.poisson import Seen
from benchmarks.results import FloorRecord, Record, Round

NONE = "-"
SHARES = (0.5, 0.7, 0.9)
Value = Callable[[Round], float | None]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table: the first column to the left, the others to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def number(value: float | None, digits: int | None = None) -> str:
    """Three significant digits, or so many after the point."""
    if value is None or value != value:
        return NONE
    if digits is None:
        digits = 0 if abs(value) >= 99.95 else 1 if abs(value) >= 9.995 else 2
    return f"{value:,.{digits}f}"


def spread(values: Spread | None, digits: int | None = None) -> str:
    """The median, and in brackets the least and the most."""
    if values is None:
        return NONE
    if values.n == 1:
        return number(values.median, digits)
    return f"{number(values.median, digits)} ({number(values.low, digits)} to {number(values.high, digits)})"


def over(record: Record, value: Value, digits: int | None = None) -> str:
    """A value of each round, as a median with its spread."""
    found = [one for each in record.rounds if (one := value(each)) is not None]
    return spread(spread_of(found), digits)


def title_of(record: Record) -> str:
    return f"{record.title} {record.version}".strip()


def throughput(floor: FloorRecord | None, records: Sequence[Record]) -> str:
    head = ["", "images/s, 32 clients", "ratio to the floor", "images/s, 16 a request", "ratio to the floor", "core-ms an image"]
    rows: list[list[str]] = []
    if floor:
        rates, cores = spread_of([turn.rate for turn in floor.turns]), median(turn.core_ms for turn in floor.turns)
        rows.append(["the floor", spread(rates), "1", NONE, NONE, number(cores)])
    for record in records:
        several = [over(record, lambda r: r.many and r.many.rate), over(record, Round.many_ratio, 2)]
        busy = [over(record, lambda r: r.busy.rate), over(record, Round.ratio, 2)]
        cores = median(each.busy.core_ms for each in record.rounds)
        rows.append([title_of(record), *busy, *several, number(cores) + errors_of(record)])
    return table(head, rows)


def errors_of(record: Record) -> str:
    """A remark where requests failed that should not have."""
    runs = [run for each in record.rounds for run in (each.busy, each.alone, each.many) if run]
    failed, asked = sum(run.errors for run in runs), sum(run.requests for run in runs)
    return f"; {failed} of {asked} requests failed" if failed else ""


def latency(floor: FloorRecord | None, records: Sequence[Record]) -> str:
    head = ["milliseconds", "p50, 1 client", "p99, 1 client", "added to decode and run", "p50, 32 clients", "p99, 32 clients"]
    rows: list[list[str]] = []
    if floor:
        bare = spread_of([turn.bare_ms for turn in floor.turns])
        rows.append(["decode and run alone", spread(bare), NONE, "0", NONE, NONE])
    for record in records:
        alone = [over(record, lambda r: r.alone.p50_ms), over(record, lambda r: r.alone.p99_ms), over(record, Round.added_ms, 2)]
        busy = [over(record, lambda r: r.busy.p50_ms), over(record, lambda r: r.busy.p99_ms)]
        rows.append([title_of(record), *alone, *busy])
    return table(head, rows)


def open_loop(records: Sequence[Record]) -> str:
    """Latency at shares of the capacity; nothing where no system was asked."""
    rows: list[list[str]] = []
    for record in records:
        seen = {load.share: load.seen for load in record.loads}
        if seen:
            cells = [of_load(seen[share]) if share in seen else NONE for share in SHARES]
            rows.append([title_of(record), number(record.capacity), *cells])
    head = ["p50 / p99, milliseconds", "capacity, images/s", *(f"at {share:.0%} of it" for share in SHARES)]
    return table(head, rows) if rows else ""


def of_load(seen: Seen) -> str:
    good = seen.answers.get("200")
    missing = seen.sent + seen.unsent - (good.count if good else 0)
    remark = f", {missing} of {seen.sent + seen.unsent} not answered" if missing else ""
    return (f"{number(good.p50_ms)} / {number(good.p99_ms)}" if good else NONE) + remark


def overload(records: Sequence[Record]) -> str:
    """Many times the capacity, medians of the turns; nothing where no system was asked."""
    head = [
        "",
        "n",
        "offered, of capacity",
        "answered well, of capacity",
        "p99 of these, s",
        "refused with 503",
        "refused after, p99 / max, ms",
        "other failures",
    ]
    rows = [[title_of(record), *of_overload(record)] for record in records if record.overloads]
    return table(head, rows) if rows else ""


def of_overload(record: Record) -> list[str]:
    turns = [each.seen for each in record.overloads]
    good = spread_of([group.p99_ms / 1000 for seen in turns if (group := seen.answers.get("200"))])
    refused = [group for seen in turns if (group := seen.answers.get("503"))]
    others = sum(group.count for seen in turns for status, group in seen.answers.items() if status not in ("200", "503"))
    broken, unanswered = sum(seen.broken for seen in turns), sum(seen.unanswered for seen in turns)
    notes = [(others, "other statuses"), (broken, "broken off"), (unanswered, "unanswered")]
    return [
        str(len(turns)),
        f"{median(each.seen.offered / each.capacity for each in record.overloads):.1f}x",
        goodput(record),
        spread(good),
        f"{sum(group.count for group in refused):,} of {sum(seen.sent for seen in turns):,}",
        f"{number(median(g.p99_ms for g in refused))} / {number(max(g.max_ms for g in refused))}" if refused else NONE,
        ", ".join(f"{count:,} {what}" for count, what in notes if count) or "none",
    ]


def goodput(record: Record) -> str:
    """What is answered well under overload, of the capacity measured right before: the median, and the least and the most."""
    shares = [each.seen.goodput / each.capacity for each in record.overloads]
    around = f" ({min(shares):.0%} to {max(shares):.0%})" if len(shares) > 1 else ""
    return f"{median(shares):.0%}{around}" if shares else NONE


def resources(floor: FloorRecord | None, records: Sequence[Record]) -> str:
    head = ["", "memory, MB", "start to first answer, s", "core in use when nobody asks"]
    rows = [["the floor", number(floor.memory_mb, 0), NONE, NONE]] if floor else []
    rows += [
        [title_of(record), number(record.memory_mb, 0), number(record.start_seconds, 1), f"{record.idle_share:.1%}"]
        for record in records
    ]
    return table(head, rows)


def client(records: Sequence[Record]) -> tuple[float, float] | None:
    """CPU milliseconds of wrk for a request with 32 clients, and its largest share of what the server used for it."""
    runs = [each.busy for record in records for each in record.rounds]
    if not runs:
        return None
    return mean(run.client_ms for run in runs), max(run.client_ms / run.core_ms for run in runs)
