"""Processes of the benchmark: start a server, wait for its first answer, see what its process tree uses, end it."""

import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bodies import Bodies

ROOT = Path(__file__).parents[1]
START_SECONDS, STOP_SECONDS = 120, 20
TICKS = os.sysconf("SC_CLK_TCK")


class StartError(Exception):
    """A system that does not come up; ``str()`` says why in a line."""


@dataclass
class Server:
    """A server that was started, at the head of a process group of its own. ``log``: what it prints."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path
    start_seconds: float = 0.0

    def tree(self) -> list[int]:
        return tree_of(self.process.pid)

    def cpu_seconds(self) -> float:
        """CPU time that the processes of the tree have used."""
        return sum(cpu_of(pid) for pid in self.tree())

    def memory_mb(self) -> float:
        return memory_of(self.tree())

    def wait_until_idle(self, limit: float = 10.0) -> None:
        """Return when what clients left behind is done."""
        until, before = time.monotonic() + limit, self.cpu_seconds()
        while time.monotonic() < until:
            time.sleep(0.1)
            now = self.cpu_seconds()
            if now - before <= 0.01:
                return
            before = now

    def idle_share(self, seconds: float = 2.0) -> float:
        """Share of a core that it uses when nobody asks."""
        before = self.cpu_seconds()
        time.sleep(seconds)
        return (self.cpu_seconds() - before) / seconds

    def stop(self) -> list[int]:
        """SIGTERM to the server itself; what does not end is killed. Returns the processes that had to be."""
        members = self.tree()
        if self.process.poll() is None:
            self.process.terminate()
        until = time.monotonic() + STOP_SECONDS
        while (left := [pid for pid in members if runs(pid)]) and time.monotonic() < until:
            self.process.poll()
            time.sleep(0.05)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        self.process.wait()
        return left


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def start(command: Sequence[str], environment: Mapping[str, str], port: int, log: Path) -> Server:
    """Start without waiting."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Server(process, port, log)


def wait_for_answer(server: Server, sent: Bodies, began: float) -> None:
    """Post a photograph until it is answered with 200, and note the seconds that took. Raises StartError."""
    reason = "it does not listen"
    while time.monotonic() - began < START_SECONDS:
        if server.process.poll() is not None:
            raise StartError(f"ended with {server.process.returncode}: {last_line(server.log)}")
        try:
            status, text = post(server.port, sent)
            if status == 200:
                server.start_seconds = time.monotonic() - began
                return
            reason = f"it answers {status}: {text[:120]!r}"
        except (OSError, http.client.HTTPException):
            pass
        time.sleep(0.02)
    raise StartError(f"no answer in {START_SECONDS} s: {reason}")


def post(port: int, sent: Bodies) -> tuple[int, str]:
    """Status and text of the answer to the first request."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=START_SECONDS)
    try:
        connection.request("POST", sent.path, sent.bodies[0], {"Content-Type": sent.content_type})
        answer = connection.getresponse()
        return answer.status, answer.read().decode("utf-8", "replace")
    finally:
        connection.close()


def last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:200] if lines else "it printed nothing"


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
