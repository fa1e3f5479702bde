"""Worlds for a service to run in: a small disk, no network, few rights, little memory. Linux namespaces and cgroups."""

import os
import subprocess
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

ROOT_USER = os.geteuid() == 0
CGROUPS = (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup"))  # version 1, version 2
LIMITS = ("memory.limit_in_bytes", "memory.max")


def inside(script: str, *arguments: str, network: bool = False) -> list[str]:
    """A prefix for a command: a shell that may mount runs ``script``, which ends with exec "$@", in a namespace of its
    own. Skips the test where that is not allowed.
    """
    flags = ("-m" if ROOT_USER else "-rm") + ("n" if network else "")
    tried = subprocess.run(["unshare", flags, "true"], capture_output=True, text=True) if _has("unshare") else None
    if tried is None or tried.returncode:
        pytest.skip(f"no namespaces here: {tried.stderr.strip() if tried else 'there is no unshare'}")
    return ["unshare", flags, "sh", "-ec", script, "sh", *arguments]


def _has(program: str) -> bool:
    return any((Path(folder) / program).exists() for folder in os.environ["PATH"].split(":"))


def in_network_of(pid: int) -> list[str]:
    """A prefix for a command that shall see the network that a process sees."""
    return ["nsenter", "-t", str(pid), *(() if ROOT_USER else ("-U", "--preserve-credentials")), "-n"]


def as_seen_by(pid: int, path: Path) -> Path:
    """The place of a file that only a process sees, for others."""
    return Path(f"/proc/{pid}/root{path}")


def fill(folder: Path) -> int:
    """Write until nothing more fits; how many bytes did."""
    written = 0
    with suppress(OSError), (folder / "filler").open("wb", buffering=0) as file:
        while count := file.write(b"\0" * 4096):
            written += count
    return written


@contextmanager
def memory_group() -> Generator[Path]:
    """A cgroup whose memory can be limited. Skips the test where none can be made."""
    for parent in CGROUPS:
        group = parent / f"hubel-test-{os.getpid()}"
        with suppress(OSError):
            group.mkdir()
            if any((group / name).exists() for name in LIMITS):
                break
            group.rmdir()
    else:
        pytest.skip("no cgroup with a memory limit can be made here")
    yield group
    for pid in (group / "cgroup.procs").read_text().split():
        with suppress(ProcessLookupError):
            os.kill(int(pid), 9)
    for _ in range(100):
        with suppress(OSError):
            group.rmdir()
            return


def anonymous_bytes(group: Path) -> int:
    """What the processes of a group hold that cannot be dropped."""
    fields = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    return int(fields.get("total_rss", fields.get("anon", 0)))


def limit(group: Path, size: int) -> None:
    (name,) = (name for name in LIMITS if (group / name).exists())
    (group / name).write_text(str(size))
    swap = group / "memory.swap.max"
    if swap.exists():
        swap.write_text("0")
