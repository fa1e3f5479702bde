"""Where a result comes from: command, code, libraries, machine."""

import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import torch

from models.terminal import program

LIBRARIES = ("torch", "torchvision", "onnx", "onnxruntime", "onnxruntime-openvino", "numpy", "pillow", "simplejpeg")


def describe() -> dict[str, object]:
    """Command line, git commit, library versions and hardware of this process."""
    return {
        "command": command(),
        "git_commit": git_commit(),
        "python": platform.python_version(),
        "libraries": libraries(),
        "hardware": ", ".join([processor(), f"{len(os.sched_getaffinity(0))} cores", *gpu()]),
    }


def command() -> str:
    """The command line of this process: of hubel, however it was started, or of what else trains."""
    started = Path(sys.argv[0])
    ours = started.name == program.NAME or (started.name == "__main__.py" and started.parent.name in (program.NAME, "training"))
    return shlex.join([program.NAME, *sys.argv[1:]] if ours else sys.orig_argv)


def libraries() -> dict[str, str]:
    """Versions of those that are installed: of the two ONNX Runtimes, an environment holds one."""
    found: dict[str, str] = {}
    for name in LIBRARIES:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def gpu() -> list[str]:
    """Name of the GPU that torch would use; empty where there is none."""
    return [torch.cuda.get_device_name()] if torch.cuda.is_available() else []


def git_commit() -> str:
    """Commit of the checkout, "-dirty" where tracked files differ from it; "unknown" outside a checkout."""
    try:
        run = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=40", "--dirty"]
        return subprocess.run(run, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
