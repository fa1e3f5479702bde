"""Arrays from a .npz file that others may have made: bounded before it is unpacked, and no objects among them."""

from collections.abc import Iterable
from io import BytesIO
from typing import Any
from zipfile import ZipFile

import numpy as np
from numpy.typing import NDArray


def unpack(data: bytes, names: Iterable[str], limit: int) -> dict[str, NDArray[Any]]:
    """The arrays of these names, of a file that unpacks to at most ``limit`` bytes.

    Raises:
        ValueError: it unpacks to more, or an array is of objects.
        Exception: NumPy's and zipfile's own, which share no base: it is damaged, or lacks a name.
    """
    with ZipFile(BytesIO(data)) as archive:
        size = sum(member.file_size for member in archive.infolist())
    if size > limit:
        raise ValueError(f"{size} bytes unpacked, at most {limit}")
    with np.load(BytesIO(data), allow_pickle=False) as found:
        return {name: found[name] for name in names}
