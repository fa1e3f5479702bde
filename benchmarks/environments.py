"""What a system runs in: its own Python environment, the package of the model, and the variables that name them."""

import os
import shutil
import subprocess
from pathlib import Path

from benchmarks.processes import ROOT
from benchmarks.systems import System
from models.image.fingerprint import fingerprint
from models.package.manifest import PackageError
from models.registry import registry

CACHE = ROOT / ".bench"
BUNDLED = "cifar10"
VERSION = "import sys, importlib.metadata as m; print(m.version(sys.argv[1]))"


class PrepareError(Exception):
    """An environment or a model that cannot be made; ``str()`` says why in a line."""


def call(command: list[str], **variables: str) -> str:
    """Run a command in the checkout and return what it prints. Raises PrepareError."""
    done = subprocess.run(command, cwd=ROOT, env=os.environ | variables, capture_output=True, text=True)
    if done.returncode != 0:
        lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise PrepareError(f"{' '.join(command[:6])} failed: {lines[-1][:200] if lines else 'it printed nothing'}")
    return done.stdout.strip()


def folder_of(group: str) -> Path:
    return ROOT / ".venv-bench" / group if group else ROOT / ".venv-serve"


def python_of(group: str) -> str:
    return str(folder_of(group) / "bin/python")


def prepare(group: str) -> None:
    """Install what a group of peers needs; Hubel's own environment is there. Raises PrepareError."""
    if group:
        uv = os.environ.get("UV") or shutil.which("uv") or str(ROOT / ".tools/bin/uv")
        command = [uv, "sync", "-q", "--locked", "--no-default-groups", "--group", group]
        call(command, UV_PROJECT_ENVIRONMENT=str(folder_of(group)))


def version_of(group: str, distribution: str) -> str:
    """Installed version of a distribution; nothing where it is not installed."""
    try:
        return call([python_of(group), "-c", VERSION, distribution])
    except PrepareError:
        return ""


def package_of(model: str) -> Path:
    """Folder of the model's package: the bundled one, or one with random weights, which is made where there is none that
    this version can use. Raises PrepareError.
    """
    if model == BUNDLED:
        return registry.resolve(registry.STORE, BUNDLED)
    folder = CACHE / "models" / model / "1"
    if not usable(folder):
        print(f"making {model} with random weights", flush=True)
        shutil.rmtree(folder.parent, ignore_errors=True)
        call(["make", "-s", ".venv/.synced"])
        options = ["--architecture", model, "--weights", "none", "--store", str(CACHE / "models")]
        call([str(ROOT / ".venv/bin/python"), "-m", "training", "export", *options])
    return folder


def usable(folder: Path) -> bool:
    """Whether a package is whole, and made for the preprocessing of this version."""
    try:
        manifest = registry.verify(folder)
    except (PackageError, OSError):
        return False
    return manifest.preprocessing == fingerprint(manifest.input)


def variables(system: System | None, package: Path, port: int = 0) -> dict[str, str]:
    """Environment of a system, or of the floor; HUBEL_* of the caller, such as HUBEL_PRECISION, hold for all."""
    ours = {
        "BENCH_PORT": str(port),
        "BENCH_PACKAGE": str(package),
        "HUBEL_PORT": str(port or 1),
        "HUBEL_STORE": str(package.parents[1]),
        "HUBEL_MODEL": f"{package.parent.name}:{package.name}",
        "PYTHONUNBUFFERED": "1",
    }
    return os.environ | ours | dict(system.environment if system else ())
