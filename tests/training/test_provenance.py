"""training/provenance.py: the facts that let somebody else repeat a run."""

import importlib
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from training import provenance


def test_a_description_holds_command_commit_libraries_and_hardware() -> None:
    facts = provenance.describe()

    assert list(facts) == ["command", "git_commit", "python", "libraries", "hardware"]
    assert facts["python"] == ".".join(map(str, sys.version_info[:3]))
    assert str(facts["hardware"]).endswith(f", {len(os.sched_getaffinity(0))} cores")


@pytest.mark.parametrize("module", ["torch", "torchvision", "onnx", "onnxruntime", "numpy"])
def test_versions_are_those_of_the_libraries_in_use(module: str) -> None:
    libraries = provenance.describe()["libraries"]

    assert isinstance(libraries, dict)
    build = importlib.import_module(module).__version__  # may end in "+cpu"
    name = "onnxruntime-openvino" if module == "onnxruntime" and module not in libraries else module
    assert libraries[name] == build.partition("+")[0]


@pytest.mark.parametrize("started", ["training/__main__.py", "hubel/__main__.py", ".venv/bin/hubel"])
def test_the_command_can_be_pasted_into_a_shell(started: str, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["train", "my photos", "--out", "it's"]
    monkeypatch.setattr(sys, "argv", [f"/somewhere/{started}", *arguments])

    assert shlex.split(str(provenance.describe()["command"])) == ["hubel", *arguments]


def test_what_else_trains_is_told_as_it_was_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/benchmarks/transfer.py", "--data", "cifar10"])
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "benchmarks.transfer", "--data", "cifar10"])

    assert provenance.describe()["command"] == "python -m benchmarks.transfer --data cifar10"


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
    run = subprocess.run(["git", "-C", str(folder), *identity, *arguments], capture_output=True, text=True, check=True)
    return run.stdout.strip()


def commit_seen_by(module: Path) -> str:
    return runpy.run_path(str(module))["git_commit"]()


@pytest.fixture
def module(tmp_path: Path) -> Path:
    """The module alone in a folder, as unpacked from an archive."""
    return Path(shutil.copy(provenance.__file__, tmp_path))


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_commit_is_that_of_the_checkout_and_says_where_files_differ_from_it(module: Path) -> None:
    git(module.parent, "init", "--quiet")
    git(module.parent, "add", ".")
    git(module.parent, "commit", "--quiet", "--message", "one")
    commit = git(module.parent, "rev-parse", "HEAD")

    assert re.fullmatch("[0-9a-f]{40}", commit)
    assert commit_seen_by(module) == commit

    module.write_text(module.read_text() + "\n")
    assert commit_seen_by(module) == f"{commit}-dirty"


def test_the_commit_is_unknown_outside_a_checkout(module: Path) -> None:
    assert commit_seen_by(module) == "unknown"


def test_the_commit_is_unknown_where_git_is_not_installed(module: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(module.parent))

    assert commit_seen_by(module) == "unknown"


def test_the_processor_has_a_name() -> None:
    assert provenance.processor()
