"""Files of a run that are whole or not there: written beside their place and renamed into it, with an error in words."""

import shutil
import tempfile
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from models import files
from training.errors import StorageError

BESIDE = ".new-"


@contextmanager
def told(place: Path) -> Generator[None]:
    """Raises StorageError for an OSError of what is written to ``place``."""
    try:
        yield
    except OSError as err:
        raise StorageError(
            f"{place} cannot be written: {err.strerror or err}; what was there before stays. Make room, or let it be written to, "
            "and run the same command again"
        ) from err


@contextmanager
def whole(*paths: Path) -> Generator[list[Path]]:
    """Files to write; once all are, and on the disk, they take the places of ``paths``. Raises StorageError."""
    with told(paths[0]), ExitStack() as stack:
        beside = [path.with_name(f"{BESIDE}{path.name}") for path in paths]
        for path in beside:
            stack.callback(path.unlink, missing_ok=True)
        yield beside
        _sync(beside)
        for new, path in zip(beside, paths, strict=True):
            new.replace(path)


@contextmanager
def staged(folder: Path, made: tuple[str, ...], last: str) -> Generator[Path]:
    """A folder to write files in; once all are written, and on the disk, they take the places of those called ``made`` in
    ``folder``, and ``last`` comes last. Raises StorageError."""
    with told(folder):
        beside = Path(tempfile.mkdtemp(prefix=BESIDE, dir=folder))
        try:
            yield beside
            found = sorted(beside.iterdir(), key=lambda path: (path.name == last, path.name))
            _sync(found)
            for name in {*made, last} - {path.name for path in found}:
                (folder / name).unlink(missing_ok=True)
            for path in found:
                path.replace(folder / path.name)
        finally:
            shutil.rmtree(beside, ignore_errors=True)


def _sync(paths: list[Path]) -> None:
    """Have the disk hold them: some say only then that they are full."""
    for path in paths:
        files.sync(path)
