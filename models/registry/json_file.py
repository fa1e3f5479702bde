"""Small JSON files of the store that several processes read while one replaces them: each is whole at any moment."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import msgspec

from models import files
from models.errors import PackageError
from models.package import manifest as manifests

T = TypeVar("T")


def read(path: Path, kind: type[T], way_out: str) -> T | None:
    """What a file says; None where there is none. Raises PackageError, which ends with ``way_out``, where it is damaged."""
    data = b""
    try:
        data = files.read(path, files.MAX_TEXT_BYTES)
        return msgspec.json.decode(data, type=kind)
    except FileNotFoundError:
        return None
    except OSError as err:
        raise PackageError(f"{path} cannot be read: {err.strerror or err}; {way_out}") from err
    except PackageError as err:
        raise PackageError(f"{path} is damaged: {err}; {way_out}") from err
    except manifests.UNREADABLE as err:
        raise PackageError(f"{path} is damaged: {manifests.explain(err, data)}; {way_out}") from err


def write(path: Path, data: bytes) -> None:
    """Replace a file by one rename, once the disk holds what it shall be."""
    handle, beside = tempfile.mkstemp(prefix=f".{path.stem}-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(beside, 0o644)
        os.replace(beside, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(beside)
        raise
    files.sync(path.parent)
