"""Stage infer: a package -> a warmed ONNX Runtime session; (n, height, width, 3) uint8 -> named arrays.

Nothing is served that is not what its manifest promises: files, preprocessing, graph and golden answers are checked before the
first request.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from models.image.fingerprint import fingerprint
from models.image.preprocess import Pixels
from models.package import npz
from models.package import precision as precisions
from models.package.manifest import GOLDEN, Manifest, PackageError
from models.package.precision import CPU, CUDA, GOLDEN_TOLERANCE, GRAPHS, OPENVINO, PRECISIONS, Precision
from models.registry import registry
from models.terminal import program
from service.errors import DeviceLost, OutOfMemory
from service.inference import signal_stack

Arrays = dict[str, NDArray[np.float32]]

PROVIDERS = {"auto": (CUDA, OPENVINO, CPU), "cuda": (CUDA,), "cpu": (OPENVINO, CPU)}  # best first
GOLDEN_BYTES = 2**28  # unpacked; 4 images of 4096x4096 pixels have 192 MiB
NO_MEMORY = ("out of memory", "Failed to allocate memory", "bad_alloc")  # in errors of ONNX Runtime
EVERY_SIZE = 16  # batches up to this size are computed as they are, larger ones are filled up to the next warm size
log = logging.getLogger("hubel")


class DeviceError(Exception):
    """The device or precision asked for cannot be had; ``str()`` says what there is."""


@dataclass(frozen=True)
class Backend:
    """One way to compute a package."""

    provider: str
    precision: Precision

    def __str__(self) -> str:
        return f"{self.provider} in {self.precision}"


class OnnxSession:
    """A package in memory, checked and warm. ``run`` is safe to call from one thread at a time.

    provider, precision: what computes. skipped_backends: faster ways that this package and machine should have but that
    failed, the log says why; empty where all is well. With a public ``key`` the package must be signed with the private one.

    Raises:
        PackageError: the package is not what its manifest says or not signed, or was made with other preprocessing.
        DeviceError: the device or the precision asked for cannot be had.
    """

    def __init__(self, folder: Path, device: str, precision: str, threads: int, key: Path | None = None) -> None:
        self.manifest = registry.verify(folder, key)
        _check_preprocessing(self.manifest)
        self.provider: str
        self.precision: Precision
        self.sizes: tuple[int, ...] = ()
        self.skipped_backends: list[str] = []
        ways = choose(self.manifest, device, precision)
        for way in ways:
            try:
                self._open(folder, way, threads)
                return
            except (PackageError, DeviceError) as err:
                if way == ways[-1]:
                    raise
                self.skipped_backends.append(str(way))
                log.warning("skipped %s: %s", way, err)

    def _open(self, folder: Path, way: Backend, threads: int) -> None:
        self.provider, self.precision = way.provider, way.precision
        name = GRAPHS[way.precision]
        session = _session(folder / name, registry.load(folder, self.manifest, name), way, threads)
        _check_graph(session, self.manifest)
        self.session: onnxruntime.InferenceSession | None = session
        self._replay(folder / GOLDEN, registry.load(folder, self.manifest, GOLDEN))

    def run(self, images: Pixels, outputs: Sequence[str]) -> Arrays:
        """Compute the outputs named: images (n, height, width, 3) uint8 -> arrays of n rows, float32.

        Raises:
            OutOfMemory: the GPU has no room for this batch; smaller ones may fit.
            DeviceLost: the GPU cannot be used any more by this process.
        """
        n = len(images)
        size = next((size for size in self.sizes if size >= n), n)
        if size > n:
            images = np.concatenate([images, np.zeros((size - n, *images.shape[1:]), np.uint8)])
        if (session := self.session) is None:
            raise RuntimeError(f"{self.manifest.id} is not in memory any more")
        try:
            values = session.run(list(outputs), {"images": images})
        except Exception as err:  # ONNX Runtime's own classes share no base
            raise _explain(err, self.provider) from err
        return {name: np.asarray(value)[:n] for name, value in zip(outputs, values, strict=True)}

    def close(self) -> None:
        """Free its memory; a pass that runs in another thread is finished first."""
        self.session = None

    def warm(self, max_batch: int, rest: float = 0.0) -> None:
        """Run a batch of every size that will occur, so that no request pays for the first of its size.

        rest: seconds of pause for each second of work, where another version serves meanwhile.
        """
        spec = self.manifest.input
        self.sizes = sizes(max_batch)
        for size in self.sizes:
            began = time.perf_counter()
            self.run(np.zeros((size, spec.height, spec.width, 3), np.uint8), ("features", *self.manifest.answer_outputs))
            time.sleep(rest * (time.perf_counter() - began))

    def _replay(self, path: Path, data: bytes) -> None:
        """Compare with the answers that the package was published with; ``path`` is for the message."""
        try:
            golden = npz.unpack(data, ("images", "logits"), GOLDEN_BYTES)
            images, expected = golden["images"], golden["logits"]
            logits = self.run(images, ["logits"])["logits"]
            limit = GOLDEN_TOLERANCE[self.precision] * max(1.0, float(np.abs(expected).max()))
            difference = float(np.abs(logits - expected).max()) if logits.shape == expected.shape else float("inf")
        except (OutOfMemory, DeviceLost) as err:
            what = "which has no memory left" if isinstance(err, OutOfMemory) else "which failed"
            raise DeviceError(f"{self.manifest.id} cannot answer its golden inputs on {self.provider}, {what}") from err
        except Exception as err:  # NumPy's, zipfile's and ONNX Runtime's own classes share no base
            raise PackageError(f"{path} does not hold images for this graph and their logits; publish the package again") from err
        if not np.isfinite(logits).all():
            raise PackageError(
                f"{self.manifest.id} gives values that are no numbers (NaN or infinite) for its golden inputs on "
                f"{self.provider}; it is not served"
            )
        if not difference <= limit:  # NaN too
            raise PackageError(
                f"{self.manifest.id} answers its golden inputs differently on {self.provider}: a logit is off by "
                f"{difference:.3g}, the limit is {limit:.3g}; it is not served"
            )


def sizes(max_batch: int) -> tuple[int, ...]:
    """Sizes of the batches that are computed: each up to EVERY_SIZE, then in steps of half a power of two."""
    found = {*range(1, min(max_batch, EVERY_SIZE) + 1), max_batch}
    step = EVERY_SIZE
    while step < max_batch:
        found |= {size for size in (step * 3 // 2, step * 2) if size < max_batch}
        step *= 2
    return tuple(sorted(found))


def choose(manifest: Manifest, device: str, precision: str) -> list[Backend]:
    """Ways to compute the package on the device asked for, fastest first, as far as this ONNX Runtime has them.

    Raises:
        DeviceError: there is none; it says why and what there is.
    """
    installed = [p for p in PROVIDERS[device] if p in onnxruntime.get_available_providers()]
    if not installed:
        raise DeviceError(_no_gpu(f"has no {CUDA}"))
    wanted = PRECISIONS if precision == "auto" else (precision,)
    refusals = {p: precisions.refusal(manifest, p) for p in PRECISIONS}
    possible = [Backend(provider, p) for provider in installed for p in precisions.computable(provider)]
    ways = [way for way in possible if way.precision in wanted and refusals[way.precision] is None]
    if not ways:
        offered = sorted({way.precision for way in possible if refusals[way.precision] is None})
        reason = refusals[wanted[0]] or f"nothing here computes in it ({', '.join(installed)})"
        raise DeviceError(f"HUBEL_PRECISION is {precision} but {reason}; set it to auto or {' or '.join(offered)}")
    return ways


def _no_gpu(reason: str) -> str:
    serve = program.make("serve", "SERVE_EXTRA=serve-gpu")
    return (
        f"HUBEL_DEVICE is cuda but ONNX Runtime {onnxruntime.__version__} {reason}; serve with '{serve}', in containers "
        f"'{program.make('up', 'SERVICE=hubel-gpu')}', on a machine with an NVIDIA driver, or set HUBEL_DEVICE to auto or cpu"
    )


def _explain(error: Exception, provider: str) -> Exception:
    """What ONNX Runtime's error means for the service; errors that mean nothing special stay as they are."""
    text = str(error)
    if isinstance(error, MemoryError) or any(sign in text for sign in NO_MEMORY):
        where = "the GPU has" if provider == CUDA else "there is"
        return OutOfMemory(f"{where} no memory left for this batch; try again, or lower HUBEL_MAX_BATCH")
    if "CUDA failure" in text or "CUDA error" in text or "CUDNN failure" in text:
        return DeviceLost("the GPU failed; this process ends so that another can take its place")
    return error


def _check_preprocessing(manifest: Manifest) -> None:
    if (ours := fingerprint(manifest.input)) != manifest.preprocessing:
        raise PackageError(
            f"{manifest.id} was measured with other preprocessing ({manifest.preprocessing[:12]}…) than this version does "
            f"({ours[:12]}…); evaluate, export and publish it again with this version"
        )


def _session(path: Path, data: bytes, way: Backend, threads: int) -> onnxruntime.InferenceSession:
    """A session on the provider named, and no other: ONNX Runtime falls back to the CPU silently.

    It gets the bytes that were checked, not the path, which is for the message: another file could be there by now.
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
    chosen = (way.provider, precisions.provider_options(way.provider, way.precision, threads))
    try:
        with signal_stack.kept():  # whichever thread frees the session, none is left with a stack that went with it
            session = onnxruntime.InferenceSession(data, options, providers=[chosen])
    except Exception as err:  # ONNX Runtime's own classes share no base
        raise PackageError(f"{path} cannot be opened by ONNX Runtime: {str(err).splitlines()[0]}") from err
    if (used := session.get_providers()[0]) != way.provider:
        raise DeviceError(_no_gpu(f"would run on {used}") if way.provider == CUDA else f"ONNX Runtime would run on {used}")
    session.disable_fallback()  # to another provider, should a batch fail; it would open the graph again
    session._model_bytes = None  # pyright: ignore[reportPrivateUsage]  # kept for that alone, as large as the graph
    return session


def _check_graph(session: onnxruntime.InferenceSession, manifest: Manifest) -> None:
    """The graph takes and gives what the manifest says; raises PackageError."""
    spec = manifest.input
    inputs = {i.name: (i.type, i.shape[1:]) for i in session.get_inputs()}
    if inputs != {"images": ("tensor(uint8)", [spec.height, spec.width, 3])}:
        raise PackageError(f"the graph of {manifest.id} takes {inputs}, not images uint8 (batch, {spec.height}, {spec.width}, 3)")
    if isinstance(session.get_inputs()[0].shape[0], int):
        raise PackageError(f"the graph of {manifest.id} has a fixed batch size; export it with a free one")
    outputs = {o.name: (o.type, o.shape[1:]) for o in session.get_outputs()}
    if outputs != (promised := {name: ("tensor(float)", shape) for name, shape in manifest.outputs.items()}):
        raise PackageError(f"the graph of {manifest.id} gives {outputs}, its manifest promises {promised}")
