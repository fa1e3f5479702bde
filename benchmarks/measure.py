"""A whole run: for each model every system comes up in its own environment, and they are measured in turns."""

import re
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from benchmarks import environments, processes, tables, wrk
from benchmarks.bodies import TRIVIAL
from benchmarks.environments import PrepareError
from benchmarks.processes import Server, StartError
from benchmarks.results import FloorRecord, Record, Results, Trivial
from benchmarks.systems import HUBEL, System
from benchmarks.turns import FloorProcess, Pace, Subject, ask

QUIET = 0.02  # share of a core: a system that uses more while nobody asks is up for its own turns alone
CURVE = "resnet50"  # the model of the picture
SHARES, CURVE_SHARES = (0.5, 0.7, 0.9), (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95)
OVERLOAD, OVERLOAD_TURNS = 10.0, 3
LOGS = environments.CACHE / "logs"  # what the servers of the last run printed


def open_columns(system: System, model: str) -> tuple[Sequence[float], float]:
    """Shares of the capacity and the overload that a system is measured at beyond the closed loops: the one place
    where that is chosen. One model gets all of them for all systems, the others for Hubel, so that a run ends in time.
    """
    if model == CURVE:
        return CURVE_SHARES, OVERLOAD
    return (SHARES, OVERLOAD) if system == HUBEL else ((), 0.0)


@dataclass
class Run:
    """A run in progress. ``results`` grows; ``photos`` are what is sent."""

    photos: Sequence[bytes]
    rounds: int
    scale: float
    results: Results = field(default_factory=Results)

    def measure(self, model: str, systems: Sequence[System]) -> None:
        """One model, all its systems."""
        package = environments.package_of(model)
        with tempfile.TemporaryDirectory() as folder:
            for i, photo in enumerate(self.photos):
                (Path(folder) / f"{i:04}.jpg").write_bytes(photo)
            floor = FloorProcess(package, Path(folder))
            try:
                self.all_turns(model, package, systems, floor)
            finally:
                memory = floor.memory_mb()
                floor.stop()
        self.results.floors[model] = FloorRecord(model, now(), floor.turns, memory)

    def all_turns(self, model: str, package: Path, systems: Sequence[System], floor: FloorProcess) -> None:
        """The quiet systems together, then each of the others alone."""
        floor.measure(Pace(1).floor)  # not before it is warm
        pace = Pace(floor.turns.pop().rate, self.scale)
        loud: list[System] = []
        with self.up(model, package, systems) as subjects:
            quiet = [subject for subject in subjects if subject.record.idle_share <= QUIET]
            loud = [subject.system for subject in subjects if subject not in quiet]
            for subject in subjects:
                if subject not in quiet:
                    say(model, subject.system, f"uses {subject.record.idle_share:.1%} of a core idle: measured alone, later")
                    subject.server.stop()
            if quiet or not loud:
                self.turns(quiet, floor, pace)
        for system in loud:
            with self.up(model, package, [system]) as subjects:
                self.turns(subjects, floor, pace)

    def turns(self, subjects: Sequence[Subject], floor: FloorProcess, pace: Pace) -> None:
        """The floor, a system, the floor, the next system, ... ``rounds`` times over; the open loops; overload, in turns."""
        before = floor.measure(pace.floor)
        for number in range(self.rounds):
            if not subjects:
                floor.measure(pace.floor)
            for subject in subjects:
                before = subject.turn(floor, before, pace)
                last = subject.record.rounds[-1]
                rate = f"{last.busy.rate:7.1f} images/s, floor {last.floor():7.1f}, ratio {last.ratio():.2f}"
                say(subject.record.model, subject.system, f"round {number + 1} of {self.rounds}: {rate}")
        for subject in subjects:
            subject.record.capacity = median(one.busy.rate for one in subject.record.rounds)
            subject.open(open_columns(subject.system, subject.record.model)[0], pace)
        for number in range(min(self.rounds, OVERLOAD_TURNS)):
            for subject in subjects:
                if times := open_columns(subject.system, subject.record.model)[1]:
                    subject.overload(times, pace)
                    say(subject.record.model, subject.system, f"overload {number + 1}: {tables.goodput(subject.record)}")

    @contextmanager
    def up(self, model: str, package: Path, systems: Sequence[System]) -> Generator[list[Subject]]:
        """Systems that are up; the ones that do not come up get a record that says why."""
        subjects: list[Subject] = []
        try:
            for system in systems:
                record = Record(model, system.name, system.title, now())
                self.results.records[f"{model}/{system.name}"] = record
                try:
                    subjects.append(self.start(system, package, record))
                    say(model, system, f"up after {record.start_seconds:.1f} s")
                except (PrepareError, StartError) as err:
                    record.failed = str(err)
                    say(model, system, f"failed: {err}")
            for subject in subjects:
                subject.server.wait_until_idle()
                subject.record.idle_share = subject.server.idle_share()
            yield subjects
        finally:
            for subject in subjects:
                if left := subject.server.stop():
                    say(model, subject.system, f"left {len(left)} processes behind, which were killed")

    def start(self, system: System, package: Path, record: Record) -> Subject:
        """Bring a system up and wait for its first answer. Raises PrepareError or StartError."""
        environments.prepare(system.group)
        record.version = environments.version_of(system.group, system.distribution) if system.distribution else ""
        single, several = ask(system, self.photos)
        port, began, log = processes.free_port(), time.monotonic(), LOGS / f"{record.model}-{system.name}.log"
        LOGS.mkdir(parents=True, exist_ok=True)
        command = [environments.python_of(system.group), *system.command]
        server = processes.start(command, environments.variables(system, package, port), port, log)
        try:
            record.label = label_in(processes.wait_for_answer(server, single, began))
        except BaseException:
            server.stop()
            raise
        record.start_seconds = server.start_seconds
        if system == HUBEL:
            self.look(server, record)
        return Subject(system, server, single, several, record)

    def look(self, server: Server, record: Record) -> None:
        """What Hubel says of itself, and how fast the client is where there is nothing to compute."""
        info = processes.info(server.port)
        record.provider, record.precision = str(info["provider"]), str(info["precision"])
        seen = wrk.load(server.port, TRIVIAL, 32, 2, server.cpu_seconds)
        self.results.trivial = Trivial(seen.rate, seen.client_ms)


def label_in(text: str) -> str:
    """The label in an answer, wherever it stands."""
    found = re.search(r'"label": *"([^"]*)"', text)
    return found[1] if found else ""


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


def say(model: str, system: System, text: str) -> None:
    print(f"{model:9} {system.name:14} {text}", flush=True)
