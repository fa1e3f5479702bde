"""The Makefile: what it says and refuses before it installs, with a uv that only notes what it is asked."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
UV = """#!/bin/sh
echo "${UV_PROJECT_ENVIRONMENT:-.venv}: $*" >> asked
mkdir -p ${UV_PROJECT_ENVIRONMENT:-.venv}/bin
printf '#!/bin/sh\\necho ran "$@"' > ${UV_PROJECT_ENVIRONMENT:-.venv}/bin/python
chmod +x ${UV_PROJECT_ENVIRONMENT:-.venv}/bin/python
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("Makefile", "pyproject.toml", "uv.lock"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "uv").write_text(UV)
    (tmp_path / "uv").chmod(0o755)
    (tmp_path / "photos").mkdir()
    return tmp_path


def make(checkout: Path, *words: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    path = {"PATH": f"{checkout}:{os.environ['PATH']}"}
    run = subprocess.run(["make", *words], cwd=checkout, env=path, capture_output=True, text=True, check=False)
    return run.returncode, run.stdout, run.stderr


def asked(checkout: Path) -> list[str]:
    """The environments that were made or changed."""
    path = checkout / "asked"
    return [line.partition(":")[0] for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.parametrize("verb", ["inspect", "train", "retrain", "resume", "evaluate", "export", "report"])
def test_data_that_are_not_there_are_refused_before_anything_is_installed(verb: str, checkout: Path) -> None:
    code, out, err = make(checkout, verb, "DATA=no/such photos", "NAME=x")
    assert (code, out) == (2, "")
    assert err.startswith("error: DATA=no/such photos does not exist; give the folder ")
    assert asked(checkout) == []


def test_data_that_are_no_folder_are_left_to_the_program(checkout: Path) -> None:
    assert make(checkout, "inspect", "DATA=mnist:")[1] == "ran -m hubel inspect -- mnist:\n"


def test_what_is_fetched_is_said_first_and_once(checkout: Path) -> None:
    code, out, err = make(checkout, "train", "DATA=photos")
    assert (code, out[:17]) == (0, "ran -m hubel run ")
    assert err == "installing torch and what training and tests need into .venv (about 6 GB, once)\n"
    assert make(checkout, "train", "DATA=photos")[2] == ""
    os.utime(checkout / "uv.lock")
    assert make(checkout, "train", "DATA=photos")[2] == "bringing .venv up to date\n"


def test_data_are_looked_at_without_torch_being_fetched(checkout: Path) -> None:
    code, out, err = make(checkout, "inspect", "DATA=photos")
    assert (code, out) == (0, "ran -m hubel inspect -- photos\n")
    assert err == "installing what a service and inspect need into .venv-serve (about 0.5 GB, once)\n"
    assert "--extra inspect" in (checkout / "asked").read_text()
    assert asked(checkout) == [".venv-serve"]
    make(checkout, "train", "DATA=photos")
    make(checkout, "inspect", "DATA=photos")
    assert asked(checkout) == [".venv-serve", ".venv"]


def test_extras_go_where_they_are_used(checkout: Path) -> None:
    assert make(checkout, "setup")[0] == 0
    (checkout / "asked").unlink()
    assert make(checkout, "setup", "EXTRAS=mlflow signing")[0] == 0
    assert (checkout / "asked").read_text().splitlines() == [
        ".venv: sync -q --locked --inexact --extra mlflow --extra signing",
        ".venv-serve: sync -q --locked --inexact --no-dev --extra signing",
    ]
