"""Processes of the benchmark: start a server, wait for its first answer, see what its process tree uses, end it."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bodies import Bodies
from benchmarks.proc import cpu_of, memory_of, runs, tree_of

ROOT = Path(__file__).parents[1]
START_SECONDS, STOP_SECONDS = 120, 20


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

    def stop(self, patience: float = STOP_SECONDS) -> list[int]:
        """SIGTERM to the server itself; what does not end is killed. Returns the processes that had to be."""
        members = self.tree()
        if self.process.poll() is None:
            self.process.terminate()
        left = self.wait_for_end(members, patience)
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.wait_for_end(left, patience)
        self.process.wait()
        return left

    def wait_for_end(self, members: Sequence[int], patience: float) -> list[int]:
        """Those of the processes that are still there after so many seconds."""
        until = time.monotonic() + patience
        while (left := [pid for pid in members if runs(pid)]) and time.monotonic() < until:
            self.process.poll()
            time.sleep(0.02)
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


def wait_for_answer(server: Server, sent: Bodies, began: float) -> str:
    """Post a photograph until it is answered with 200, and note the seconds that took; the answer. Raises StartError."""
    reason = "it does not listen"
    while time.monotonic() - began < START_SECONDS:
        if server.process.poll() is not None:
            raise StartError(f"ended with {server.process.returncode}: {reason_in(server.log)}")
        try:
            status, text = post(server.port, sent)
            if status == 200:
                server.start_seconds = time.monotonic() - began
                return text
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


def info(port: int) -> dict[str, object]:
    """What Hubel says of itself at /v1/info."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/v1/info")
        found: dict[str, object] = json.loads(connection.getresponse().read())
        return found
    finally:
        connection.close()


def reason_in(log: Path) -> str:
    """The first exception that a server printed, else its last line."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    raised = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b", line)]
    return [*raised[:1], *lines[::-1]][0][:200].rstrip(".") if lines else "it printed nothing"
