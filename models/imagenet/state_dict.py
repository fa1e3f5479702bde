"""What torch.save wrote of a network's weights, before torch 1.6 -> arrays, without torch.

Such a file is a row of pickles, then the numbers of each tensor as they lie in memory. A pickle is a program, and running one
may call anything. This one is not run: its steps are read, and what they would call is noted by name.
"""

import io
import pickletools
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

MAGIC = 0x1950A86A20F9469CFC6C  # that torch.save began a file with
KINDS = {"torch FloatStorage": np.dtype("<f4"), "torch LongStorage": np.dtype("<i8")}
TENSOR, DICTIONARY = "torch._utils _rebuild_tensor_v2", "collections OrderedDict"
MARK = object()  # on the stack, where a group of values begins
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
PUSHED = {"LONG1", "BININT", "BININT1", "BININT2", "BINUNICODE", "SHORT_BINUNICODE", "GLOBAL"}  # the argument itself
TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
Arrays = dict[str, NDArray[Any]]


class _Storage(NamedTuple):
    kind: str
    key: str


class _Tensor(NamedTuple):
    """Where the numbers of a tensor are: in which storage, from which one on, and how many lie between neighbours of an axis."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def of(self, numbers: NDArray[Any]) -> NDArray[Any]:
        """Raises ValueError where the storage holds fewer."""
        steps = zip(self.shape, self.strides, strict=True)
        if min(self.shape, default=1) < 1 or min(self.offset, *self.strides, 0) < 0:
            raise ValueError(f"a tensor has the shape {self.shape} and strides {self.strides}")
        if self.offset + sum((length - 1) * step for length, step in steps) >= len(numbers):
            raise ValueError(f"a tensor of the shape {self.shape} has numbers outside of what is stored")
        strides = tuple(step * numbers.itemsize for step in self.strides)
        return np.lib.stride_tricks.as_strided(numbers[self.offset :], self.shape, strides, writeable=False).copy()


class _Reader:
    """The value that a pickle describes, of constants, tuples, lists, dictionaries and tensors; nothing else is known."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, str] = {}  # kind by key

    def read(self, file: BinaryIO) -> Any:
        for step, argument, _ in pickletools.genops(file):
            self._take(step.name, argument)
        return self.stack.pop()

    def _take(self, step: str, argument: Any) -> None:
        stack = self.stack
        if step in PUSHED:
            stack.append(argument)
        elif step in CONSTANTS:
            stack.append(CONSTANTS[step])
        elif step in TUPLES:
            stack.append(tuple(self._last(TUPLES[step])))
        elif step in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = stack[-1]
        elif step in ("BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif step == "MARK":
            stack.append(MARK)
        elif step == "TUPLE":
            stack.append(tuple(self._group()))
        elif step in ("EMPTY_LIST", "EMPTY_DICT"):
            stack.append([] if step == "EMPTY_LIST" else {})
        elif step in ("APPENDS", "SETITEMS"):
            self._extend(self._group())
        elif step in ("APPEND", "SETITEM"):
            self._extend(self._last(1 if step == "APPEND" else 2))
        elif step == "BINPERSID":
            stack.append(self._storage(*stack.pop()))
        elif step == "REDUCE":
            stack.append(self._called(*self._last(2)))
        elif step == "BUILD":
            stack.pop()  # attributes of a dictionary: torch's own notes
        elif step not in ("PROTO", "STOP"):
            raise ValueError(f"it holds more than tensors: {step}")

    def _last(self, count: int) -> list[Any]:
        found = [self.stack.pop() for _ in range(count)]
        return found[::-1]

    def _group(self) -> list[Any]:
        found: list[Any] = []
        while (value := self.stack.pop()) is not MARK:
            found.append(value)
        return found[::-1]

    def _extend(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, list):
            target.extend(values)
        else:
            target.update(zip(values[::2], values[1::2], strict=True))

    def _storage(self, _: str, kind: str, key: str, *more: object) -> _Storage:
        self.storages[key] = kind
        return _Storage(kind, key)

    def _called(self, name: str, arguments: tuple[Any, ...]) -> Any:
        if name == TENSOR:
            return _Tensor(*arguments[:4])
        if name == DICTIONARY and not arguments:
            return {}
        raise ValueError(f"it calls {name}")


def read(data: bytes) -> Arrays:
    """Weights and statistics by their names.

    Raises:
        ValueError: the bytes are no such file, or hold more than tensors.
    """
    file = io.BytesIO(data)
    try:
        if _Reader().read(file) != MAGIC:
            raise ValueError("it does not begin as torch.save began a file")
        _Reader().read(file)  # the version of the form
        _Reader().read(file)  # of which machine it is
        reader = _Reader()
        tensors: dict[str, _Tensor] = reader.read(file)
        order: list[str] = _Reader().read(file)
        numbers = {key: _numbers(file, KINDS[reader.storages[key]]) for key in order}
        return {name: tensor.of(numbers[tensor.storage.key]) for name, tensor in tensors.items()}
    except (LookupError, TypeError, AttributeError) as err:
        raise ValueError(f"it holds no tensors by their names: {err}") from err


def _numbers(file: BinaryIO, kind: np.dtype[Any]) -> NDArray[Any]:
    count = int.from_bytes(file.read(8), "little")
    return np.frombuffer(file.read(count * kind.itemsize), kind, count)
