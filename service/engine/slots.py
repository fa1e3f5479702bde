"""The memory that a front and an engine share: places for images on their way, each with its pixels, its head and its answer.

The front writes what is asked, the engine what came of it; between them go only the numbers of slots. So an engine that dies
loses nothing: the pixels are still there for the next.
"""

import math
import mmap
import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.image.preprocess import Pixels
from models.image.spec import InputSpec
from models.package.manifest import Manifest
from service.engine.ipc import REASON_CHARS
from service.inference.batcher import Arrays
from service.inference.class_map import CLASS_MAP, FEATURE_MAP, LIKELIEST, shape_of

DONE, FAILED, LATE, GONE, SKIPPED = range(5)  # what came of an image; FAILED: its text says why

ASKED = struct.Struct("<ddBBBi")  # queued, deadline, outputs as bits, lane, strikes, class of a map
ANSWERED = struct.Struct("<ddIIB")  # began, ended, images computed with it, the same if it was the first of these, status
HEAD = 64  # bytes of a slot's head
CANCELLED, COMPUTING, ANSWER = 24, 25, 32  # where the flags and the answer lie in it
COUNT = 4  # bytes of the number of slots, with which a front begins
NUMBER = np.dtype("<u2")  # of a slot, as sent
TEXT = 4 * REASON_CHARS + 100  # bytes of a reason, with the name of its error


def align(size: int, to: int = 64) -> int:
    return -(-size // to) * to


@dataclass(frozen=True)
class Layout:
    """Where things lie in the memory of ``count`` slots: their heads, their pixels, then a row of numbers or a text for each.

    starts: where the numbers of an output begin and end in a row. answers: where the rows begin, stride: their bytes.
    """

    count: int
    spec: InputSpec
    shapes: dict[str, tuple[int, ...]]
    starts: dict[str, tuple[int, int]]
    answers: int
    stride: int

    @classmethod
    def of(cls, count: int, manifest: Manifest) -> "Layout":
        shapes = {name: tuple(shape) for name, shape in manifest.outputs.items() if name != FEATURE_MAP}
        shapes |= {CLASS_MAP: shape} if (shape := shape_of(manifest)) else {}
        starts: dict[str, tuple[int, int]] = {}
        numbers = 0
        for name, shape in shapes.items():
            starts[name] = numbers, numbers + math.prod(shape)
            numbers += math.prod(shape)
        pixels = manifest.input.height * manifest.input.width * 3
        return cls(count, manifest.input, shapes, starts, align(count * (HEAD + pixels)), align(max(4 * numbers, TEXT)))

    @property
    def size(self) -> int:
        return self.answers + self.count * self.stride


class Slots:
    """Those in the memory of ``handle``. Raises ValueError where it is too small for them."""

    def __init__(self, handle: int, layout: Layout) -> None:
        if (size := os.fstat(handle).st_size) < layout.size:
            raise ValueError(f"{layout.count} slots take {layout.size} bytes, the memory has {size}")
        self.layout = layout
        self.names = list(layout.shapes)
        self.memory = mmap.mmap(handle, layout.size)
        spec, count = layout.spec, layout.count
        shape = (count, spec.height, spec.width, 3)
        self.pixels: Pixels = np.frombuffer(self.memory, np.uint8, math.prod(shape), count * HEAD).reshape(shape)
        rows = np.frombuffer(self.memory, np.float32, count * layout.stride // 4, layout.answers)
        self.rows: NDArray[np.float32] = rows.reshape(count, -1)

    @classmethod
    def make(cls, count: int, manifest: Manifest) -> tuple["Slots", int]:
        """New ones, and the descriptor of their memory, which is the caller's to close."""
        layout = Layout.of(count, manifest)
        handle = os.memfd_create("hubel-slots")
        os.truncate(handle, layout.size)
        return cls(handle, layout), handle

    # the front's side

    def ask(
        self, slot: int, pixels: Pixels, wanted: int, queued: float, deadline: float, lane: int, target: int = LIKELIEST
    ) -> None:
        self.pixels[slot] = pixels
        ASKED.pack_into(self.memory, slot * HEAD, queued, deadline, wanted, lane, 0, target)
        self.memory[slot * HEAD + CANCELLED] = 0
        self.memory[slot * HEAD + COMPUTING] = 0

    def bits(self, outputs: Iterable[str]) -> int:
        return sum(1 << self.names.index(name) for name in outputs)

    def cancel(self, slot: int) -> None:
        """Nobody waits for it any more."""
        self.memory[slot * HEAD + CANCELLED] = 1

    def strike(self, slot: int) -> int:
        """The engine is gone: how many have been while they computed this image."""
        head = slot * HEAD
        queued, deadline, wanted, lane, strikes, target = ASKED.unpack_from(self.memory, head)
        if self.memory[head + COMPUTING]:
            self.memory[head + COMPUTING] = 0
            strikes += 1
            ASKED.pack_into(self.memory, head, queued, deadline, wanted, lane, strikes, target)
        return strikes

    def answer(self, slot: int) -> tuple[float, float, int, int, int]:
        """began, ended, together, passed and status, as ``finish`` was told."""
        return ANSWERED.unpack_from(self.memory, slot * HEAD + ANSWER)

    def row(self, slot: int, outputs: Iterable[str]) -> Arrays:
        """Copies of the outputs of an image, in their shapes."""
        row, found = self.rows[slot], Arrays()
        for name in outputs:
            begin, end = self.layout.starts[name]
            found[name] = row[begin:end].reshape(self.layout.shapes[name]).copy()
        return found

    def text(self, slot: int) -> str:
        """What was said of a failure."""
        begin = self.layout.answers + slot * self.layout.stride
        return self.memory[begin : begin + TEXT].partition(b"\0")[0].decode(errors="replace")

    def give_back(self, first: int) -> None:
        """Return to the system the memory of the pixels of the slots from the ``first`` on, none of which is in use."""
        layout = self.layout
        pixels = layout.spec.height * layout.spec.width * 3
        begin = align(layout.count * HEAD + first * pixels, mmap.PAGESIZE)
        if (end := layout.answers // mmap.PAGESIZE * mmap.PAGESIZE) > begin:
            self.memory.madvise(mmap.MADV_REMOVE, begin, end - begin)

    # the engine's side

    def asked(self, slot: int) -> tuple[float, float, int, int, int, int]:
        """queued, deadline, outputs as bits, lane, strikes, class of a map."""
        return ASKED.unpack_from(self.memory, slot * HEAD)

    def cancelled(self, slot: int) -> bool:
        return bool(self.memory[slot * HEAD + CANCELLED])

    def begin(self, slot: int) -> None:
        """Its pass begins: if the engine dies now, this image may be why."""
        self.memory[slot * HEAD + COMPUTING] = 1

    def put(self, slot: int, name: str, row: NDArray[np.float32]) -> None:
        begin, end = self.layout.starts[name]
        self.rows[slot, begin:end] = row.ravel()

    def say(self, slot: int, text: str) -> None:
        begin, data = self.layout.answers + slot * self.layout.stride, text.encode(errors="replace")[: TEXT - 1] + b"\0"
        self.memory[begin : begin + len(data)] = data

    def finish(self, slot: int, status: int, began: float = 0.0, ended: float = 0.0, together: int = 0, passed: int = 0) -> None:
        ANSWERED.pack_into(self.memory, slot * HEAD + ANSWER, began, ended, together, passed, status)
        self.memory[slot * HEAD + COMPUTING] = 0
