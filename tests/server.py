"""The real service in a process of its own on 127.0.0.1: start it, wait until it is ready, stop it by its process id."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[1]
READY_SECONDS = 60  # on a quiet machine it takes two or three
PORTS = 10_000, 32_768  # Linux gives connections those above
OTHERS = ("HUBEL_", "PROMETHEUS_", "BENTOML_", "OTEL_")  # beginnings of variables that a service looks at
WORKER, ENGINE = "service.processes.worker", "service.engine"  # what the processes below the service's own run
STOP_SECONDS = 20  # less than the 25 s after which the service would give up waiting for its requests


@dataclass
class Server:
    """A service that was started. ``log`` is the file with what it writes to both outputs."""

    port: int
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60, trust_env=False)

    def output(self) -> str:
        return self.log.read_text()

    def wait_until_ready(self) -> None:
        """Return when /readyz says yes; raises AssertionError with the service's output when that does not come."""
        until = time.monotonic() + READY_SECONDS
        with httpx.Client(base_url=self.url, timeout=1, trust_env=False) as client:
            while self.process.poll() is None and time.monotonic() < until:
                try:
                    if client.get("/readyz").status_code == 200:
                        return
                except httpx.TransportError:
                    pass
                time.sleep(0.05)
        state = "did not become ready" if self.process.poll() is None else f"ended with {self.process.poll()}"
        self.kill()
        raise AssertionError(f"the service {state}:\n{self.output()}")

    def kill(self) -> None:
        """End a service that hangs, its workers and its engines."""
        for pid in self.processes() if self.process.poll() is None else []:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def processes(self) -> list[int]:
        """Ids of the service's own process, its workers and its engines."""
        pid = self.process.pid
        return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]

    def workers(self) -> list[int]:
        """Ids of the processes that answer requests."""
        return [pid for pid in self.processes() if runs_module(pid, WORKER)]

    def engines(self) -> list[int]:
        """Ids of the processes that compute."""
        return [pid for pid in self.processes() if runs_module(pid, ENGINE)]

    def stop(self, number: int = signal.SIGTERM, group: bool = False) -> int:
        """Send a signal, with ``group`` to all of its process group, as a terminal does; return the exit code.

        Raises:
            AssertionError: it did not end in time (it is killed then), left a process behind, or keeps its port.
        """
        if self.process.poll() is not None:
            return self.process.returncode
        processes = self.processes()
        (os.killpg if group else os.kill)(self.process.pid, number)
        try:
            code = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the service did not stop in {STOP_SECONDS} s:\n{self.output()}") from None
        until = time.monotonic() + STOP_SECONDS
        while (left := [pid for pid in processes if runs(pid)]) and time.monotonic() < until:
            time.sleep(0.02)
        assert not left, f"the service left processes behind: {left}"
        socket.create_server(("127.0.0.1", self.port)).close()
        return code


def runs(pid: int) -> bool:
    """The process is there and not merely waiting to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):  # the second where it is reaped between open and read
        return False


def runs_module(pid: int, name: str) -> bool:
    """It was started as python -m name."""
    try:
        return name.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return False


def free_port() -> int:
    """One that no connection is given by the system, so that it stays free until the service listens there."""
    while True:
        port = random.SystemRandom().randrange(*PORTS)  # not that of the tests, which they may seed
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def environment(**settings: str) -> dict[str, str]:
    """This process's environment with these variables and no others that a service looks at."""
    rest = {name: value for name, value in os.environ.items() if not name.startswith(OTHERS)}
    return rest | settings


def launch(store: Path, log: Path, **settings: str) -> Server:
    """Start ``python -m service`` on a free port; it is not ready yet."""
    return launch_as((), ROOT, store, log, settings)


def launch_as(prefix: Sequence[str], root: Path, store: Path, log: Path, settings: Mapping[str, str]) -> Server:
    """The same by a command that runs the one after it in its own place, such as unshare, and from another source."""
    port = free_port()
    # One worker: limits and queues hold in each, so that what a test reaches is the same on every machine
    defaults = {
        "HUBEL_STORE": str(store),
        "HUBEL_MODEL": "tiny",
        "HUBEL_PORT": str(port),
        "HUBEL_DRAIN_MS": "50",
        "HUBEL_WORKERS": "1",
    }
    with open(log, "wb") as file:
        process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "service"],
            cwd=root,
            env=environment(**(defaults | dict(settings))),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a process group of its own
        )
    return Server(port, process, log)
