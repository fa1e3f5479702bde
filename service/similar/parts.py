"""Many byte strings in one file, found by their number: names, thumbnails.

The strings one after another, then where each begins and where the last one ends: n + 1 little-endian 64-bit numbers.
"""

import mmap
from array import array
from collections.abc import Callable
from io import BufferedReader

import numpy as np

from service.similar.manifest import IndexFault


class PartsWriter:
    """write: appends bytes to the file."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self.write = write
        self.ends = array("Q", [0])

    def append(self, part: bytes) -> None:
        self.write(part)
        self.ends.append(self.ends[-1] + len(part))

    def finish(self) -> None:
        """Nothing can be appended afterwards."""
        self.write(np.asarray(self.ends, "<u8").tobytes())


class Parts:
    """Those of an open file, mapped into memory; ``n`` of them. Raises IndexFault where the file holds others."""

    def __init__(self, file: BufferedReader, n: int) -> None:
        size = file.seek(0, 2)
        table = 8 * (n + 1)
        if size < table:
            raise IndexFault(f"{file.name} has {size:,} bytes, too few for {n:,} entries")
        self.data = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
        self.ends = np.frombuffer(self.data, "<u8", n + 1, size - table).astype(np.int64)
        if self.ends[0] or self.ends[-1] != size - table or (np.diff(self.ends) < 0).any():
            raise IndexFault(f"{file.name} does not say where its {n:,} entries are")

    def __len__(self) -> int:
        return len(self.ends) - 1

    def __getitem__(self, number: int) -> bytes:
        return self.data[self.ends[number] : self.ends[number + 1]]
