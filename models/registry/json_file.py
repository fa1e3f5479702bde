"""Small JSON files of the store, which several processes read while one replaces them."""

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
