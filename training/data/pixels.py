"""Decoded images, (n, height, width, 3) uint8: an array, or OnDisk, which reads those that are asked for."""

import fcntl
import os
import weakref
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from training.errors import StorageError

Array = NDArray[np.uint8]
Rows = NDArray[np.int64]
Shape = tuple[int, int, int]
AT_ONCE = 2**24  # bytes of pixels that are looked at together where all are


class Store(Protocol):
    """Images of one place, by their number."""

    def __len__(self) -> int: ...
    def take(self, rows: Rows) -> Array: ...


class InFile:
    """Images one after the other in a file, which stays open and keeps a shared lock: so others see that it is in use. A file
    that is removed meanwhile can be read to the end."""

    def __init__(self, path: Path, shape: Shape) -> None:
        """Raises OSError."""
        self.path, self.shape = path, shape
        self.size = int(np.prod(shape))
        self.file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self.file)
        with suppress(OSError):  # a file system without locks
            fcntl.flock(self.file, fcntl.LOCK_SH | fcntl.LOCK_NB)

    def __len__(self) -> int:
        return os.fstat(self.file).st_size // self.size

    def take(self, rows: Rows) -> Array:
        """Raises StorageError."""
        found = np.empty((len(rows), *self.shape), np.uint8)
        ends = [*(np.flatnonzero(np.diff(rows) != 1) + 1).tolist(), len(rows)]  # of rows that lie together in the file
        runs = list(zip([0, *ends], ends, strict=False))
        places = (rows[[begin for begin, _ in runs]] * self.size).tolist() if len(rows) else []
        if len(runs) > 1:  # the disk gets all at once
            for (begin, end), place in zip(runs, places, strict=True):
                os.posix_fadvise(self.file, place, (end - begin) * self.size, os.POSIX_FADV_WILLNEED)
        for (begin, end), place in zip(runs, places, strict=False):
            self._read(found[begin:end], place)
        return found

    def _read(self, out: Array, place: int) -> None:
        left = out.reshape(-1).data
        while left:
            try:
                count = os.preadv(self.file, [left], place)
            except OSError as err:
                raise StorageError(
                    f"{self.path} cannot be read: {err.strerror}; remove it, and run the same command again"
                ) from err
            if not count:
                raise StorageError(f"{self.path} was cut off while it was read; remove it, and run the same command again")
            left, place = left[count:], place + count


class InMemory:
    """Images of an array."""

    def __init__(self, pixels: Array) -> None:
        self.pixels = pixels

    def __len__(self) -> int:
        return len(self.pixels)

    def take(self, rows: Rows) -> Array:
        return self.pixels[rows]


class OnDisk:
    """Images that are too many for the memory, used as an array of them is: indexed by image alone, they are read again each
    time. ``index``: which of the images of the stores, numbered through, these are."""

    def __init__(self, stores: Sequence[Store], shape: Shape, index: Rows | None = None) -> None:
        self.stores = tuple(stores)
        self.ends = np.cumsum([len(store) for store in self.stores])
        self.index = np.arange(self.ends[-1]) if index is None else index
        self.shape = (len(self.index), *shape)

    def __len__(self) -> int:
        return len(self.index)

    def __iter__(self) -> Iterator[Array]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, which: Any) -> Array:
        """(height, width, 3) of one image, (n, height, width, 3) of a slice, a list or an array of them."""
        rows = np.asarray(self.index[which])
        found = self._take(np.atleast_1d(rows))
        return found if rows.ndim else found[0]

    def _take(self, rows: Rows) -> Array:
        if len(self.stores) == 1:
            return self.stores[0].take(rows)
        found = np.empty((len(rows), *self.shape[1:]), np.uint8)
        store_of = np.searchsorted(self.ends, rows, "right")
        for s in np.unique(store_of):
            mine = store_of == s
            found[mine] = self.stores[s].take(rows[mine] - (self.ends[s] - len(self.stores[s])))
        return found

    def pick(self, which: Any) -> "OnDisk":
        """Some of them, not read yet."""
        return OnDisk(self.stores, self.shape[1:], self.index[which])


Pixels = Array | OnDisk


def picked(pixels: Pixels, which: Any) -> Pixels:
    """Some images, by a slice, a list or an array."""
    return pixels.pick(which) if isinstance(pixels, OnDisk) else pixels[which]


def joined(first: Pixels, more: Pixels) -> Pixels:
    """Those of both, one after the other; what is not in memory stays where it is."""
    if not isinstance(first, OnDisk) and not isinstance(more, OnDisk):
        return np.concatenate([first, more])
    left, right = (p if isinstance(p, OnDisk) else OnDisk([InMemory(p)], p.shape[1:]) for p in (first, more))
    index = np.concatenate([left.index, right.index + left.ends[-1]])
    return OnDisk([*left.stores, *right.stores], left.shape[1:], index)


def chunks(pixels: Pixels) -> Iterator[Array]:
    """All of them in their order, AT_ONCE bytes at a time."""
    step = max(1, AT_ONCE // int(np.prod(pixels.shape[1:])))
    yield from (pixels[begin : begin + step] for begin in range(0, len(pixels), step))
