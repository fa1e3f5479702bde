"""A graph's bytes -> a session of ONNX Runtime on the provider that was chosen, and on no other."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import onnxruntime

from models.image.preprocess import Pixels
from models.package import precision as precisions
from models.package.manifest import PackageError
from models.package.precision import CUDA, OPENVINO, Backend
from service.inference import signal_stack
from service.inference.backends.choice import DeviceError, no_gpu


class Session(Protocol):
    """What computes a batch: names of outputs and {"images": (n, height, width, 3) uint8} -> arrays with n rows each."""

    def run(self, output_names: Sequence[str], input_feed: dict[str, Pixels], /) -> Sequence[Any]: ...


def open_session(path: Path, data: bytes, way: Backend, threads: int, more: dict[str, str] | None = None) -> Any:
    """An onnxruntime.InferenceSession on the provider named, and no other: ONNX Runtime falls back to the CPU silently.

    It gets the bytes that were checked, not the path, which is for the message: another file could be there by now.
    more: further options of the provider.

    Raises:
        PackageError, DeviceError: ONNX Runtime does not open the graph, or only elsewhere.
    """
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.load_model_format", "ONNX")  # its own format was not checked
    options.add_session_config_entry(*precisions.EXACT_INT8)
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # decoding needs the cores between batches
    options.log_severity_level = 4  # what is wrong is said below
    if way.provider == OPENVINO:  # it optimises the graph itself, and knows a quantized one as it was written
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if way.provider == CUDA:
        onnxruntime.preload_dlls()
    chosen = (way.provider, way.options(threads) | (more or {}))
    try:
        with signal_stack.kept():  # whichever thread frees the session, none is left with a stack that went with it
            session = onnxruntime.InferenceSession(data, options, providers=[chosen])
    except Exception as err:  # ONNX Runtime's own classes share no base
        raise PackageError(f"{path} cannot be opened by ONNX Runtime: {first_line(err)}") from err
    if (used := session.get_providers()[0]) != way.provider:
        raise DeviceError(no_gpu(f"would run on {used}") if way.provider == CUDA else f"ONNX Runtime would run on {used}")
    session.disable_fallback()  # to another provider, should a batch fail; it would open the graph again
    session._model_bytes = None  # pyright: ignore[reportPrivateUsage]  # kept for that alone, as large as the graph
    return session


def first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
