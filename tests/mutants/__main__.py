"""Shows that tests can fail: takes one protection after another out of a copy of the code and runs the tests that guard it.

python -m tests.mutants [AREA ...]   (make mutants); tests/mutants/AREA.toml lists the functions and
what each does instead.
"""

import argparse
import ast
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

ROOT = Path(__file__).parents[2]
FOLDER = Path(__file__).parent
TIMEOUT_SECONDS = 900  # of the tests of one change
PASSED, FAILED = 0, 1  # pytest's exit codes; all others are no answer
FAULT = 1
Function = ast.FunctionDef | ast.AsyncFunctionDef


class Mutant(Struct, frozen=True, forbid_unknown_fields=True):
    """A protection taken away: the function "module:qualified name" does ``body`` alone; one of ``tests`` must then fail."""

    what: str
    function: str
    body: str
    tests: list[str]

    @property
    def file(self) -> str:
        return self.function.partition(":")[0].replace(".", "/") + ".py"

    @property
    def name(self) -> str:
        return self.function.partition(":")[2]


class Area(Struct, frozen=True, forbid_unknown_fields=True):
    mutant: list[Mutant]


def areas() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def read(area: str) -> list[Mutant]:
    return msgspec.toml.decode((FOLDER / f"{area}.toml").read_bytes(), type=Area).mutant


def functions(tree: ast.Module | ast.ClassDef, prefix: str = "") -> Iterator[tuple[str, Function]]:
    """The functions of a module and of its classes, by their qualified names."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield from functions(node, f"{prefix}{node.name}.")
        elif isinstance(node, Function):
            yield prefix + node.name, node


def find(source: str, name: str) -> Function:
    """Raises ValueError where the function is not there exactly once."""
    found = [function for known, function in functions(ast.parse(source)) if known == name]
    if len(found) != 1:
        raise ValueError(f"there are {len(found)} functions {name!r}, not one")
    return found[0]


def replaced(source: str, name: str, body: str) -> str:
    """The source with ``body``, statements, for all that the function does; its decorators and signature stay."""
    function = find(source, name)
    first, lines = function.body[0], source.split("\n")
    lines[first.lineno - 1 : function.end_lineno] = textwrap.indent(body.strip(), " " * first.col_offset).split("\n")
    return "\n".join(lines)


def apply(root: Path, mutant: Mutant) -> None:
    """Change the function below ``root``; raises ValueError where it is not there exactly once."""
    path = root / mutant.file
    path.write_text(replaced(path.read_text(), mutant.name, mutant.body))


def copy(target: Path) -> None:
    """The files that git tracks, as they lie in the working tree."""
    target.chmod(0o755)  # some tests run it as another user
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True, timeout=60).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)


def run(root: Path, tests: Sequence[str]) -> tuple[int | None, str]:
    """Run tests below ``root``, the long ones too: pytest's exit code, None where they did not end, and what they said."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-m", "", "-p", "no:cacheprovider", *tests]
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            command,
            cwd=root,
            env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = process.wait(TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        output.seek(0)
        return code, output.read()


def judge(root: Path, mutant: Mutant) -> tuple[str, str]:
    """Verdict on a change, made in a copy of the code at ``root``, and the output of the tests."""
    apply(root, mutant)
    code, output = run(root, mutant.tests)
    verdicts = {PASSED: "SURVIVED", FAILED: "caught", None: "HUNG"}
    return verdicts.get(code, "BROKEN"), output


def check(area: str) -> bool:
    """Judge every change of an area, after its tests passed without any; tells each verdict."""
    mutants = read(area)
    tests = sorted({test for mutant in mutants for test in mutant.tests})
    with tempfile.TemporaryDirectory(prefix="hubel-mutants-") as folder:
        copy(Path(folder))
        code, output = run(Path(folder), tests)
    if code != PASSED:
        print(output[-4000:])
        print(f"{area}: its tests do not pass as the code is")
        return False
    verdicts = [tell(area, mutant) for mutant in mutants]
    print(f"{area}: {verdicts.count('caught')} of {len(verdicts)} changes were caught")
    return all(verdict == "caught" for verdict in verdicts)


def tell(area: str, mutant: Mutant) -> str:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="hubel-mutants-") as folder:
        copy(Path(folder))
        verdict, output = judge(Path(folder), mutant)
    if verdict != "caught":
        print(output[-2000:])
    print(f"{verdict:8}  {area}: {mutant.what} ({mutant.function}, {time.monotonic() - began:.0f} s)", flush=True)
    return verdict


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("areas", nargs="*", metavar="AREA", help=f"{', '.join(areas())} (default: all)")
    chosen = parser.parse_args(arguments).areas or areas()
    if unknown := set(chosen) - set(areas()):
        parser.error(f"unknown area {', '.join(sorted(unknown))}; there is {', '.join(areas())}")
    results = [check(area) for area in chosen]
    return 0 if all(results) else FAULT


if __name__ == "__main__":
    sys.exit(main())
