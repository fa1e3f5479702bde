"""Which folder a run of some data lies in: NAME, and for data that changed since NAME/2, NAME/3 and so on, each of one state of
the data alone.
"""

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import NamedTuple

from training.data import contents, dataset
from training.data.contents import Changes, Contents, Listed
from training.errors import CheckpointError, DataError
from training.loop import checkpoint as checkpoints
from training.loop import legacy_split
from training.loop.checkpoint import SIDECAR, Checkpoint


class Place(NamedTuple):
    """Where a run lies. now: the contents of its data, of a run that was begun; changes: since it was, of the test images alone.
    latest: the run before, where the data changed since; how: what is to be said of that."""

    folder: Path
    now: Contents | None = None
    changes: Changes = Changes()
    latest: Path | None = None
    how: str = ""


def numbered(folder: Path) -> Iterator[Path]:
    """The folders of all runs that may lie there, in their order."""
    yield folder
    yield from (folder / str(number) for number in count(2))


def find(source: str | Path, folder: Path, listed: Listed) -> Place:
    """The run in ``folder`` or below it that is of the data as they are now, or the place of a new one; raises CheckpointError
    where a run cannot be read."""
    latest, how = None, ""
    for place in numbered(folder):
        if not (place / SIDECAR).is_file():
            return Place(place, latest=latest, how=how)
        before = contents.read(place)
        if before is None:
            if (now := _noted(source, checkpoints.load(place)[0], listed)) is not None:
                return Place(place, now)
            how = "other images"
        else:
            changes, now = contents.compare(before, listed)
            if not changes.need_training:
                return Place(place, now, changes)
            how = str(changes)
        latest = place
    raise AssertionError


def _noted(source: str | Path, checkpoint: Checkpoint, listed: Listed) -> Contents | None:
    """The contents of ``source`` where its images, which are decoded for it, are those of a checkpoint that lacks them."""
    try:
        trained, validation = legacy_split.load(source, checkpoint)
    except (CheckpointError, DataError):
        return None
    wanted = checkpoint.data["training_sha256"], checkpoint.data["validation_sha256"]
    is_it = (dataset.fingerprint(trained), dataset.fingerprint(validation)) == wanted
    return contents.note(listed, trained, validation) if is_it else None
