"""ONNX Runtime on a GPU, as the service sees it, for machines without one: its rules and its times, computed by the CPU.

A batch takes ``seconds``, and ``planning`` more where the session's batch before had another size, as the CUDA provider plans
convolutions anew. A CUDA graph is recorded for each thread and number by a run with bindings, which are the same in every later
run; what starts a recorded graph plans nothing. On a GPU this was measured (planning: 20 to 340 ms) or is documented; here it is
enforced, and what breaks a rule raises Misuse.
"""

import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import numpy as np
import onnxruntime
from numpy.typing import NDArray

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
REGULAR = 2  # runs of ONNX Runtime's own before it records


class Misuse(AssertionError):
    """What a GPU would answer with an error, or worse, with wrong numbers."""


@dataclass
class Gpu:
    """seconds, planning: see above. records: CUDA graphs can be recorded for batches of up to so many images. exact: what is
    asked for is computed; without, zeros are given, in no time but ``seconds``. plans, starts: sizes that were planned, and of
    graphs that were started. options: the provider's, of each session that was opened.
    """

    seconds: float = 0.0
    planning: float = 0.0
    records: int = 1024
    exact: bool = True
    plans: list[int] = field(default_factory=list[int])
    starts: list[int] = field(default_factory=list[int])
    options: list[dict[str, str]] = field(default_factory=list[dict[str, str]])


class Buffer:
    """An OrtValue: the GPU's memory at a fixed place."""

    def __init__(self, shape: Sequence[int], kind: Any) -> None:
        self.memory = np.full(shape, 77, kind)

    @classmethod
    def ortvalue_from_shape_and_type(cls, shape: Sequence[int], kind: Any, device: str = "cpu", number: int = 0) -> "Buffer":
        if (device, number) != ("cuda", 0):
            raise Misuse(f"a CUDA graph reads and writes the GPU's memory, not that of {device} {number}")
        return cls(shape, kind)

    def update_inplace(self, array: NDArray[Any]) -> None:
        if (array.shape, array.dtype, array.flags.c_contiguous) != (self.memory.shape, self.memory.dtype, True):
            raise Misuse(f"{array.shape} {array.dtype} does not fit into {self.memory.shape} {self.memory.dtype}")
        self.memory[...] = array

    def numpy(self) -> NDArray[Any]:
        return self.memory.copy()


class Binding:
    """An IOBinding."""

    def __init__(self) -> None:
        self.inputs: dict[str, Buffer] = {}
        self.outputs: dict[str, Buffer] = {}

    def bind_ortvalue_input(self, name: str, value: Buffer) -> None:
        self.inputs[name] = value

    def bind_ortvalue_output(self, name: str, value: Buffer) -> None:
        self.outputs[name] = value

    def places(self) -> dict[str, int]:
        return {name: id(value.memory) for name, value in (self.inputs | self.outputs).items()}


class RunOptions:
    """Those of one run."""

    def __init__(self) -> None:
        self.graph = 0

    def add_run_config_entry(self, key: str, value: str) -> None:
        if key != "gpu_graph_id":
            raise Misuse(f"there is no {key}")
        self.graph = int(value)


class Session:
    """An InferenceSession."""

    def __init__(
        self, gpu: Gpu, open_real: Any, data: bytes, options: Any, providers: Sequence[tuple[str, dict[str, str]]]
    ) -> None:
        ((_, chosen),) = providers
        self.real = open_real(data, options, providers=[CPU])
        self.gpu = gpu
        self.recording = chosen.get("enable_cuda_graph") == "1"
        self.last = 0
        self.recorded: dict[tuple[int, int], dict[str, int]] = {}
        gpu.options.append(chosen)

    def get_providers(self) -> list[str]:
        return [CUDA]

    def get_inputs(self) -> Any:
        return self.real.get_inputs()

    def get_outputs(self) -> Any:
        return self.real.get_outputs()

    def disable_fallback(self) -> None:
        self.real.disable_fallback()

    def io_binding(self) -> Binding:
        return Binding()

    def run(self, names: Sequence[str], feeds: dict[str, NDArray[np.uint8]], options: RunOptions | None = None) -> list[Any]:
        if self.recording and (options is None or options.graph != -1):
            raise Misuse("a graph is recorded and started with bindings alone")
        return self._compute(names, feeds["images"])

    def run_with_iobinding(self, binding: Binding, options: RunOptions | None = None) -> None:
        graph = options.graph if options else 0
        if not self.recording or graph == -1:
            self._fill(binding)
            return
        thread, size = threading.get_ident(), len(binding.inputs["images"].memory)
        if (thread, graph) not in self.recorded:
            if size > self.gpu.records:
                raise RuntimeError(f"Graph capture did not complete for a batch of {size}")
            for _ in range(REGULAR):
                self._fill(binding)
            self.recorded[thread, graph] = binding.places()
        elif self.recorded[thread, graph] != binding.places():
            raise Misuse("a graph that was recorded reads and writes where it did then")
        self.gpu.starts.append(size)
        self._fill(binding, started=True)

    def _fill(self, binding: Binding, started: bool = False) -> None:
        values = self._compute(list(binding.outputs), binding.inputs["images"].memory, started)
        for value, array in zip(binding.outputs.values(), values, strict=True):
            value.memory[...] = array

    def _compute(self, names: Sequence[str], images: NDArray[np.uint8], started: bool = False) -> list[Any]:
        size = len(images)
        if size != self.last and not started:
            self.gpu.plans.append(size)
            time.sleep(self.gpu.planning)
            self.last = size
        time.sleep(self.gpu.seconds)
        if self.gpu.exact:
            return list(self.real.run(list(names), {"images": images}))
        shapes = {output.name: output.shape[1:] for output in self.real.get_outputs()}
        return [np.zeros((size, *shapes[name]), np.float32) for name in names]


@contextmanager
def installed(gpu: Gpu) -> Generator[Gpu]:
    """Meanwhile ONNX Runtime has this GPU."""
    real, providers = onnxruntime.InferenceSession, onnxruntime.get_available_providers()

    def open_session(data: Any, options: Any, providers: Any) -> Any:
        return Session(gpu, real, data, options, providers) if providers[0][0] == CUDA else real(data, options, providers)

    instead = {
        "InferenceSession": open_session,
        "OrtValue": Buffer,
        "RunOptions": RunOptions,
        "get_available_providers": lambda: [CUDA, *providers],
        "preload_dlls": lambda: None,
    }
    with mock.patch.multiple(onnxruntime, create=True, **instead):
        yield gpu
