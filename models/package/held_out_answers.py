"""answers.npz: what a graph answered for each held-out image, so that two versions can be compared image by image."""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.errors import PackageError
from models.package import npz
from models.package.probability import softmax

MAX_BYTES = 2**28  # unpacked; 13 million images
UNKNOWN = -1  # target of an image whose class is none of the model's


class Answers(NamedTuple):
    """n images: which (uint64, ``identity``), its class and the one answered (int32, indices into the labels), and the
    probability of the answer (float32)."""

    image: NDArray[np.uint64]
    target: NDArray[np.int32]
    predicted: NDArray[np.int32]
    probability: NDArray[np.float32]

    def top1(self) -> float:
        """Share of right answers."""
        return float((self.predicted == self.target).mean())


def identity(data: bytes) -> int:
    """What an image is known by: the first 8 bytes of the SHA-256 of its file, as a number."""
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "big")


def of_logits(images: NDArray[np.uint64], targets: NDArray[Any], logits: NDArray[np.float32], temperature: float = 1) -> Answers:
    """Answers that logits (n, classes) mean, as the service reads them."""
    predicted = logits.argmax(axis=1)
    probability = softmax(logits, temperature)[np.arange(len(logits)), predicted]
    return Answers(images, targets.astype(np.int32), predicted.astype(np.int32), probability.astype(np.float32))


def write(path: Path, answers: Answers) -> None:
    """Write them, compressed."""
    np.savez_compressed(path, **answers._asdict())


def read(data: bytes, classes: int, path: Path) -> Answers:
    """What ``write`` wrote for a network of that many classes; ``path`` is for the message. Raises PackageError."""
    try:
        answers = Answers(**npz.unpack(data, Answers._fields, MAX_BYTES))
        _check(answers, classes)
    except Exception as err:  # NumPy's and zipfile's own classes share no base
        raise PackageError(f"{path} does not hold answers for {classes} classes: {err}; publish the package again") from err
    return answers


def _check(answers: Answers, classes: int) -> None:
    kinds = {name: (array.dtype.name, array.ndim, len(array)) for name, array in answers._asdict().items()}
    n = len(answers.image)
    names = ("uint64", "int32", "int32", "float32")
    if not n or list(kinds.values()) != [(name, 1, n) for name in names]:
        raise ValueError(f"its arrays are {kinds}")
    if answers.target.min() < UNKNOWN or answers.predicted.min() < 0:
        raise ValueError("a class is below 0")
    if max(answers.target.max(), answers.predicted.max()) >= classes:
        raise ValueError("a class is beyond the last label")
    if not ((answers.probability >= 0) & (answers.probability <= 1)).all():
        raise ValueError("a probability is not between 0 and 1")
