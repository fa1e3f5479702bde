"""Data sets that torchvision knows by name; what is missing is downloaded.

Their pixels become PNG files in memory, so that they go through models.image.preprocess as every image does.
"""

from functools import partial
from hashlib import blake2b
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.data.sources.source import Item, Part, Source, make_part
from training.errors import DataError

SETS = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST", "cifar10": "CIFAR10", "cifar100": "CIFAR100"}  # their classes
DEFAULT_FOLDER = "data"


def open_set(name: str, folder: str) -> Source:
    """Training and test images of the set ``name``, kept in ``folder``, in torchvision's own layout and order.

    Raises:
        DataError: they are not there and cannot be downloaded, or are damaged.
    """
    root = Path(folder or DEFAULT_FOLDER)
    return Source(_part(name, root, train=True), test=_part(name, root, train=False))


def _part(name: str, root: Path, train: bool) -> Part:
    found = _load(name, root, train)
    classes = [label.partition(" - ")[0] for label in found.classes]  # MNIST's "7 - seven" is 7
    place = f"{name}:{root}, {'train' if train else 'test'}"
    pixels, targets = np.asarray(found.data), np.asarray(found.targets)
    items = [
        Item(f"{place} {i:05d}", f"{i:05d}", classes[t], partial(_png, pixels[i]), partial(_digest, pixels[i]))
        for i, t in enumerate(targets)
    ]
    return make_part(place, items, order=classes)


def _kind(name: str) -> Any:
    from torchvision import datasets  # here, so that other data can be looked at without torch

    return getattr(datasets, SETS[name])


def _load(name: str, root: Path, train: bool) -> Any:
    kind = _kind(name)
    try:
        return kind(root, train=train, download=True)  # nothing is downloaded that is there
    except Exception as err:
        why = " ".join(str(err).split()) or type(err).__name__
        raise DataError(
            f"{name} is not in {root} and cannot be downloaded, or is damaged ({why}); place {_files(name, root)} by hand"
        ) from err


def _files(name: str, root: Path) -> str:
    """What to place where, for those whose machine downloads nothing."""
    kind = _kind(name)
    if hasattr(kind, "filename"):  # one file, as CIFAR has; MNIST has several
        return f"{root / kind.filename} ({kind.url})"
    return f"{', '.join(file for file, _ in kind.resources)} (from {kind.mirrors[0]}) into {root / kind.__name__ / 'raw'}"


def _digest(pixels: NDArray[np.uint8]) -> str:
    """Of what is in memory already, which is quicker than to make a file of it."""
    return blake2b(pixels.tobytes(), digest_size=8).hexdigest()


def _png(pixels: NDArray[np.uint8]) -> bytes:
    """(height, width) or (height, width, 3) uint8 -> a PNG file, which loses nothing."""
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=0)
    return file.getvalue()
