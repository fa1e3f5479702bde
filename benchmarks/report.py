"""Results -> RESULTS.md and its picture. Nothing here measures."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median

from benchmarks import picture, tables
from benchmarks.numbers import spread_of
from benchmarks.results import Record, Results

HOW = """## How it was measured

- Every system runs in its own environment with the same ONNX file, the same decode (`models/image/preprocess.py`), the same
  session (`service/inference/session.py`: provider, precision and threads as Hubel's) and the same photographs. Client and server
  share the machine.
- The floor is the decode and the session in one process, without HTTP: threads decode ahead, batches of 16 images are run.
- In turns: the floor, a system, the floor, the next system, and so on, then all of it again; n is the number of times.
  A ratio is that of a system to the mean of the floor's turns right before and after it. Tables show the median of the
  rounds and in brackets the least and the most.
- Closed loop: wrk with 32 clients, with one, and with 2 that send forms of 16 images. Images/s is the slope of the
  answers over time without the first 30 %, so that it does not hang on where in a batch the clock stopped. wrk adds to
  its latencies with 32 clients the ones that a stalled client would have seen; one client's are as they were.
- *Added* is what one client waits beyond the median of decode and run of one image in the floor's process.
- Open loop: requests come when they come (Poisson, fixed seed), and their latency counts from when they were due; n = 1.
  At ten times the capacity at most 1,024 connections are open; a request that finds none is not sent, so less is offered.
  *Answered well* counts answers of 200 while requests came.
- Core-milliseconds are the CPU time of the server's process tree for an image. Memory is the tree's, after its load:
  each process's share of anonymous and shared memory, and the program files of the process with the most.
- A system that uses more than 2 % of a core while nobody asks is up for its own turns alone.
"""


def write(results: Results, page: Path, image: Path) -> None:
    """The page, and beside it the picture where there is something to draw."""
    curves = picture.curves_of(results)
    if curves:
        image.write_text(picture.draw(curves))
    page.write_text(document(results, image.name if curves else "", (page.parent / "PROFILE.md").exists()))


def document(results: Results, image: str, profile: bool) -> str:
    parts = ["# Hubel beside other servers", opening(results), tables.table(["", ""], [[*row] for row in facts(results)])]
    parts += [section(results, model) for model in results.models()]
    if image:
        note = "A line ends before the first load of which a system refused or lost more than one request in a hundred."
        parts += ["## Latency against load", f"![latency against offered load](../docs/images/{image})", note]
    if profile:
        parts += ["## Where the time goes", "[PROFILE.md](PROFILE.md) takes a request apart."]
    return "\n\n".join([*parts, HOW.strip(), client(results)]) + "\n"


def opening(results: Results) -> str:
    return (
        f"Made by `{results.command}` from [results.json](results.json), which has every round; do not edit. "
        "[docs/benchmarks.md](../docs/benchmarks.md) says how to run it."
    )


def facts(results: Results) -> list[tuple[str, str]]:
    rounds = sorted({len(record.rounds) for record in results.records.values() if record.rounds})
    dates = sorted({record.measured for record in results.records.values()})
    when = " to ".join(dict.fromkeys((dates[0], dates[-1]))) if dates else "never"
    return [
        ("date", when),
        *results.machine.items(),
        ("rounds", "n = " + " and ".join(map(str, rounds))),
        ("images", results.photos),
        ("other processes", disturbance(results)),
    ]


def disturbance(results: Results) -> str:
    """What ran beside the benchmark."""
    used = spread_of([each.others for record in results.records.values() for each in record.rounds])
    return f"used {used.median:.2f} cores (median of all rounds; at most {used.high:.2f})" if used else "unknown"


def section(results: Results, model: str) -> str:
    """All tables of one model."""
    floor, records = results.floors.get(model), [record for record in results.of(model) if record.rounds]
    hubel = next((record for record in records if record.provider), None)
    computed = f"Computed by {hubel.provider} in {hubel.precision}." if hubel else ""
    failed = [f"{tables.title_of(record)} was not measured: {record.failed}." for record in results.of(model) if record.failed]
    parts = [
        f"## {model}",
        f"{computed} {agreement(records)}".strip(),
        tables.throughput(floor, records),
        tables.latency(floor, records),
    ]
    if loads := tables.open_loop(records):
        parts += ["Requests that come at random:", loads]
    if pressed := tables.overload(records):
        parts += ["Ten times the capacity:", pressed]
    return "\n\n".join(part for part in [*parts, tables.resources(floor, records), *failed] if part)


def agreement(records: Sequence[Record]) -> str:
    """Whether the systems give the same answer, as the same model must."""
    labels = {record.label for record in records}
    if len(records) < 2:
        return ""
    if len(labels) == 1:
        return "All systems name the same class for the first photograph."
    return f"The first photograph's class: {', '.join(f'{record.label!r} by {record.title}' for record in records)}."


def client(results: Results) -> str:
    """Whether the client was in the way."""
    used, lines = tables.client(list(results.records.values())), ["## Was the client in the way?"]
    if results.trivial:
        lines.append(
            f"wrk gets {results.trivial.rate:,.0f} answers a second of `GET /livez` from Hubel, and uses "
            f"{1000 * results.trivial.client_ms:.0f} µs of CPU time for each."
        )
    if used:
        lines.append(
            f"To send a photograph and take the answer it uses {1000 * used[0]:.0f} µs on average; at most, in any round of "
            f"any system, {used[1]:.1%} of what the server used."
        )
    late = [seen.late_ms for record in results.records.values() for seen in (load.seen for load in record.loads)]
    if late:
        lines.append(
            f"The open-loop client sent 99 % of its requests at most {median(late):.1f} ms late (median over all loads; the "
            f"worst {max(late):.1f} ms)."
        )
    return "\n\n".join([lines[0], " ".join(lines[1:])])


def tables_of(results: Results, models: Sequence[str]) -> str:
    """The tables alone, for a terminal."""
    return "\n\n".join(section(results, model) for model in models)


def last_line(results: Results, model: str) -> str:
    """What Hubel keeps of what the machine could do."""
    record: Record | None = results.records.get(f"{model}/hubel")
    ratios = spread_of([each.ratio() for each in record.rounds]) if record else None
    return f"{model}: ratio to the floor: {ratios.median:.2f}" if ratios else f"{model}: Hubel was not measured"
