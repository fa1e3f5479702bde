"""Stores to try things on: copies of one that is published once, because every publishing waits for the disk."""

import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from models.lifecycle import dry_run
from models.lifecycle.dry_run import DryRun, DryRunError
from models.package.manifest import PackageError
from models.package.precision import CPU
from models.registry import registry
from models.registry.registry import Pointer
from service import dry_run as service_dry_run
from service.inference.backends import choice
from service.inference.session import DeviceError
from service.settings import Settings
from tests.factories import make_package
from tests.server import ROOT

MakeStore = Callable[..., Path]


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Store of tiny:1 to tiny:3 and other:1; the first of each is live. To be copied, not changed."""
    store = tmp_path_factory.mktemp("shelf")
    for name in ("tiny", "tiny", "tiny", "other"):
        make_package(store, name)
    return store


@pytest.fixture
def make_store(shelf: Path, tmp_path: Path) -> MakeStore:
    """``make_store(tiny=2, other=1)``: a store of that many versions of each name, the first of each live."""

    def make(**versions: int) -> Path:
        store = tmp_path / "store"
        store.mkdir()
        for name, count in versions.items():
            for version in range(1, count + 1):
                shutil.copytree(shelf / name / str(version), store / name / str(version))
            shutil.copy(shelf / name / "current.json", store / name)
        return store

    return make


@pytest.fixture
def keys(tmp_path: Path) -> Callable[[str], tuple[str, str]]:
    """``keys("publisher")``: paths of a private and its public key, made as docs/model-package.md says."""

    def make(owner: str) -> tuple[str, str]:
        lines = re.findall(r"^(openssl .*?)  +#", (ROOT / "docs/model-package.md").read_text(), re.M)
        assert len(lines) == 2
        place = tmp_path / f"keys of {owner}"
        place.mkdir()
        for line in lines:
            subprocess.run(shlex.split(line), cwd=place, check=True, capture_output=True, timeout=60)
        return str(place / "private.pem"), str(place / "public.pem")

    return make


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials run in this process, which saves the seconds in which another one starts; test_dry_run.py has the other way."""

    def run(folder: Path, images: Path | None = None, answers: Path | None = None, seconds: float = 0) -> DryRun:
        try:
            return service_dry_run.try_out(folder, Settings(threads=1, device="cpu", max_batch=2), images, answers)
        except (PackageError, DeviceError) as err:
            raise DryRunError(str(err)) from err

    monkeypatch.setattr(dry_run, "run", run)
    monkeypatch.setitem(choice.PROVIDERS, "cpu", (CPU,))  # OpenVINO takes longer to load a graph


def contents(store: Path) -> dict[str, bytes | None]:
    """Every file and folder below ``store``; of files the bytes."""
    return {str(path.relative_to(store)): path.read_bytes() if path.is_file() else None for path in store.rglob("*")}


def pointer(store: Path) -> Pointer:
    """The pointer of tiny, which must be there."""
    found = registry.pointer(store, "tiny")
    assert found is not None
    return found
