"""What is released of the version that pyproject.toml names: a source archive, lists of the parts (SBOM), their hashes, images.

python -m tests.release [--images TARGET ...]   (make release). It runs beside the tools of the group audit, with uv, which the
variable UV names. Files go into dist/ and are the same bytes each time for the same commit: times in them are that of the commit,
or SOURCE_DATE_EPOCH. An image is built for each target of the Dockerfile where a Docker Engine answers.
"""

import argparse
import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tomllib
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.audit.__main__ import PARTS, export

ROOT = Path(__file__).parents[2]
DIST = ROOT / "dist"
IMAGES = {"serve": "hubel", "serve-gpu": "hubel-gpu", "train": "hubel-train"}  # target -> name, as Compose calls it
SECONDS = 3600


class ReleaseError(Exception):
    """``str()`` says what is wrong and the way out."""


def git(*arguments: str) -> bytes:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, timeout=SECONDS)
    if done.returncode != 0:
        raise ReleaseError(f"git {arguments[0]} failed: {done.stderr.decode().strip()}")
    return done.stdout


def version() -> str:
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])


def check_tag(tag: str) -> None:
    """Raises ReleaseError where a tag is not that of the version."""
    if tag != f"v{version()}":
        raise ReleaseError(f"the tag is {tag}, pyproject.toml has version {version()}: tag v{version()}, or change the version")


def epoch() -> int:
    """Seconds since 1970 that files of the release are of."""
    return int(os.environ.get("SOURCE_DATE_EPOCH") or git("log", "-1", "--format=%ct"))


def pack(tar: bytes) -> bytes:
    """As .tar.gz, without the time and name that gzip would note."""
    return gzip.compress(tar, 9, mtime=0)


def source(name: str) -> bytes:
    """What is committed, as a .tar.gz."""
    return pack(git("archive", "--format=tar", f"--prefix={name}/", "HEAD"))


def settle(parts: dict[str, Any], time: int) -> bytes:
    """A CycloneDX list with the time of the release, and a serial number that follows from what it holds."""
    metadata = parts.get("metadata", {}) | {"timestamp": datetime.fromtimestamp(time, UTC).isoformat().replace("+00:00", "Z")}
    parts = parts | {"metadata": metadata, "serialNumber": ""}
    content = json.dumps(parts, indent=1, sort_keys=True)
    return json.dumps(parts | {"serialNumber": uuid.uuid5(uuid.NAMESPACE_URL, content).urn}, indent=1, sort_keys=True).encode()


def write(folder: Path) -> list[Path]:
    """The files of the release and SHA256SUMS. Raises ReleaseError, RuntimeError."""
    if git("status", "--porcelain", "--untracked-files=no"):
        raise ReleaseError("files were changed that are not committed: commit or restore them, as a release is of a commit")
    name, time = f"hubel-{version()}", epoch()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    files = [folder / f"{name}.tar.gz"]
    files[0].write_bytes(source(name))
    for part in PARTS:
        files.append(folder / f"{name}-sbom-{part}.json")
        export("cyclonedx1.5", part, files[-1])
        files[-1].write_bytes(settle(json.loads(files[-1].read_bytes()), time))
    sums = folder / "SHA256SUMS"
    sums.write_text("".join(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files))
    return [*files, sums]


def has_engine() -> bool:
    docker = shutil.which("docker")
    return docker is not None and subprocess.run([docker, "info"], capture_output=True, timeout=60).returncode == 0


def build(target: str) -> str:
    """An image of a target, from what is committed; its name. Raises ReleaseError."""
    name = f"{IMAGES[target]}:{version()}"
    options = ["--target", target, "--build-arg", f"SOURCE_DATE_EPOCH={epoch()}", "-t", name, "-"]
    tar = git("archive", "--format=tar", "HEAD")
    environment = os.environ | {"DOCKER_BUILDKIT": "1"}
    done = subprocess.run(["docker", "build", *options], input=tar, env=environment, stdout=sys.stderr, timeout=SECONDS)
    if done.returncode != 0:
        raise ReleaseError(f"the image {name} cannot be built: docker build --target {target} says why")
    return name


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make release", description="Make what is released into dist/.")
    parser.add_argument("--images", nargs="*", choices=IMAGES, default=list(IMAGES), help="targets to build (default: all)")
    parser.add_argument("--tag", help="must be that of the version, such as v0.1.0")
    args = parser.parse_args(arguments)
    try:
        if args.tag:
            check_tag(args.tag)
        for file in write(DIST):
            print(f"{file.relative_to(ROOT)}  {file.stat().st_size:,} bytes")
        if args.images and not has_engine():
            print("no image was built, as no Docker Engine answers")
        else:
            for target in args.images:
                print(build(target))
    except (ReleaseError, RuntimeError, OSError, subprocess.TimeoutExpired) as err:
        print(f"error: {err}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
