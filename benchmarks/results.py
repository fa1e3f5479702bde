"""What was measured, as it is kept in results.json: the raw rounds, from which every table is made."""

from pathlib import Path
from statistics import mean

import msgspec
from msgspec import Struct, field

from benchmarks.poisson import Seen
from benchmarks.wrk import Closed


class Turn(Struct):
    """An order to the floor: measure for ``seconds``, and single images, one after another, for ``bare_seconds``."""

    seconds: float
    bare_seconds: float


class Measured(Struct):
    """A turn of the floor. rate: images a second. core_ms: CPU time for an image. bare_ms: median of one image's decode
    and run alone.
    """

    rate: float
    core_ms: float
    bare_ms: float


class Round(Struct):
    """One turn of a system between two of the floor. busy: 32 clients, alone: one, many: requests of 16 images.
    others: cores that neither the system nor its client used, nor left free.
    """

    before: Measured
    after: Measured
    busy: Closed
    alone: Closed
    many: Closed | None = None
    others: float = 0.0

    def floor(self) -> float:
        return mean((self.before.rate, self.after.rate))

    def ratio(self) -> float:
        return self.busy.rate / self.floor()

    def many_ratio(self) -> float | None:
        return self.many.rate / self.floor() if self.many else None

    def added_ms(self) -> float:
        """What one client waits beyond decode and run."""
        return self.alone.p50_ms - mean((self.before.bare_ms, self.after.bare_ms))


class Load(Struct):
    """An open loop at a share of the capacity."""

    share: float
    seen: Seen


class Overload(Struct):
    """An open loop at many times the capacity. capacity: images a second with 32 clients, measured right before it."""

    capacity: float
    seen: Seen


class Record(Struct):
    """One system with one model. ``failed`` says why there is nothing else. label: its answer to the first photograph."""

    model: str
    system: str
    title: str
    measured: str
    version: str = ""
    provider: str = ""
    precision: str = ""
    failed: str = ""
    label: str = ""
    start_seconds: float = 0.0
    idle_share: float = 0.0
    memory_mb: float = 0.0
    capacity: float = 0.0
    rounds: list[Round] = field(default_factory=list[Round])
    loads: list[Load] = field(default_factory=list[Load])
    overloads: list[Overload] = field(default_factory=list[Overload])


class FloorRecord(Struct):
    """The floor with one model, over all turns of a run."""

    model: str
    measured: str
    turns: list[Measured]
    memory_mb: float


class Trivial(Struct):
    """How fast wrk is where the server does next to nothing: answers of GET /livez a second."""

    rate: float
    client_ms: float


class Results(Struct):
    """A whole results.json. Records by "model/system"."""

    machine: dict[str, str] = field(default_factory=dict[str, str])
    command: str = ""
    photos: str = ""
    trivial: Trivial | None = None
    floors: dict[str, FloorRecord] = field(default_factory=dict[str, FloorRecord])
    records: dict[str, Record] = field(default_factory=dict[str, Record])

    def models(self) -> list[str]:
        return list(dict.fromkeys([*self.floors, *(record.model for record in self.records.values())]))

    def of(self, model: str) -> list[Record]:
        return [record for record in self.records.values() if record.model == model]

    def merge(self, newer: "Results") -> None:
        """Take what a later run measured; what it did not measure stays."""
        self.machine, self.command, self.photos = newer.machine, newer.command, newer.photos
        self.trivial = newer.trivial or self.trivial
        self.floors |= newer.floors
        self.records |= newer.records


def load(path: Path) -> Results:
    """Results of a file; empty ones where there is none."""
    return msgspec.json.decode(path.read_bytes(), type=Results) if path.exists() else Results()


def save(results: Results, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")
