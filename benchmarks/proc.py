"""What /proc says of processes: who descends from whom, CPU time and memory."""

import os
from collections.abc import Sequence
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def tree_of(pid: int) -> list[int]:
    """A process and all that descend from it or are still in its session."""
    parents: dict[int, tuple[int, int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and (fields := fields_of(int(folder.name))):
            parents[int(folder.name)] = int(fields[1]), int(fields[3])
    found = [pid, *(one for one, (_, session) in parents.items() if session == pid and one != pid)]
    for one in found:
        found += [child for child, (parent, _) in parents.items() if parent == one and child not in found]
    return found


def fields_of(pid: int) -> list[str]:
    """What /proc/PID/stat says after the name: state, parent, group, session, ...; nothing where the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def runs(pid: int) -> bool:
    """It is there and not merely waiting to be reaped."""
    fields = fields_of(pid)
    return bool(fields) and fields[0] not in ("Z", "X")


def cpu_of(pid: int) -> float:
    fields = fields_of(pid)
    return (int(fields[11]) + int(fields[12])) / TICKS if fields else 0.0


def memory_of(pids: Sequence[int]) -> float:
    """Megabytes of a process tree: the share of each in anonymous and shared memory, and the program files that the
    process with the most has mapped. The share in program files would depend on which other systems run beside it.
    """
    own, files = 0, 0
    for pid in pids:
        sizes = sizes_of(pid)
        own += sizes.get("Pss_Anon", sizes.get("RssAnon", 0)) + sizes.get("Pss_Shmem", sizes.get("RssShmem", 0))
        files = max(files, sizes.get("RssFile", 0))
    return (own + files) / 1000


def sizes_of(pid: int) -> dict[str, int]:
    """Kilobytes by name, of /proc/PID/status and, where it may be read, smaps_rollup."""
    sizes: dict[str, int] = {}
    for name in ("status", "smaps_rollup"):
        try:
            lines = Path(f"/proc/{pid}/{name}").read_text().splitlines()
        except OSError:
            continue
        for line in lines:
            key, _, value = line.partition(":")
            if value.endswith(" kB"):
                sizes[key] = round(int(value.split()[0]) * 1.024)
    return sizes
