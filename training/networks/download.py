"""A file of weights that others publish, in torch.hub's folder: found there, or brought there over the network."""

import hashlib
import re
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO
from urllib.request import urlopen

import torch
from tqdm import tqdm

from models import files
from training.errors import CheckpointError

HASH = re.compile(r"-([0-9a-f]{8,64})\.pth$")  # the beginning of the SHA-256, by the custom of torch.hub
SECONDS = 30  # without a byte
CHUNK = 2**20


def folder() -> Path:
    """Where torch.hub keeps such files; TORCH_HOME moves it."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def fetch(url: str) -> Path:
    """The file of that address; downloaded whole or not at all.

    Raises:
        CheckpointError: it is neither there nor can be downloaded, or is not what its name says.
    """
    name = url.rsplit("/", 1)[-1]
    path = folder() / name
    if not path.is_file():
        try:
            _download(url, path)
        except (OSError, HTTPException) as err:
            found = HASH.search(name)
            whole = f" (its SHA-256 begins with {found[1]})" if found else ""
            raise CheckpointError(
                f"{name} is not in {path.parent} and could not be downloaded: {' '.join(str(err).split())}. Bring {url}{whole} "
                f"into that folder by other means, or give its place with --weights FILE"
            ) from err
    check_name(path)
    return path


def _download(url: str, path: Path) -> None:
    def fill(file: BinaryIO) -> None:
        digest, size = hashlib.sha256(), int(answer.headers.get("Content-Length", 0))
        with tqdm(total=size, desc=path.name, unit="B", unit_scale=True, leave=False) as bar:
            while chunk := answer.read(CHUNK):
                file.write(chunk)
                digest.update(chunk)
                bar.update(len(chunk))
        if not is_named(digest.hexdigest(), path):
            raise OSError("what arrived is not the file of that name")

    path.parent.mkdir(parents=True, exist_ok=True)
    with urlopen(url, timeout=SECONDS) as answer:
        files.write_atomic(path, fill, prefix=".download-")


def sha256(path: Path) -> str:
    """Of a file that may be a link, as a user's own may be, and may have any size; files.sha256 refuses both."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_named(digest: str, path: Path) -> bool:
    """Whether a SHA-256 begins with the hash in the name of the file, if there is one."""
    named = HASH.search(path.name)
    return named is None or digest.startswith(named[1])


def check_name(path: Path) -> None:
    """Raises CheckpointError when the file is not what its name says."""
    if not is_named(digest := sha256(path), path):
        raise CheckpointError(
            f"{path} is damaged or another file: its SHA-256 begins with {digest[:8]}, which is not the one in its name; "
            "remove it and fetch it again"
        )
