"""The images of a part decoded: in memory, or where they would take too much of it, in a folder on the disk that later calls
find again.

Such a folder is called by what it was made from: the code that decodes, the size, and the stamp of every file (data.json
has the same). It is written under another name and renamed once it is whole. One process writes at a time; what others left half
done is removed, and where the disk lacks room, what nobody uses, the longest unused first.
"""

import errno
import fcntl
import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray
from tqdm import tqdm

from models import files as model_files
from models.errors import ImageError
from models.image.fingerprint import fingerprint
from models.image.preprocess import decode, fit
from models.image.spec import InputSpec
from models.package.held_out_answers import identity
from training import files
from training.data import memory
from training.data.near_duplicates import SIDE, small_copy
from training.data.parallel import in_threads
from training.data.pixels import InFile, OnDisk, Pixels
from training.data.sources.source import Part, reason
from training.errors import DataError

FOLDER = ".decoded"  # beside the folder of a run
SHARE = 0.25  # of the memory, that the images of a part may take: a split copies them, and there may be others to test on
PIXELS, ABOUT = "pixels", "about.json"  # of a folder: the pixels as they are, and
ARRAYS = "small.npy", "identities.npy"
DEFAULT = Path("runs") / FOLDER  # of what is done without a run
_beside: ContextVar[Path | None] = ContextVar("beside", default=None)


class About(Struct, frozen=True):
    """What a folder holds. place: what messages call the images; reasons: why an image has no pixels, "" where it has."""

    place: str
    height: int
    width: int
    reasons: list[str]


class Decoded(NamedTuple):
    """One entry for each item of a part, whatever stands there for those that have a reason. pixels: (n, height, width, 3) uint8;
    small: (n, SIDE, SIDE) uint8; identities: (n,) uint64; reasons: why an image could not be decoded, "" where it was."""

    pixels: Pixels
    small: NDArray[np.uint8]
    identities: NDArray[np.uint64]
    reasons: list[str]


@contextmanager
def beside(run: Path) -> Generator[None]:
    """Within it, images that are too many for the memory lie beside the folder ``run``, unless an outer call says where."""
    token = _beside.set(_beside.get() or Path(os.path.abspath(run)).parent / FOLDER)
    try:
        yield
    finally:
        _beside.reset(token)


def decoded(part: Part, spec: InputSpec) -> Decoded:
    """Raises DataError where neither memory nor disk holds them, StorageError where the disk cannot be written to."""
    n, shape = len(part.items), (spec.height, spec.width, 3)
    if _size(part, spec) > SHARE * memory.limit():
        return _on_disk(part, spec, _beside.get() or DEFAULT)
    pixels = np.empty((n, *shape), np.uint8)
    return _decode(part, spec, pixels.__setitem__)[0]._replace(pixels=pixels)


def _size(part: Part, spec: InputSpec) -> int:
    return len(part.items) * spec.height * spec.width * 3


def _decode(part: Part, spec: InputSpec, put: Callable[[int, NDArray[np.uint8]], object]) -> tuple[Decoded, bool]:
    """Give the pixels of each image to ``put``; what else there is, without pixels, and whether it would be so again: not
    where a file could not be read."""
    n = len(part.items)
    small, identities = np.empty((n, SIDE, SIDE), np.uint8), np.empty(n, np.uint64)

    def read(i: int) -> tuple[str, bool]:
        try:
            file = part.items[i].read()
            stored = decode(file, spec=spec)
            pixels, small[i], identities[i] = fit(stored, spec), small_copy(stored), identity(file)
        except (ImageError, OSError) as err:
            return reason(err) or type(err).__name__, not isinstance(err, OSError)
        put(i, pixels)  # what goes wrong there is not the image's fault
        return "", True

    found = list(in_threads(read, n, f"decode {part.place}"))
    without = np.empty((0, spec.height, spec.width, 3), np.uint8)
    return Decoded(without, small, identities, [why for why, _ in found]), all(lasting for _, lasting in found)


def _on_disk(part: Part, spec: InputSpec, folder: Path) -> Decoded:
    entry = folder / _key(part, spec)
    if (found := _opened(entry)) is not None:
        return found
    with files.told(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            if (found := _opened(entry)) is not None:  # another process has made it meanwhile
                return found
            for left in folder.glob(f"{files.BESIDE}*"):  # by a process that was killed
                shutil.rmtree(left, ignore_errors=True)
            shutil.rmtree(entry, ignore_errors=True)  # it is damaged
            _make_room(part, spec, folder)
            return _make(part, spec, entry)


@contextmanager
def _alone(folder: Path) -> Generator[None]:
    """Until no other process writes into ``folder``, and then none but this one."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _key(part: Part, spec: InputSpec) -> str:
    place = os.path.realpath(part.place) if os.path.exists(part.place) else part.place
    digest = hashlib.sha256(f"{fingerprint(spec)} {SIDE} {place}".encode("utf-8", "surrogateescape"))
    for item in part.items:
        try:
            stamp = f"{identity(item.read()):016x}" if item.stamp is None else item.stamp()
        except OSError:
            stamp = ""
        digest.update(f"\0{item.path}\0{stamp}".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:32]


def _opened(entry: Path) -> Decoded | None:
    """What ``_make`` made; None where there is none, or none that is whole."""
    try:
        about = msgspec.json.decode((entry / ABOUT).read_bytes(), type=About)
        small, identities = (np.load(entry / name, allow_pickle=False) for name in ARRAYS)
        store = InFile(entry / PIXELS, (about.height, about.width, 3))
        os.utime(entry)  # when it was used last
    except (OSError, ValueError, EOFError, msgspec.DecodeError):
        return None
    if not len(store) == len(small) == len(identities) == len(about.reasons):
        return None
    return Decoded(OnDisk([store], store.shape), small, identities, about.reasons)


def _make(part: Part, spec: InputSpec, entry: Path) -> Decoded:
    """Decode into the folder ``entry``, which is not left behind where a file could not be read: that may be otherwise the next
    time."""
    n, size = len(part.items), spec.height * spec.width * 3
    tqdm.write(f"{_told(part, spec)}: they are kept in {entry}", file=sys.stderr)
    beside = entry.with_name(f"{files.BESIDE}{entry.name}")
    beside.mkdir()
    try:
        with (beside / PIXELS).open("wb", buffering=0) as file:
            file.truncate(n * size)

            def put(i: int, pixels: NDArray[np.uint8]) -> None:
                left, place = np.ascontiguousarray(pixels).reshape(-1).data, i * size
                while left:
                    count = os.pwrite(file.fileno(), left, place)
                    left, place = left[count:], place + count

            found, lasting = _decode(part, spec, put)
        for name, values in zip(ARRAYS, (found.small, found.identities), strict=True):
            np.save(beside / name, values)
        (beside / ABOUT).write_bytes(msgspec.json.encode(About(part.place, spec.height, spec.width, found.reasons)))
        if lasting:
            for path in beside.iterdir():
                model_files.sync(path)
            beside.rename(entry)
            model_files.sync(entry.parent)
        store = InFile((entry if lasting else beside) / PIXELS, (spec.height, spec.width, 3))
    except OSError as err:
        if err.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        shutil.rmtree(beside, ignore_errors=True)
        raise _no_room(part, spec, entry.parent) from err
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return found._replace(pixels=OnDisk([store], store.shape))


def _make_room(part: Part, spec: InputSpec, folder: Path) -> None:
    """Raises DataError where there is too little, with what nobody uses removed."""
    needed = _size(part, spec) + len(part.items) * (SIDE**2 + 8)
    unused = sorted((path for path in folder.iterdir() if not _is_used(path)), key=lambda path: path.stat().st_mtime_ns)
    while needed > shutil.disk_usage(folder).free:
        if not unused:
            raise _no_room(part, spec, folder)
        shutil.rmtree(unused.pop(0), ignore_errors=True)


def _is_used(entry: Path) -> bool:
    """Whether a process reads it."""
    with suppress(OSError), (entry / PIXELS).open("rb") as file:
        return not model_files.lock(file.fileno())
    return False


def _no_room(part: Part, spec: InputSpec, folder: Path) -> DataError:
    free = shutil.disk_usage(folder).free / 2**30
    return DataError(
        f"{_told(part, spec)}, and {folder}, where they would be kept, has {free:.1f} GiB free: "
        "make room there, put the run (--out) on another disk, lower input.height and input.width, or take fewer images"
    )


def _told(part: Part, spec: InputSpec) -> str:
    limit = memory.limit()
    return (
        f"the {len(part.items)} images of {part.place} take {_size(part, spec) / 2**30:.1f} GiB at {spec.height}x{spec.width} "
        f"pixels, this machine has {limit / 2**30:.1f} GiB of memory, of which they may take {SHARE * limit / 2**30:.1f}"
    )
