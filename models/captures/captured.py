"""Images kept for the next training, with what was answered and what people said of it: a folder that several processes share.

FOLDER/images/SHA256.ENDING holds the bytes as they came, each once; FOLDER/answers/CLIENT~ID.INDEX.json an answer each.
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

from models import files
from models.errors import ImageError
from models.image.header import read_header

IMAGES, ANSWERS = "images", "answers"
ANSWER_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
BESIDE = ".new-"  # begins the name of a file that is being written; what is left there is removed later
WITHDRAWN = ".withdrawn"
ENDINGS = {"jpeg": "jpg", "png": "png", "webp": "webp"}


class CapturedAnswer(Struct, frozen=True):
    """One answer, and the feedback on it. ``image``: the name of its file. ``client``: the name of its key, or nothing.
    ``right``: whether people said that the answer is right; ``given``: the label that they gave."""

    answer_id: str = msgspec.field(name="request_id")
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
    novelty: float | None = None  # None where the model does not tell


def prepare(folder: Path) -> None:
    """Make the folder, for this user alone, where it is not there; raises OSError where nothing can be written to it."""
    for place in (folder, folder / IMAGES, folder / ANSWERS):
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe = place / f"{BESIDE}{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()


def mend(folder: Path) -> None:
    """Make what belongs into the folder where it came back empty. Raises OSError where the folder itself is not there: what
    was mounted may have gone, and nothing is written below its place then."""
    for place in (folder / IMAGES, folder / ANSWERS):
        place.mkdir(mode=0o700, exist_ok=True)


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


def answer_path(folder: Path, client: str, answer_id: str, index: int) -> Path:
    return folder / ANSWERS / answer_name(client, answer_id, index)


def answer_name(client: str, answer_id: str, index: int) -> str:
    return f"{client}~{answer_id}.{index}.json"


def read_name(name: str) -> tuple[str, str, int] | None:
    """Client, answer's id and index in it, from the name of its file; None where it is no such name.

    No client has a ~ in it and no index a dot, so no two answers have one name, and an id may end like an index.
    """
    client, tilde, rest = name.removesuffix(".json").partition("~")
    answer_id, dot, index = rest.rpartition(".")
    if not (name.endswith(".json") and tilde and dot and index.isascii() and index.isdigit()):
        return None
    return client, answer_id, int(index)


def write_image(folder: Path, name: str, data: bytes) -> bool:
    """Keep an image under its name; False where it is there already. Raises OSError."""
    path = folder / IMAGES / name
    try:
        os.utime(path)  # it is wanted again: what clears up leaves new files alone
    except FileNotFoundError:
        _write(path, data)
        return True
    return False


def write_answer(folder: Path, kept: CapturedAnswer) -> bool:
    """Write an answer, or write it again; False, and nothing is left, where it was deleted since it was given. Raises OSError."""
    path = answer_path(folder, kept.client, kept.answer_id, kept.index)
    _write(path, msgspec.json.encode(kept))
    try:
        withdrawn = _withdrawal(folder, kept.client, kept.answer_id).stat().st_mtime
    except FileNotFoundError:
        return True
    if kept.time.timestamp() > withdrawn:
        return True
    path.unlink(missing_ok=True)
    return False


def read_answer(path: Path) -> CapturedAnswer | None:
    """None where it is gone or damaged."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=CapturedAnswer)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def read_all(folder: Path) -> Iterator[CapturedAnswer]:
    """All answers whose image is there, in the order of their names."""
    for path in sorted((folder / ANSWERS).glob("*.json")):
        kept = read_answer(path)
        if kept and (folder / IMAGES / kept.image).is_file():
            yield kept


def withdraw(folder: Path, client: str, answer_id: str) -> None:
    """Have what is still on its way to the folder, of an answer given before now, not stay there. Raises OSError."""
    path, now = _withdrawal(folder, client, answer_id), time.time()
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
    os.utime(path, (now, now))  # the file system's own clock may be some milliseconds behind that of the answers


def _withdrawal(folder: Path, client: str, answer_id: str) -> Path:
    return folder / ANSWERS / f"{client}~{answer_id}{WITHDRAWN}"


def _write(path: Path, data: bytes) -> None:
    """Not made durable: an answer that a power cut damages is skipped, and no request waits for the disk."""
    files.write_atomic(path, data, prefix=BESIDE, mode=0o600, durable=False)
