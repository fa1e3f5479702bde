"""Runs a package in a process of its own, with bounded time and memory, so that a graph that crashes, hangs or swallows the
memory harms nobody. service/dry_run.py is what runs there; models/ itself needs no ONNX Runtime.
"""

import os
import resource
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import msgspec
from msgspec import Struct, field

from models.package import manifest as manifests
from models.package.manifest import MAX_LINE, Count, Line, Natural, Size
from models.terminal import program

ROOT = Path(__file__).parents[2]
PROGRAM = "service.dry_run"
SECONDS, GRACE_SECONDS = 300.0, 5.0
MEMORY_INFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")  # v2: memory.max and memory.current of a container
RUNTIME = "No module named 'onnxruntime'"


class DryRunError(Exception):
    """The package did not come through; ``str()`` is the reason."""


class Speed(Struct, frozen=True):
    """Median seconds of ``runs`` batches of ``size`` images."""

    size: Count
    seconds: Size
    runs: Natural


class DryRun(Struct, frozen=True):
    """What a package did. memory_bytes: most that its process held; left_out: images given that cannot be decoded."""

    model: Line
    provider: Line
    precision: Line
    skipped_backends: list[Line] = field(name="passed_over")  # the name in the file
    load_seconds: Size
    one: Speed
    largest: Speed
    memory_bytes: Natural
    images: Natural = 0
    left_out: Natural = 0


def run(folder: Path, images: Path | None = None, answers: Path | None = None, seconds: float = SECONDS) -> DryRun:
    """Load the package in ``folder`` as the service would, replay its golden inputs and time it.

    With a folder of ``images``, one folder a class, it answers them too, and writes the file ``answers``. It gets the memory
    that is free and ``seconds``.

    Raises:
        TrialError: it was refused, crashed, took too long, or cannot be run here; the reason.
    """
    command = [*program.module(PROGRAM), str(folder.resolve()), "--seconds", str(seconds)]
    if images is not None and answers is not None:
        command += ["--data", str(images.resolve()), "--answers", str(answers)]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        code = _wait(command, out, errors, seconds)
        lines = _tail(out), _tail(errors)
    try:
        found = msgspec.json.decode(lines[0].rpartition("\n")[2], type=dict[str, Any])
        if code == 0:
            return msgspec.convert(found, DryRun)
        reason = str(found["refused"])
    except (*manifests.UNREADABLE, msgspec.ValidationError, KeyError):
        reason = _why(code, lines[1], seconds)
    raise DryRunError(reason[:MAX_LINE])


def _wait(command: Sequence[str], out: IO[bytes], errors: IO[bytes], seconds: float) -> int:
    """Exit code of the command, which is killed when its time is over."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])  # from whatever folder
    process = subprocess.Popen(
        command,
        env=os.environ | {"PYTHONPATH": path},
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=errors,
        start_new_session=True,
    )
    try:
        _confine(process.pid)
        return process.wait(seconds + GRACE_SECONDS)  # it ends itself before, also should this process be killed
    except subprocess.TimeoutExpired:
        return -signal.SIGALRM
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _confine(pid: int) -> None:
    """Data of at most the memory that is free, no core dump, and the first to go where the system is short of memory."""
    with suppress(OSError, AttributeError):  # it ended already; another system than Linux
        limit = free_memory()
        resource.prlimit(pid, resource.RLIMIT_DATA, (limit, limit))
        resource.prlimit(pid, resource.RLIMIT_CORE, (0, 0))
        Path(f"/proc/{pid}/oom_score_adj").write_text("1000")


def free_memory() -> int:
    """Bytes that a further process can have: what the machine has free, or what its container has left."""
    lines = dict(line.split(":") for line in MEMORY_INFO.read_text().splitlines())
    free = int(lines["MemAvailable"].split()[0]) * 1024
    with suppress(OSError, ValueError):  # no cgroup v2, or "max"
        free = min(free, int((CGROUP / "memory.max").read_text()) - int((CGROUP / "memory.current").read_text()))
    return max(free, 2**29)


def _tail(stream: IO[bytes]) -> str:
    """The end of what was written."""
    stream.seek(max(0, stream.seek(0, os.SEEK_END) - 2**16))
    return stream.read().decode(errors="replace").strip()


def _why(code: int, errors: str, seconds: float) -> str:
    """What became of a process that says nothing itself."""
    last = errors.rpartition("\n")[2][:300]
    if RUNTIME in errors:
        return f"there is no ONNX Runtime here; run this where the service is installed: {program.elsewhere('models')}"
    if code == -signal.SIGALRM:
        return f"it was not ready after {seconds:g} s and was stopped; --seconds gives it longer"
    if code == -signal.SIGKILL:
        return "it was killed (SIGKILL), as the system does with a process that takes too much memory"
    what = f"it crashed ({signal.Signals(-code).name})" if code < 0 else f"it ended with exit code {code}"
    return f"{what}: {last}" if last else what
