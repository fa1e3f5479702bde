"""The closed-loop client: wrk, one thread in C, with as many connections as there are clients."""

import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import msgspec
from msgspec import Struct

from benchmarks.bodies import Bodies
from benchmarks.numbers import percentile, rate_of

SCRIPT = Path(__file__).with_name("wrk.lua")
LEAD = 0.3  # share of the time that goes by before answers count


class MissingClient(Exception):
    """wrk is not installed; ``str()`` says how to get it."""


class Output(Struct):
    """The line that wrk.lua prints. Latencies in microseconds, times in seconds of the monotonic clock."""

    requests: int
    refused: int
    broken: int
    p50: float
    p99: float
    times: list[float]


class Closed(Struct):
    """What a number of clients saw, each of which asks again when it is answered.

    rate: images answered a second. core_ms: CPU time of the server for an image; client_ms: of wrk for a request.
    errors: requests with another status than 200, or none; they are not in the rate.
    """

    clients: int
    images: int
    seconds: float
    requests: int
    errors: int
    rate: float
    p50_ms: float
    p99_ms: float
    core_ms: float
    client_ms: float


def find() -> str:
    """Path of wrk. Raises MissingClient."""
    if found := shutil.which("wrk"):
        return found
    raise MissingClient("the benchmark needs wrk, which is not installed: apt-get install wrk, or brew install wrk")


def parse(text: str) -> Output:
    """What wrk printed, which ends with the script's line."""
    return msgspec.json.decode(text.rstrip().rpartition("\n")[2], type=Output)


def load(port: int, sent: Bodies, clients: int, seconds: float, cpu_of: Callable[[], float]) -> Closed:
    """Ask for ``seconds``. ``cpu_of``: seconds of CPU time that the server has used so far."""
    whole = max(1, round(seconds))
    command = [find(), "-t1", f"-c{clients}", f"-d{whole}s", "--timeout", "30s", "-s", str(SCRIPT), f"http://127.0.0.1:{port}"]
    with tempfile.TemporaryDirectory() as folder:
        file = write(sent.requests, Path(folder))
        before = children_cpu()
        process = subprocess.Popen([*command, "--", str(file)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        cores = watch(whole, cpu_of)
        text, _ = process.communicate(timeout=whole + 60)
        used = children_cpu() - before
    if process.returncode != 0:
        raise RuntimeError(f"wrk failed: {text.strip()}")
    return summarise(parse(text), clients, sent.images, whole, cores, used)


def children_cpu() -> float:
    """CPU time of this process's children that have ended, in seconds."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def write(requests: Sequence[bytes], folder: Path) -> Path:
    """The file that wrk.lua reads: a line of lengths, then the requests."""
    file = folder / "requests"
    file.write_bytes(" ".join(str(len(r)) for r in requests).encode() + b"\n" + b"".join(requests))
    return file


def read(file: Path) -> list[bytes]:
    """The requests of such a file."""
    with file.open("rb") as stream:
        return [stream.read(int(length)) for length in stream.readline().split()]


def watch(seconds: float, cpu_of: Callable[[], float]) -> float:
    """Cores that the server uses while it is under load, without the beginning and the end."""
    time.sleep(LEAD * seconds)
    began, before = time.monotonic(), cpu_of()
    time.sleep((0.95 - LEAD) * seconds)
    return (cpu_of() - before) / (time.monotonic() - began)


def summarise(output: Output, clients: int, images: int, seconds: float, cores: float, client_cpu: float) -> Closed:
    """Counts what came after the lead. One client's latencies are the times between its requests, exactly."""
    started = output.times[1 + clients :]  # one request is made to try the script, one for each connection to begin
    cut = output.times[0] + LEAD * seconds
    answered = [time for time in started if time >= cut]
    good = 1 - (output.refused + output.broken) / max(1, output.requests)
    rate = rate_of(answered) * images * good
    p50, p99 = output.p50 / 1000, output.p99 / 1000
    if clients == 1:
        gaps = [1000 * (b - a) for a, b in pairwise(answered)]
        p50, p99 = percentile(gaps, 50), percentile(gaps, 99)
    return Closed(
        clients,
        images,
        seconds,
        output.requests,
        output.refused + output.broken,
        rate,
        p50,
        p99,
        1000 * cores / rate if rate else float("nan"),
        1000 * client_cpu / max(1, output.requests),
    )
