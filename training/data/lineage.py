"""What a run has trained on and held out, by the identities of the images, so that whoever goes on from it keeps them apart."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Identities = NDArray[np.uint64]  # models.package.held_out_answers.identity of files
STORED = ">u8"


class Past(NamedTuple):
    """trained: what the weights have seen, in this run and in those that it started from. held_out: what was validated on.
    Each identity once, ascending, 8 bytes an identity, as a checkpoint holds them."""

    trained: bytes = b""
    held_out: bytes = b""

    def __bool__(self) -> bool:
        return bool(self.held_out)

    def has_trained(self, images: Identities) -> NDArray[np.bool_]:
        """Which of the images were trained on."""
        return np.isin(images, unpack(self.trained))

    def has_held_out(self, images: Identities) -> NDArray[np.bool_]:
        """Which of the images were validated on."""
        return np.isin(images, unpack(self.held_out))


def past_of(trained: Identities, held_out: Identities) -> Past:
    return Past(pack(trained), pack(held_out))


def pack(identities: Identities) -> bytes:
    return np.unique(identities).astype(STORED).tobytes()


def unpack(stored: bytes) -> Identities:
    return np.frombuffer(stored, STORED).astype(np.uint64)
