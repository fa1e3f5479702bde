"""Images kept for the next training, with what was answered and what people said of it: a folder that several processes share.

FOLDER/images/SHA256.ENDING holds the bytes as they came, each once; FOLDER/answers/CLIENT~REQUEST.INDEX.json an answer each.
Neighbours: service/keep.py writes and bounds it, training/feedback.py makes training images of it.
"""

import hashlib
import os
import re
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import msgspec
from msgspec import Struct

from models.errors import ImageError
from models.header import read_header

IMAGES, ANSWERS = "images", "answers"
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
BESIDE = ".new-"  # begins the name of a file that is being written
WITHDRAWN = ".withdrawn"
ENDINGS = {"jpeg": "jpg", "png": "png", "webp": "webp"}


class Kept(Struct, frozen=True):
    """One answer, and the feedback on it. ``image``: the name of its file. ``client``: the name of its key, or nothing.
    ``right``: whether people said that the answer is right; ``given``: the label that they gave."""

    request_id: str
    index: int
    client: str
    image: str
    model: str
    version: int
    label: str
    probability: float
    unsure: bool
    time: datetime
    right: bool | None = None
    given: str | None = None
    given_at: datetime | None = None


def prepare(folder: Path) -> None:
    """Make the folder, for this user alone, where it is not there; raises OSError where nothing can be written to it."""
    for place in (folder, folder / IMAGES, folder / ANSWERS):
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe = place / f"{BESIDE}{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()


def is_folder(folder: Path) -> bool:
    """Whether it is such a folder."""
    return (folder / IMAGES).is_dir() and (folder / ANSWERS).is_dir()


def image_name(data: bytes) -> str:
    """SHA-256 of the bytes and an ending by their format."""
    try:
        ending = ENDINGS[read_header(data).format]
    except ImageError:  # it was decoded, so this does not happen
        ending = "bin"
    return f"{hashlib.sha256(data).hexdigest()}.{ending}"


def answer_path(folder: Path, client: str, request_id: str, index: int) -> Path:
    return folder / ANSWERS / f"{client}~{request_id}.{index}.json"


def write_image(folder: Path, name: str, data: bytes) -> bool:
    """Keep an image under its name; False where it is there already. Raises OSError."""
    path = folder / IMAGES / name
    try:
        os.utime(path)  # it is wanted again: what clears up leaves new files alone
    except FileNotFoundError:
        _write(path, data)
        return True
    return False


def write_answer(folder: Path, kept: Kept) -> bool:
    """Write an answer, or write it anew; False, and nothing is left, where it was deleted since it was given. Raises OSError."""
    path = answer_path(folder, kept.client, kept.request_id, kept.index)
    _write(path, msgspec.json.encode(kept))
    try:
        withdrawn = _withdrawal(folder, kept.client, kept.request_id).stat().st_mtime
    except FileNotFoundError:
        return True
    if kept.time.timestamp() > withdrawn:
        return True
    path.unlink(missing_ok=True)
    return False


def read_answer(path: Path) -> Kept | None:
    """None where it is gone or damaged."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Kept)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def read_all(folder: Path) -> Iterator[Kept]:
    """All answers whose image is there, in the order of their names."""
    for path in sorted((folder / ANSWERS).glob("*.json")):
        kept = read_answer(path)
        if kept and (folder / IMAGES / kept.image).is_file():
            yield kept


def withdraw(folder: Path, client: str, request_id: str) -> None:
    """Have what is still on its way to the folder not stay there."""
    _withdrawal(folder, client, request_id).write_bytes(b"")


def delete(folder: Path, request_id: str, client: str | None = None) -> int:
    """Delete what is kept of a request, of one client or of all; how many answers that were. An image goes with the last
    answer that refers to it. Raises OSError.
    """
    if not REQUEST_ID.fullmatch(request_id):
        return 0
    known = "*" if client is None else client
    found = [(path, read_answer(path)) for path in (folder / ANSWERS).glob(f"{known}~{request_id}.*.json")]
    found = [(path, kept) for path, kept in found if kept is None or kept.request_id == request_id]
    for path, _ in found:
        withdraw(folder, path.name.partition("~")[0], request_id)
        path.unlink(missing_ok=True)
    images = {kept.image for _, kept in found if kept}
    if images:
        images -= {kept.image for kept in map(read_answer, (folder / ANSWERS).glob("*.json")) if kept}
    for name in images:
        (folder / IMAGES / name).unlink(missing_ok=True)
    return len(found)


def _withdrawal(folder: Path, client: str, request_id: str) -> Path:
    return folder / ANSWERS / f"{client}~{request_id}{WITHDRAWN}"


def _write(path: Path, data: bytes) -> None:
    beside = path.with_name(f"{BESIDE}{os.getpid()}-{time.monotonic_ns()}")
    try:
        handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
