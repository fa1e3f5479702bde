"""The machine that a run is made on, in words."""

import os
import platform
import shutil
import time
from pathlib import Path

from benchmarks.environments import version_of

LIBRARIES = ("onnxruntime-openvino", "onnxruntime", "openvino", "numpy", "pillow", "simplejpeg", "bentoml", "uvicorn")
QUIET = 0.1  # cores that others may use before it is said


def describe() -> dict[str, str]:
    """Processor, memory, system and versions."""
    versions = {name: found for name in LIBRARIES if (found := version_of("", name))}
    return {
        "processor": f"{processor()}, {len(os.sched_getaffinity(0))} cores",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "system": f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}, Python {platform.python_version()}",
        "libraries": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "GPU": "present, not used" if shutil.which("nvidia-smi") else "not measured: there is none",
    }


def processor() -> str:
    """Name of the processor, with family and model number, which say more where a machine is virtual."""
    lines = (line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines())
    fields = {key.strip(): value.strip() for key, _, value in lines}
    name = fields.get("model name", platform.machine())
    return f"{name} (family {fields['cpu family']}, model {fields['model']})" if "cpu family" in fields else name


def others(seconds: float = 1.0) -> float:
    """Cores that the rest of the machine uses while the benchmark waits."""
    before = busy()
    time.sleep(seconds)
    return (busy() - before) / seconds


def warn() -> None:
    """Say where others use the machine."""
    if (found := others()) > QUIET:
        print(f"warning: other processes use {found:.1f} cores; the figures will suffer", flush=True)


def busy() -> float:
    """CPU time that all processes have used since the machine began, in seconds."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")
