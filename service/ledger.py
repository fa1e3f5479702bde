"""The files in which the processes of a service keep their metrics, so that any of them can answer for all.

A worker is known by its place, not by its process id: one that replaces another goes on counting where that stopped.
The files are made in full before they are used, since one that could not grow on a full disk would end its process.
Neighbours: metrics.py declares what is kept, supervisor.py and worker.py keep it.
"""

import os
from contextlib import suppress
from pathlib import Path

from prometheus_client import values
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import mark_process_dead

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
KIB = 1024
# Bytes of each file: room for every series that metrics.py can make, with a hundred API keys and dozens of versions.
KINDS = {"counter": 256 * KIB, "histogram": 256 * KIB, "gauge_livesum": 64 * KIB, "gauge_livemax": 128 * KIB}
SUPERVISOR = "supervisor"
ALONE = "alone"  # a process that no supervisor started
process = [ALONE]  # the name of this one


def name_of(place: int) -> str:
    return f"worker-{place}"


def open_as(name: str) -> None:
    """Have this process keep its metrics under a name. Call it before service.metrics is imported."""
    values.ValueClass = values.MultiProcessValue(lambda: name)
    process[:] = [name]


def place() -> tuple[Path | None, str]:
    """The folder that this process shares with others, None where there is none, and its name there."""
    folder = os.environ.get(VARIABLE)
    return (Path(folder) if folder else None), process[0]


def prepare(folder: Path, name: str) -> None:
    """Make or mend the files of a process that is about to start; raises OSError where the disk has no room."""
    for kind, size in KINDS.items():
        path = folder / f"{kind}_{name}.db"
        if not is_whole(path, size):
            with suppress(FileNotFoundError):
                path.unlink()
            with open(path, "wb") as file:
                file.write(bytes(size))


def is_whole(path: Path, size: int) -> bool:
    """The file is there in full and can be read to its end; a process that was killed may leave half an entry."""
    try:
        list(MmapedDict.read_all_values_from_file(path))
    except Exception:  # whatever comes of bytes that make no sense
        return False
    return path.stat().st_size >= size


def forget_live(folder: Path, name: str) -> None:
    """Take away what a process that is gone said of the present, such as its requests in progress."""
    mark_process_dead(name, os.fspath(folder))
