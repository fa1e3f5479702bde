"""What the project is made of, checked: the lock file, the Dockerfile, a list of the parts (SBOM) and their known faults.

python -m tests.audit   (make audit). Needs nothing but Python and the tools of the dependency group audit, beside which it
runs, and uv, which the variable UV names. What needs a network and has none is skipped, in one line that says so.
"""

import datetime
import json
import os
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
EXCEPTIONS = Path(__file__).parent / "exceptions.toml"
WRITTEN = ROOT / ".audit"  # not committed: whoever wants a list of the parts makes one of what he has
PARTS = {"serve-cpu": ["serve-cpu", "signing"], "serve-gpu": ["serve-gpu", "signing"], "train": ["train", "signing"]}
NO_NETWORK = ("NameResolutionError", "ConnectionError", "Max retries exceeded", "ConnectTimeout", "ProxyError", "SSLError")
TOOLS = Path(sys.executable).parent
SECONDS = 600


class Skipped(Exception):
    """A check that cannot be made here; ``str()`` says why."""


def run(command: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS)


def uv(*arguments: str) -> subprocess.CompletedProcess[str]:
    return run([os.environ.get("UV", "uv"), *arguments])


def first_fault(result: subprocess.CompletedProcess[str]) -> str | None:
    return None if result.returncode == 0 else (result.stderr + result.stdout).strip() or f"exit code {result.returncode}"


def check_lock() -> str | None:
    return first_fault(uv("lock", "--check", "-q"))


def check_dockerfile() -> str | None:
    return first_fault(run([TOOLS / "hadolint", "Dockerfile"]))


def export(form: str, part: str, target: Path) -> None:
    extras = [word for extra in PARTS[part] for word in ("--extra", extra)]
    options = ["--no-header", "--no-hashes", "--no-annotate", "--no-emit-project"] if form == "requirements.txt" else []
    result = uv("export", "-q", "--locked", "--no-dev", "--format", form, *options, *extras, "-o", str(target))
    if fault := first_fault(result):
        raise RuntimeError(f"uv cannot export {part}: {fault}")


def write_parts() -> str | None:
    """A CycloneDX list of the parts of each environment."""
    WRITTEN.mkdir(exist_ok=True)
    for part in PARTS:
        path = WRITTEN / f"sbom-{part}.json"
        export("cyclonedx1.5", part, path)
        print(f"  {path.relative_to(ROOT)}: {len(json.loads(path.read_text())['components'])} components")
    return None


def accepted(text: str, today: datetime.date) -> list[str]:
    """Ids of the known faults that the exceptions accept; raises ValueError where one has expired."""
    ids: list[str] = []
    for exception in tomllib.loads(text).get("exception", []):
        if exception["expires"] < today:
            raise ValueError(f"the exception for {exception['id']} expired on {exception['expires']}: decide again")
        ids += [exception["id"]] if exception["reason"] else []
    return ids


def judge(answer: Mapping[str, Any]) -> tuple[list[str], int, int]:
    """Of pip-audit's answer: its findings, how many packages it knew, and how many it was asked about."""
    packages: list[dict[str, Any]] = answer["dependencies"]
    known = [package for package in packages if "skip_reason" not in package]
    found = [
        f"{package['name']} {package['version']}: {fault['id']}, fixed in {', '.join(fault['fix_versions']) or 'no version'}"
        for package in known
        for fault in package["vulns"]
    ]
    return found, len(known), len(packages)


def check_known_faults() -> str | None:
    """Known vulnerabilities of all that is locked, but for those accepted; a database that cannot be asked is no fault."""
    ignored = [word for name in accepted(EXCEPTIONS.read_text(), datetime.date.today()) for word in ("--ignore-vuln", name)]
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{part}.txt" for part in PARTS]
        for part, path in zip(PARTS, files, strict=True):
            export("requirements.txt", part, path)
        lines = sorted({line for path in files for line in path.read_text().splitlines() if "==" in line})
        answers: list[tuple[list[str], int, int]] = []
        for wave in waves(lines):
            (Path(folder) / "all.txt").write_text("\n".join(wave))
            options = ["--no-deps", "--disable-pip", "--progress-spinner", "off", "-f", "json", *ignored]
            result = run([TOOLS / "pip-audit", "-r", Path(folder) / "all.txt", *options])
            try:
                answers.append(judge(json.loads(result.stdout)))
            except json.JSONDecodeError:
                reason = next((text for text in NO_NETWORK if text in result.stderr), None)
                if reason is None:
                    return first_fault(result) or "pip-audit gave no answer"
                raise Skipped(f"the database of known faults cannot be asked ({reason})") from None
    known, asked = sum(answer[1] for answer in answers), sum(answer[2] for answer in answers)
    if known == 0:
        raise Skipped(f"the package index has no database of known faults: it knows none of the {asked} packages")
    print(f"  {known} of {asked} packages are known to the database")
    return "\n".join(fault for answer in answers for fault in answer[0]) or None


def waves(lines: Sequence[str]) -> list[list[str]]:
    """Requirements in as few files as it takes for each to name a package once, without the markers of platforms."""
    files: list[dict[str, str]] = []
    for line in lines:
        requirement = line.partition(";")[0].strip()
        name = requirement.partition("==")[0]
        place = next((file for file in files if file.get(name, requirement) == requirement), None)
        if place is None:
            files.append(place := {})
        place[name] = requirement
    return [list(file.values()) for file in files]


CHECKS = {
    "lock file": check_lock,
    "Dockerfile": check_dockerfile,
    "list of parts": write_parts,
    "known faults": check_known_faults,
}


def main() -> int:
    failed = 0
    for name, check in CHECKS.items():
        print(f"{name}:", flush=True)
        try:
            fault = check()
        except Skipped as err:
            print(f"  skipped: {err}")
            continue
        except (RuntimeError, ValueError, OSError, subprocess.TimeoutExpired) as err:
            fault = str(err)
        print(f"  {'passed' if fault is None else fault}")
        failed += fault is not None
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
