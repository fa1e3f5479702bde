"""Files -> the pixels of those that are images, by the service's decoder and within its limits."""

import threading
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from models.image.limits import Limits
from models.image.preprocess import Pixels
from models.image.spec import InputSpec
from service.bulk.errors import Failure, told
from service.bulk.item import Item
from service.inference.decode import decode, inspect
from service.inference.decode_queue import SMALL_BYTES, SMALL_PIXELS, weigh

R = TypeVar("R")


@dataclass(frozen=True)
class Decoded:
    """pixels: (n, height, width, 3) uint8, of the items that could be decoded. failures: one for each item, None where its
    pixels are the next row."""

    pixels: Pixels
    failures: list[Failure | None]

    def merge(self, rows: Iterable[R]) -> list[R | Failure]:
        """One for each item: what was computed of its row of pixels, or why it has none."""
        given = iter(rows)
        return [next(given) if failure is None else failure for failure in self.failures]


class Decoder:
    """Called in several threads at a time, with the items of a part each.

    max_file_bytes: of one file. max_bytes: of memory that large images may take together while they are decoded.
    """

    def __init__(self, spec: InputSpec, limits: Limits, max_file_bytes: int, max_bytes: int) -> None:
        self.spec = spec
        self.limits = limits
        self.max_file_bytes = max_file_bytes
        self.memory = Memory(max_bytes)

    def __call__(self, items: Sequence[Item]) -> Decoded:
        pixels = np.empty((len(items), self.spec.height, self.spec.width, 3), np.uint8)
        failures: list[Failure | None] = []
        n = 0
        for item in items:
            try:
                pixels[n] = self._decode(item.source.read(self.max_file_bytes))
                n += 1
                failures.append(None)
            except Exception as err:  # whatever is wrong with one file, the others are answered
                failures.append(told(err))
        return Decoded(pixels[:n], failures)

    def _decode(self, data: bytes) -> Pixels:
        header = inspect(data, self.limits)
        if header.pixels <= SMALL_PIXELS and len(data) <= SMALL_BYTES:
            return decode(data, self.spec, self.limits, header)
        with self.memory.taken(weigh(data, header, self.spec)[2]):
            return decode(data, self.spec, self.limits, header)


class Memory:
    """Bytes that several threads share; what needs more than there is gets all, alone."""

    def __init__(self, most: int) -> None:
        self.most = self.left = most
        self.changed = threading.Condition()

    @contextmanager
    def taken(self, size: int) -> Generator[None]:
        size = min(size, self.most)
        with self.changed:
            self.changed.wait_for(lambda: self.left >= size)
            self.left -= size
        try:
            yield
        finally:
            with self.changed:
                self.left += size
                self.changed.notify_all()
