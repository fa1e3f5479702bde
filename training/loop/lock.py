"""One process at a time trains into a folder. The system lets go of the lock when the process ends, however it does."""

import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from models import files
from training.errors import CheckpointError
from training.loop.checkpoint import SIDECAR

FILE = ".lock"  # holds the number of the process


@contextmanager
def held(folder: Path) -> Generator[None]:
    """Hold ``folder``, which is made where it is missing, and removed again where nothing came of it.

    Raises:
        CheckpointError: another process trains into it, or it cannot be written to.
    """
    new = not folder.exists()
    try:
        file = _locked(folder)
    except BlockingIOError as err:
        holder = (folder / FILE).read_text() or "unknown"
        raise CheckpointError(f"process {holder} trains into {folder}: wait for it, stop it, or choose another --out") from err
    except OSError as err:
        raise CheckpointError(f"{folder} cannot be written to ({err.strerror}): choose another --out") from err
    try:
        yield
    finally:
        if new and not (folder / SIDECAR).exists():
            (folder / FILE).unlink(missing_ok=True)
            with suppress(OSError):  # it holds something else
                folder.rmdir()
        os.close(file)


def _locked(folder: Path) -> int:
    """Descriptor of the lock file, locked; raises BlockingIOError when another process holds it."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        file = os.open(folder / FILE, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if not files.lock(file):
                raise BlockingIOError
            if os.fstat(file).st_nlink:  # else the process that held it before has removed it meanwhile
                os.ftruncate(file, 0)
                os.write(file, str(os.getpid()).encode())
                return file
        except OSError:
            os.close(file)
            raise
        os.close(file)
