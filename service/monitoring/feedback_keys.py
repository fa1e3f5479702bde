"""The keys that sign answers: read from HUBEL_FEEDBACK_KEY_FILE, or made and kept where the service may write.

All processes of a service have the same: the supervisor finds them and hands them to its workers.
"""

import logging
import os
import secrets
import stat
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from models import files
from service.settings import Settings

VARIABLE = "HUBEL_SIGNING_KEYS"  # how the supervisor hands them to a worker, in hex; not a setting
NAME = ".feedback-key"  # of the file that is made
MADE_BYTES = 32
MIN_CHARACTERS, MAX_CHARACTERS = 32, 1024  # of a key
MAX_KEYS = 16
MAX_BYTES = 2 * MAX_KEYS * MAX_CHARACTERS
log = logging.getLogger("hubel")


class FeedbackKeyError(Exception):
    """A file of keys that cannot be used; ``str()`` names the file and the fault, and nothing of a key."""


def read(file: Path) -> tuple[bytes, ...]:
    """The keys of a file, a line each; the first one signs. Raises FeedbackKeyError."""
    try:
        return _read(file)
    except OSError as err:
        raise FeedbackKeyError(f"{file} cannot be read: {err.strerror}; HUBEL_FEEDBACK_KEY_FILE names it") from err


def _read(file: Path) -> tuple[bytes, ...]:
    """Raises FeedbackKeyError, OSError."""
    mode = file.stat().st_mode
    if not stat.S_ISREG(mode):
        raise FeedbackKeyError(f"{file} is no file; HUBEL_FEEDBACK_KEY_FILE must name one")
    if mode & (stat.S_IWOTH | stat.S_IWGRP):
        raise FeedbackKeyError(f"{file} can be written by others, who could then forge answers: chmod go-w {file}")
    with open(file, "rb") as opened:
        data = opened.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise FeedbackKeyError(f"{file} has more than {MAX_BYTES} bytes; it holds a key a line, {MAX_KEYS} at most")
    return _parse(data, file)


def _parse(data: bytes, file: Path) -> tuple[bytes, ...]:
    lines = [line.strip() for line in data.splitlines()]
    keys = [(number, line) for number, line in enumerate(lines, 1) if line]
    if not 1 <= len(keys) <= MAX_KEYS:
        raise FeedbackKeyError(f"{file} holds {len(keys)} keys, it must hold 1 to {MAX_KEYS}, one a line")
    for number, key in keys:
        if not MIN_CHARACTERS <= len(key) <= MAX_CHARACTERS:
            raise FeedbackKeyError(
                f"line {number} of {file} has {len(key)} characters, a key has {MIN_CHARACTERS} to {MAX_CHARACTERS}; "
                "'openssl rand -hex 32' makes one"
            )
    return tuple(key for _, key in keys)


def find(config: Settings, environment: Mapping[str, str] = os.environ) -> tuple[bytes, ...]:
    """The keys of the supervisor, else those of the file that the settings name, else one that is kept, else one for as long
    as this process lives. Raises FeedbackKeyError."""
    if handed := environment.get(VARIABLE):
        return tuple(map(bytes.fromhex, handed.split(",")))
    if config.feedback_key_file:
        return read(Path(config.feedback_key_file))
    path = Path(config.feedback_dir or config.store) / NAME
    try:
        return _read(_keep(path))
    except OSError as err:
        log.warning(
            "feedback on answers is taken until the service stops, by this one alone: no key can be kept in %s (%s); set "
            "HUBEL_FEEDBACK_KEY_FILE to a file with one ('openssl rand -hex 32' makes it)",
            path.parent,
            err.strerror,
        )
        return (_make(),)


def hand_on(keys: Sequence[bytes]) -> str:
    """What VARIABLE is set to for the processes of this one."""
    return ",".join(key.hex() for key in keys)


def _make() -> bytes:
    return secrets.token_hex(MADE_BYTES).encode()


def _keep(path: Path) -> Path:
    """The file, made where it is not there; of several that make it at once, one does. Raises OSError."""
    if path.exists():
        return path
    handle, beside = tempfile.mkstemp(prefix=f"{NAME}-", dir=path.parent)  # of mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(_make() + b"\n")
            file.flush()
            os.fsync(handle)
        with suppress(FileExistsError):
            os.link(beside, path)
    finally:
        os.unlink(beside)
    files.sync(path.parent)
    return path
