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
KINDS = ("counter", "histogram", "gauge_livesum", "gauge_livemax")
FILE_BYTES = 256 * 1024  # for every series that metrics.py can make
SUPERVISOR = "supervisor"


def name_of(place: int) -> str:
    return f"worker-{place}"


def open_as(name: str) -> None:
    """Have this process keep its metrics under a name. Call it before service.metrics is imported."""
    values.ValueClass = values.MultiProcessValue(lambda: name)


def prepare(folder: Path, name: str) -> None:
    """Make or mend the files of a process that is about to start; raises OSError where the disk has no room."""
    for kind in KINDS:
        path = folder / f"{kind}_{name}.db"
        if not is_whole(path):
            with suppress(FileNotFoundError):
                path.unlink()
            with open(path, "wb") as file:
                file.write(bytes(FILE_BYTES))


def is_whole(path: Path) -> bool:
    """The file is there and can be read to its end; a process that was killed may leave half an entry."""
    try:
        list(MmapedDict.read_all_values_from_file(path))
    except Exception:  # whatever comes of bytes that make no sense
        return False
    return path.stat().st_size >= FILE_BYTES


def forget_live(folder: Path, name: str) -> None:
    """Take away what a process that is gone said of the present, such as its requests in progress."""
    mark_process_dead(name, os.fspath(folder))
