"""models/terminal/program.py: hints that run as printed, and what is said where a library is missing."""

import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from models.terminal import program

SCRIPTS = Path(sysconfig.get_path("scripts"))


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout in which nothing is installed, and which is the working folder."""
    (tmp_path / "Makefile").touch()
    monkeypatch.setattr(program, "CHECKOUT", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def without(monkeypatch: pytest.MonkeyPatch, *libraries: str) -> None:
    """As in an environment that lacks them."""
    monkeypatch.setattr(program, "find_spec", lambda name: None if name in libraries else name)


def test_a_hint_is_a_command_line_that_a_shell_takes_apart_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(SCRIPTS))
    words = ("evaluate", Path("runs/my pets"), "it's $HOME; rm")
    assert shlex.split(program.command(*words)) == ["hubel", *map(str, words)]


def test_where_the_command_is_not_on_the_path_a_hint_has_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(SCRIPTS.parent.parent)
    assert program.command("models", "list") == f"{SCRIPTS.parent.name}/bin/hubel models list"
    monkeypatch.chdir(tmp_path)
    assert program.command("models", "list") == f"{SCRIPTS}/hubel models list"


def test_another_hubel_on_the_path_is_not_taken_for_this_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "hubel"
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert program.command("models", "list").endswith("/bin/hubel models list")
    other.unlink()
    other.symlink_to(SCRIPTS / "hubel")
    assert program.command("models", "list") == "hubel models list"


def test_what_uv_run_puts_on_the_path_is_not_on_that_of_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(SCRIPTS))
    monkeypatch.setenv("UV_RUN_RECURSION_DEPTH", "1")
    assert program.command("models", "list").endswith("/bin/hubel models list")


def test_where_nothing_is_installed_a_hint_names_this_python(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(checkout / "none"))
    assert program.command("models", "list") == f"{sys.executable} -m hubel models list"


def test_a_hint_names_the_environment_that_has_what_it_needs(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "torch")
    assert program.command("train", "photos", "--out", "runs/a") == ".venv/bin/hubel train photos --out runs/a"
    without(monkeypatch, "bentoml")
    assert program.command("serve") == ".venv-serve/bin/hubel serve"


def test_a_hint_to_make_leads_into_the_checkout(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert program.make("serve") == "make serve"
    (checkout / "other folder").mkdir()
    monkeypatch.chdir(checkout / "other folder")
    assert shlex.split(program.make("serve")) == ["make", "-C", str(checkout), "serve"]


def test_a_store_is_named_unless_it_is_that_of_the_checkout(tmp_path: Path) -> None:
    assert program.store(program.CHECKOUT / "models/store") == []
    assert program.store(tmp_path) == ["--store", str(tmp_path)]


@pytest.mark.parametrize(
    ("folder", "given", "again"),
    [
        ("training", ["train", "my photos"], ".venv/bin/hubel train 'my photos'"),
        ("models", ["list"], ".venv-serve/bin/hubel models list"),
        ("models", ["models", "list"], ".venv-serve/bin/hubel models list"),
        ("service", [], ".venv-serve/bin/hubel serve"),
        ("service", ["status"], ".venv-serve/bin/hubel status"),
    ],
)
def test_a_missing_library_is_told_with_the_command_that_has_it(
    folder: str, given: list[str], again: str, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["hubel", *given])
    said = program.missing(folder, ModuleNotFoundError("No module named 'torch'", name="torch"))
    assert "needs torch" in said
    assert said.endswith(f": run 'make setup' once, then: {again}")
    assert "\n" not in said


def test_in_an_image_the_extra_or_the_other_image_is_named(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (checkout / "Makefile").unlink()
    monkeypatch.setattr(sys, "argv", ["hubel", "train", "data"])
    assert program.missing("training", ImportError("", name="torch")).endswith("it comes with the extra train")
    assert program.missing("training", ImportError("", name="training")).endswith("docker compose run --rm train train data")


@pytest.mark.parametrize("folder", ["training", "models", "service"])
def test_outside_of_any_environment_one_line_says_what_to_do(folder: str) -> None:
    """-S: no library but Python's own can be found."""
    command = [sys.executable, "-S", "-m", folder, "status"]
    run = subprocess.run(command, cwd=program.CHECKOUT, env={}, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert run.stdout == ""
    (line,) = run.stderr.splitlines()
    assert line.startswith("error: hubel ")
    assert "make setup" in line


def test_modules_run_from_this_checkout_wherever_the_process_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(program.CHECKOUT)
    assert program.module("models") == [sys.executable, "-m", "models"]
    monkeypatch.chdir(tmp_path)  # -P: what it holds is not imported
    assert program.module("models") == [sys.executable, "-P", "-m", "models"]


def test_the_command_is_installed() -> None:
    assert shutil.which("hubel", path=str(SCRIPTS)) is not None
