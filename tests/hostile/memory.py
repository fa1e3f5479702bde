"""What processes hold in memory, now and at most, as Linux counts it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

MIB = 1024 * 1024


def _of(pid: int, name: str) -> int:
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith(name + ":"))
    return int(line.split()[1]) * 1024


def resident(pids: Sequence[int]) -> int:
    """Bytes, shared pages counted in each."""
    return sum(_of(pid, "VmRSS") for pid in pids)


@dataclass
class Peak:
    """The most that a process has held since this was made; of several, the one that grew most."""

    pids: Sequence[int]
    before: dict[int, int] = field(default_factory=dict[int, int])

    def __post_init__(self) -> None:
        for pid in self.pids:
            Path(f"/proc/{pid}/clear_refs").write_text("5")  # VmHWM begins again (proc_pid_clear_refs(5))
            self.before[pid] = _of(pid, "VmRSS")

    def grown(self) -> int:
        """Bytes more than when this was made."""
        return max(_of(pid, "VmHWM") - self.before[pid] for pid in self.pids)
