"""Changes a store without end, to be killed while at it."""

from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path

from models.lifecycle import candidate, gate, retention
from models.lifecycle.candidate import Candidate
from models.lifecycle.gate import Gate
from models.lifecycle.rules import Rules
from models.package import manifest
from models.registry import history, registry


def publish(store: Path, files: Path, _: int) -> None:
    registry.publish(store, files, manifest.read(files))


def promote(store: Path, _: Path, i: int) -> None:
    """As hubel models promote does, once the gate has spoken."""
    version = 1 + i % 2
    gate.write(store, "tiny", version, Gate("tiny", None, True, history.change("end", 1, None, "", "").at, "", "", [], Rules()))
    registry.promote(store, "tiny", version, f"round {i}")


def end(store: Path, _: Path, i: int) -> None:
    """A candidate that becomes live."""
    now = registry.pointer(store, "tiny")
    if now is None:
        raise SystemExit("there is no pointer")
    candidate.start(store, "tiny", Candidate(3 - now.version, "canary", 10, 10))
    candidate.end(store, "tiny", True, f"round {i}")


def remove(store: Path, files: Path, i: int) -> None:
    publish(store, files, i)
    retention.collect(store, "tiny", keep=1)


ACTS = {"publish": publish, "promote": promote, "end": end, "remove": remove}


def work(act: str, store: Path, files: Path, ready: Connection) -> None:
    """Do ``act`` again and again; says so after the first time."""
    for i in count(1):
        ACTS[act](store, files, i)
        if i == 1:
            ready.send_bytes(b"ready")
