"""What the processes of a service take, by kind of process: processor time and memory, as Linux tells under /proc."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from service.telemetry import metrics

LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))  # cgroup version 2, 1
PROCESSOR, RESIDENT = slice(11, 13), 21  # fields of stat after the name: ticks of user and system time; pages


class Usage:
    """seconds: of processor time of each process when it was last looked at."""

    def __init__(self) -> None:
        self.seconds: dict[int, float] = {}

    def look(self, kinds: Mapping[str, Sequence[int]]) -> None:
        """Say in the metrics what these processes take, by kind; what one took since the last look before it ended is lost."""
        before, self.seconds = self.seconds, {}
        for kind, pids in kinds.items():
            spent, resident = 0.0, 0
            for pid in pids:
                with suppress(OSError):  # it has ended; another system than Linux
                    self.seconds[pid], memory = read(pid)
                    spent += max(0.0, self.seconds[pid] - before.get(pid, 0.0))
                    resident += memory
            metrics.PROCESS_CPU.labels(kind).inc(spent)
            metrics.PROCESS_MEMORY.labels(kind).set(resident)


def read(pid: int) -> tuple[float, int]:
    """Seconds of processor time and bytes of resident memory. Raises OSError."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[PROCESSOR])) / os.sysconf("SC_CLK_TCK"), int(fields[RESIDENT]) * os.sysconf("SC_PAGE_SIZE")


def memory_limit(limits: Sequence[Path] = LIMITS) -> int:
    """Bytes that the service may use: its container's limit, or what the machine has where that is less."""
    most = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for file in limits:
        with suppress(OSError, ValueError):  # no such cgroup, or "max"
            return min(most, int(file.read_text()))
    return most
